"""From the coefficients of a tile to its spectra, or to what a cube stores, a few at a time.

Spectra are as many numbers as a tile has pixels and bands; their coefficients are few. So spectra are made a
few pixels at a time, which stay in the processor's cache until they are counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from spectile.catalog.calibration import Calibration
from spectile.catalog.choices import Layer
from spectile.catalog.counts import Moments, Part, stored_parts, to_counts
from spectile.model.system import REFLECTANCE_LIMIT

if TYPE_CHECKING:
    from spectile.model.fusion.fuser import Fuser

PIXELS = 4096
"""Pixels that are made at once with all bands; of samples, which are reduced band by band, more with …"""
BANDS = 8
"""… so many bands; and of so many bands all, where the upsampled HSI is mixed in."""


class Expansion:
    """Samples of a tile: linear in few coefficients, and where the scenes differ in the upsampled HSI."""

    def __init__(
        self,
        fuser: Fuser,
        matrix: Tensor | None,
        terms: Tensor,
        *,
        error_matrix: Tensor | None = None,
        errors: Sequence[Tensor] = (),
        changed: Tensor | None = None,
        hsi: Tensor | None = None,
    ) -> None:
        """Take the samples of a tile of (H, W) pixels, all without its margin but ``hsi``.

        Parameters
        ----------
        matrix : (B, q); None where the terms are spectra.
        terms : (q, H, W), the same of all samples.
        error_matrix, errors : (B, p), and (p, H, W) of each sample; without them there is one.
        changed : (H, W) share of the upsampled HSI; None where it is nowhere. The terms have lost that share.
        hsi : (B, h, w) with its margin, if anything changed.
        """
        self._fuser, self._matrix, self._terms = fuser, matrix, terms
        self._error_matrix, self._errors = error_matrix, errors
        self._changed, self._hsi = changed, hsi
        self.bands = len(terms) if matrix is None else len(matrix)
        self._cut = torch.zeros(self.bands, dtype=torch.bool, device=terms.device)

    @property
    def is_finite(self) -> bool:
        """Whether every spectrum is finite."""
        parts = [self._terms, *self._errors, *(() if self._hsi is None else (self._hsi,))]
        return all(bool(torch.isfinite(part.sum(dtype=torch.float64))) for part in parts)

    def put(self, out: Tensor) -> None:
        """Put the spectra of the first sample into ``out`` (B, H, W), as a reflectance can be."""
        height, width = out.shape[1:]
        for bands, rows in self._pieces(slice(0, height), width):
            out[bands, rows] = next(self._samples(bands, rows))

    def count(
        self, layers: Sequence[Layer], calibration: Calibration | None, cut: tuple[slice, slice]
    ) -> dict[Part, Tensor]:
        """(B, h, w) uint16: the counts of the mean of the samples and of layers in a cut of the tile.

        Parameters
        ----------
        layers, calibration : as of ``stored_parts``.
        cut : rows and columns.
        """
        height, width = (part.stop - part.start for part in cut)
        parts: tuple[Part, ...] = ("mean", *layers)
        # numpy asks for large pages, which a third of the time went into without.
        made = {
            part: torch.from_numpy(np.empty((self.bands, height, width), np.uint16)).to(self._terms.device)
            for part in parts
        }
        for bands, rows in self._pieces(cut[0], width):
            at = slice(rows.start - cut[0].start, rows.stop - cut[0].start)
            moments = Moments[Tensor]()
            for spectra in self._samples(bands, rows, cut[1]):
                moments.add(spectra)
            if not layers:
                made["mean"][bands, at] = to_counts(moments.mean())
                continue
            own = _of(calibration, bands)
            for part, band, values in stored_parts(moments, layers, own, bands.stop - bands.start):
                made[part][bands.start + band, at] = values
        return made

    def seen(self) -> Tensor:
        """(B, h, w) what the coarse sensor sees of the mean of the samples, mirrored at the tile's border.

        Averaging and the product commute; not so where spectra are cut to the range of a reflectance. Bands
        in which that happened, as far as they have been made, are averaged themselves.
        """
        fuser = self._fuser
        if self._matrix is None or self._changed is not None:
            found = [self._averaged(slice(first, first + BANDS)) for first in range(0, self.bands, BANDS)]
            return torch.cat([fuser.coarsen(part) for part in found])
        seen: Tensor = torch.tensordot(self._matrix, fuser.coarsen(self._terms), 1)
        if self._error_matrix is not None:
            error = sum(self._errors[1:], self._errors[0]) / len(self._errors)
            seen += torch.tensordot(self._error_matrix, fuser.coarsen(error), 1)
        for band in self._cut.nonzero()[:, 0].tolist():
            bands = slice(band, band + 1)
            seen[bands] = fuser.coarsen(self._averaged(bands))
        return seen

    def _averaged(self, bands: slice) -> Tensor:
        """(b, H, W) the mean of the samples."""
        samples = list(self._samples(bands, slice(0, self._terms.shape[1])))
        return samples[0] if len(samples) == 1 else torch.stack(samples).mean(0)

    def _pieces(self, rows: slice, width: int) -> Iterator[tuple[slice, slice]]:
        """Bands and rows that are made at once; all on a device that has room for them."""
        high, deep = rows.stop - rows.start, self.bands
        if self._terms.device.type == "cpu":
            if self._errors or self._changed is not None:
                deep = BANDS
            if self._changed is None:
                high = max(PIXELS * self.bands // deep // width, 1)
        for band in range(0, self.bands, deep):
            for row in range(rows.start, rows.stop, high):
                yield slice(band, min(band + deep, self.bands)), slice(row, min(row + high, rows.stop))

    def _samples(self, bands: slice, rows: slice, cols: slice = slice(None)) -> Iterator[Tensor]:
        """(b, h, w) spectra of each sample, cut to the range that a reflectance can have."""
        terms = self._terms[:, rows, cols]
        shape = terms.shape[1:]
        if self._matrix is None:
            yield terms[bands].clamp(0.0, REFLECTANCE_LIMIT)
            return
        spectra = self._matrix[bands] @ terms.flatten(1)
        if self._changed is not None and self._hsi is not None:
            edge = self._fuser.margin * self._fuser.pair.ratio
            upsampled = self._fuser.upsample(self._hsi[bands])[:, edge:-edge, edge:-edge][:, rows, cols]
            spectra.addcmul_(self._changed[rows, cols].reshape(1, -1), upsampled.flatten(1))
        for error in self._errors or (None,):
            own = spectra
            if error is not None and self._error_matrix is not None:
                own = torch.addmm(spectra, self._error_matrix[bands], error[:, rows, cols].flatten(1))
            low, high = own.aminmax()  # of all at once, which is ten times as fast as band by band
            if low < 0.0 or high > REFLECTANCE_LIMIT:
                self._cut[bands] |= (own.amin(dim=1) < 0.0) | (own.amax(dim=1) > REFLECTANCE_LIMIT)
                own.clamp_(0.0, REFLECTANCE_LIMIT)
            yield own.reshape(-1, *shape)


def _of(calibration: Calibration | None, bands: slice) -> Calibration | None:
    """The calibration of some bands."""
    if calibration is None:
        return None
    spread, low, high = (part[bands] for part in (calibration.spread, calibration.low, calibration.high))
    return replace(calibration, spread=spread, low=low, high=high)
