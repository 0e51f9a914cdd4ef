"""What a pair of scenes is: windows of both as read, and all that is estimated of them once.

A fusion takes a coarse hyperspectral scene (HSI, B bands) and a sharp multispectral one (MSI, C bands) whose
pixels are ``ratio`` times smaller. Coarse pixel i covers the fine pixels ``ratio·i`` to ``ratio·i + ratio −
1``; its point spread function (PSF) is centred between them, at ``ratio·i + (ratio − 1) / 2``, but for
published protocols that sample at another place (``psf_phase``). Outside a scene both are mirrored with the
edge pixel repeated (as ``numpy.pad`` does with ``symmetric``): then a mirrored coarse pixel covers the
mirrored fine pixels, which it would not if the edge pixel were left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spectile.catalog.bands import Bands
from spectile.catalog.errors import CheckpointError, UsageError
from spectile.model import checkpoint
from spectile.model.data.degrade import Sampling

Floats = NDArray[np.float64]

KIND = "fusion-pair"
"""What the header of a pair's file says that it is."""


@dataclass(frozen=True, eq=False)
class PairWindow:
    """One window of a pair, as read: the MSI lies on the HSI's grid divided by the ratio."""

    hsi: NDArray[np.float32]
    """(B, h, w) reflectance on the coarse grid."""
    hsi_valid: NDArray[np.bool_]
    """(h, w)."""
    msi: NDArray[np.float32]
    """(C, h·ratio, w·ratio) reflectance on the fine grid."""
    msi_valid: NDArray[np.bool_]
    """(h·ratio, w·ratio)."""
    origin: tuple[int, int] = (0, 0)
    """(row, col) of the first pixel on the coarse grid."""

    def ratio(self) -> int:
        """Fine pixels along a coarse one.

        Raises
        ------
        UsageError : the two do not fit together, or a mask does not fit its scene.
        """
        (rows, cols), fine = self.hsi.shape[1:], self.msi.shape[1:]
        ratio = int(fine[0]) // max(int(rows), 1)
        if ratio < 1 or fine != (rows * ratio, cols * ratio):
            raise UsageError(
                "the MSI's window is no whole multiple of the HSI's", got=f"{fine} on {(rows, cols)} px"
            )
        if self.hsi_valid.shape != (rows, cols) or self.msi_valid.shape != fine:
            raise UsageError(
                "a mask has another size than its scene",
                got=f"{self.hsi_valid.shape}, {self.msi_valid.shape}",
            )
        return ratio

    def filled(self) -> PairWindow:
        """The same with the mean of the valid pixels where it is masked, whatever was there."""
        parts = []
        for values, valid in ((self.hsi, self.hsi_valid), (self.msi, self.msi_valid)):
            known = values[:, valid]
            mean = known.mean(axis=1) if known.size else np.zeros(len(values), dtype=np.float32)
            parts.append(np.where(valid, values, mean[:, None, None]).astype(np.float32))
        return replace(self, hsi=parts[0], msi=parts[1])


