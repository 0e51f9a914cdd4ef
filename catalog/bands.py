"""Spectral bands as centre wavelengths and widths, and the matrices that go from one set to another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from catalog.errors import UsageError

FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))


@dataclass(frozen=True)
class Bands:
    """Bands in ascending order of wavelength, or in the order of a camera's channels.

    Each is taken as a Gaussian response, which is how hyperspectral sensors publish theirs.
    """

    centre_nm: tuple[float, ...]
    """Centre wavelength of each band, nm."""
    fwhm_nm: tuple[float, ...]
    """Full width at half maximum of each band, nm."""

    def __post_init__(self) -> None:
        if len(self.centre_nm) != len(self.fwhm_nm) or not self.centre_nm:
            raise UsageError(
                "every band needs a centre and a width",
                got=f"{len(self.centre_nm)} centres and {len(self.fwhm_nm)} widths",
            )
        if not all(np.isfinite(self.centre_nm)) or not all(w > 0 for w in self.fwhm_nm):
            raise UsageError("band centres must be finite and widths positive")

    def __len__(self) -> int:
        return len(self.centre_nm)

    @classmethod
    def from_arrays(cls, centre_nm: ArrayLike, fwhm_nm: ArrayLike | None = None) -> Bands:
        """Bands from arrays of shape (B,), nm; missing widths are taken as the band spacing."""
        centre = np.asarray(centre_nm, dtype=np.float64).ravel()
        if fwhm_nm is None:
            if centre.size < 2:
                raise UsageError("one band alone needs its width")
            fwhm = np.abs(np.gradient(centre))
        else:
            fwhm = np.asarray(fwhm_nm, dtype=np.float64).ravel()
        return cls(tuple(map(float, centre)), tuple(map(float, fwhm)))

    @classmethod
    def evenly_spaced(cls, first_nm: float, last_nm: float, count: int) -> Bands:
        """``count`` bands from ``first_nm`` to ``last_nm``, each as wide as their spacing."""
        centre = np.linspace(first_nm, last_nm, count)
        return cls.from_arrays(centre, np.full(count, (last_nm - first_nm) / (count - 1)))

    def subset(self, index: ArrayLike) -> Bands:
        """The bands at the given positions."""
        keep = np.asarray(index, dtype=np.intp)
        return Bands(tuple(self.centre_nm[i] for i in keep), tuple(self.fwhm_nm[i] for i in keep))

    def nearest(self, wavelength_nm: float) -> int:
        """The position of the band whose centre lies nearest to ``wavelength_nm``."""
        return int(np.argmin(np.abs(np.asarray(self.centre_nm) - wavelength_nm)))

    def to_json(self) -> dict[str, list[float]]:
        """The bands as plain lists, for JSON."""
        return {"centre_nm": list(self.centre_nm), "fwhm_nm": list(self.fwhm_nm)}

    @classmethod
    def from_json(cls, value: dict[str, list[float]]) -> Bands:
        """The bands that ``to_json`` wrote."""
        return cls.from_arrays(value["centre_nm"], value["fwhm_nm"])


def resampling_matrix(source: Bands, target: Bands) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The matrix that turns spectra in ``source`` bands into ``target`` bands, and which rows hold.

    Rows are the target's Gaussian responses, integrated over the source's centres by the trapezoid
    rule and normalised to one. Where a target band is too narrow for the source's spacing it is
    widened to that spacing, which makes the row a smooth interpolation.

    Returns
    -------
    matrix : (T, S) float64, rows sum to one (zero where not supported)
    supported : (T,) bool, False where the source does not reach the target's centre or has a gap
        there wider than the target band and twice the source's spacing.
    """
    order = np.argsort(source.centre_nm)
    centre = np.asarray(source.centre_nm, dtype=np.float64)[order]
    spacing = np.gradient(centre) if centre.size > 1 else np.asarray(source.fwhm_nm, dtype=np.float64)
    typical = float(np.median(spacing))
    matrix = np.zeros((len(target), centre.size))
    supported = np.zeros(len(target), dtype=bool)
    for row, (mid, fwhm) in enumerate(zip(target.centre_nm, target.fwhm_nm, strict=True)):
        nearest = int(np.argmin(np.abs(centre - mid)))
        gap = abs(centre[nearest] - mid)
        reaches = centre[0] - typical <= mid <= centre[-1] + typical
        supported[row] = reaches and gap <= max(fwhm / 2.0, typical)
        sigma = max(fwhm, float(spacing[nearest])) / FWHM_PER_SIGMA
        weight = np.exp(-0.5 * ((centre - mid) / sigma) ** 2) * spacing
        if supported[row] and weight.sum() > 0:
            matrix[row, order] = weight / weight.sum()
    return matrix, supported


VNIR48 = Bands.evenly_spaced(380.0, 1050.0, 48)
"""The default product: 48 bands over the visible and near infrared, as of the Houston 2018 sensor."""

PAVIA_CENTRE = Bands.evenly_spaced(430.0, 860.0, 102)
"""ROSIS over Pavia Centre: 102 bands left of 115, 430 to 860 nm nominal (Chen et al. 2024, IV-A)."""

RGB_CAMERA = Bands((605.0, 540.0, 460.0), (80.0, 80.0, 70.0))
"""A colour camera in the order R, G, B: Gaussians near the sensitivities of consumer sensors."""

SENSORS: dict[str, Bands] = {
    "vnir48": VNIR48,
    "houston2018": VNIR48,
    "pavia_centre": PAVIA_CENTRE,
    "rgb_camera": RGB_CAMERA,
}
"""Band plans by name."""


def coarse_indices(count: int, coarse: int) -> tuple[int, ...]:
    """The positions of ``coarse`` bands out of ``count`` at equal intervals, starting at the first.

    SCDM takes every fourth of 48 and every sixth of 102.
    """
    if not 1 <= coarse <= count:
        raise UsageError("cannot take that many bands", got=coarse, expected=f"1 to {count}")
    step = count // coarse
    return tuple(range(0, step * coarse, step))