@dataclass(frozen=True, eq=False)
class PairModel:
    """All that was estimated of a pair. Small, and enough to fuse any part of it."""

    ratio: int
    """Fine pixels along a coarse one."""
    hsi_bands: Bands
    """The B bands of the HSI and of what is fused."""
    msi_bands: Bands
    """The C bands of the MSI."""
    response: Floats
    """(C, B) R: what the MSI's bands weigh the HSI's bands with."""
    gain: Floats
    """(C,) and …"""
    offset: Floats
    """(C,) reflectance: Z = gain · (R X) + offset, per band of the MSI."""
    psf_sigma: tuple[float, float]
    """Standard deviation of the Gaussian PSF along rows and columns, FINE pixels."""
    shift: tuple[float, float]
    """Where the MSI lay against the HSI before it was moved there: (row, col), FINE pixels, positive down
    and right."""
    shift_field: Floats
    """(n, 4): row, col, drow, dcol; the shift as measured about n places of the fine grid, fine pixels."""
    hsi_noise: Floats
    """(B,) standard deviation of the HSI's noise, reflectance."""
    msi_noise: Floats
    """(C,) that of the MSI's noise and of what R leaves unexplained, reflectance."""
    change: Floats
    """(C, C) covariance of Z averaged over coarse pixels − (gain · R Y + offset), where nothing changed."""
    change_slope: float
    """What it grows by on uneven ground; see ``radiometry.Difference``."""
    mean: Floats
    """(B,) mean spectrum, reflectance."""
    basis: Floats
    """(B, p) E: spectra are mean + E a with a of (p,). Eᵀ diag(1 / hsi_noise²) E = 1, so that the noise of
    the HSI is white and of unit variance in a."""
    weights: Floats
    """(M,) of the Gaussian mixture of a; sum to one."""
    means: Floats
    """(M, p) of its components."""
    covariances: Floats
    """(M, p, p) of its components."""
    unexplained: Floats
    """(p, p) covariance of a that the MSI leaves, averaged over the pair."""
    smoothness: Floats
    """(2,): the share of it that varies smoothly, and the range of that, coarse pixels."""
    method: str
    """What did best on the pair itself, both degraded once more (Wald): the default of this pair."""
    wald: Mapping[str, Mapping[str, float]]
    """Scores of the methods there, by method and score."""
    calibration: Floats
    """(3, B): what a predicted standard deviation is multiplied with, and between which multiples of the
    result (low, high) 90 % of the errors lie, by Wald on the pair."""
    psf_size: int | None = None
    """Taps of the PSF along an axis; None takes all that matter."""
    psf_phase: float | None = None
    """The PSF's centre, fine pixels from the first that a coarse pixel covers, where that is known not to be
    its middle."""

    @property
    def sampling(self) -> Sampling:
        """How the PSF is cut and placed."""
        return Sampling(size=self.psf_size, phase=self.psf_phase)

    @cached_property
    def digest(self) -> str:
        """sha256 over everything."""
        return checkpoint.digest_of(*reversed(self._parts()))

    def facts(self) -> dict[str, Any]:
        """What a plan or a report says of the pair, as plain JSON values; numbers rounded to five digits."""

        def short(values: Any) -> Any:
            return [float(f"{value:.5g}") for value in np.ravel(values)]

        return {
            "ratio": self.ratio,
            "hsi_bands": str(self.hsi_bands),
            "msi_bands": str(self.msi_bands),
            "psf_sigma_fine_px": short(self.psf_sigma),
            "shift_fine_px": short(self.shift),
            "gain": short(self.gain),
            "offset": short(self.offset),
            "hsi_noise": short(self.hsi_noise),
            "msi_noise": short(self.msi_noise),
            "subspace": self.basis.shape[1],
            "components": len(self.weights),
            "smooth_share": short(self.smoothness[:1])[0],
            "smooth_range_coarse_px": short(self.smoothness[1:])[0],
            "method": self.method,
            "wald": {
                name: {key: float(f"{value:.5g}") for key, value in scores.items()}
                for name, scores in self.wald.items()
            },
            "sd_factor": short(self.calibration[0]),
            "digest": self.digest,
        }

    def save(self, path: Path) -> str:
        """Write it as one safetensors file, whole or not at all; returns its digest."""
        tensors, facts = self._parts()
        checkpoint.write(path, tensors, {**facts, "digest": self.digest})
        return self.digest

    @classmethod
    def load(cls, path: Path) -> PairModel:
        """What ``save`` wrote.

        Raises
        ------
        CheckpointError : the file is missing, damaged, or holds no pair.
        """
        facts = checkpoint.read_json(path)
        tensors = checkpoint.read_tensors(path)
        if not isinstance(facts, dict) or facts.get("kind") != KIND:
            raise CheckpointError("not the file of a pair", where=str(path))
        try:
            values: dict[str, Any] = {name: tensor.double().numpy() for name, tensor in tensors.items()}
            for name in ("hsi_bands", "msi_bands"):
                values[name] = Bands.from_json(facts[name])
            for name in ("psf_sigma", "shift"):
                values[name] = tuple(map(float, facts[name]))
            values |= {"ratio": int(facts["ratio"]), "change_slope": float(facts["change_slope"])}
            values |= {"method": str(facts["method"]), "wald": facts["wald"]}
            values |= {name: facts[name] for name in ("psf_size", "psf_phase") if name in facts}
            pair = cls(**values)
        except (KeyError, TypeError, ValueError, UsageError) as err:
            raise CheckpointError("the file of the pair is damaged", where=str(path), got=repr(err)) from err
        if pair.digest != facts.get("digest"):
            raise CheckpointError(
                "the pair does not match its digest", where=str(path), remedy="estimate it again"
            )
        return pair

    def _parts(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Arrays as tensors, and the rest as JSON."""
        tensors: dict[str, torch.Tensor] = {}
        facts: dict[str, Any] = {"kind": KIND}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                tensors[field.name] = torch.from_numpy(np.ascontiguousarray(value, dtype=np.float64))
            elif isinstance(value, Bands):
                facts[field.name] = value.to_json()
            elif value is not None:  # what is not set is not in the digest
                facts[field.name] = list(value) if isinstance(value, tuple) else value
        return tensors, facts
