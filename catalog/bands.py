"""Spectral bands as centre wavelengths and widths, and the matrices that go from one set to another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectile.catalog.errors import UsageError

FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
TOLERANCE_NM = 10.0
"""A band stands for wavelengths up to this far from its centre, or half its width if that is more, nm."""


@dataclass(frozen=True)
class Bands:
    """Bands in ascending order of wavelength, or in the order of a camera's channels.

    Each response is a Gaussian: hyperspectral sensors publish theirs in this form.
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
        """Bands from arrays of shape (B,), nm; missing widths are set to the band spacing."""
        centre = np.asarray(centre_nm, dtype=np.float64).ravel()
        if fwhm_nm is None:
            # Detectors overlap, so that wavelengths may be unsorted or repeated in the order of the file.
            distinct, at = np.unique(centre, return_inverse=True)
            if distinct.size < 2:
                raise UsageError("one band alone needs its width")
            fwhm = np.gradient(distinct)[at]
        else:
            fwhm = np.asarray(fwhm_nm, dtype=np.float64).ravel()
        return cls(tuple(map(float, centre)), tuple(map(float, fwhm)))

    @classmethod
    def evenly_spaced(cls, first_nm: float, last_nm: float, count: int) -> Bands:
        """``count`` bands from ``first_nm`` to ``last_nm``, each as wide as their spacing.

        Raises
        ------
        UsageError : fewer than two bands.
        """
        if count < 2:
            raise UsageError("fewer than two bands have no spacing", got=count, expected="2 or more")
        centre = np.linspace(first_nm, last_nm, count)
        return cls.from_arrays(centre, np.full(count, (last_nm - first_nm) / (count - 1)))

    def subset(self, index: ArrayLike) -> Bands:
        """The bands at the given positions."""
        keep = np.asarray(index, dtype=np.intp)
        return Bands(tuple(self.centre_nm[i] for i in keep), tuple(self.fwhm_nm[i] for i in keep))

    def nearest(self, wavelength_nm: float) -> int:
        """The position of the band whose centre lies nearest to ``wavelength_nm``."""
        return int(np.argmin(np.abs(np.asarray(self.centre_nm) - wavelength_nm)))

    def at(self, wavelength_nm: float, *, wanted_by: str = "") -> int:
        """The position of the nearest band, if it is near enough to stand for ``wavelength_nm``.

        Parameters
        ----------
        wanted_by : what uses the band, for the error message.

        Raises
        ------
        UsageError : its centre is more than ``TOLERANCE_NM`` and more than half its width away.
        """
        at = self.nearest(wavelength_nm)
        centre, width = self.centre_nm[at], self.fwhm_nm[at]
        if abs(centre - wavelength_nm) > max(TOLERANCE_NM, width / 2):
            raise UsageError(
                f"the cube has no band at {wavelength_nm:g} nm",
                where=wanted_by or None,
                got=f"{self}, the nearest at {centre:g} nm",
            )
        return at

    def choose(self, text: str) -> tuple[int, ...]:
        """The positions of the bands that a text names, in its order, each once.

        Parameters
        ----------
        text : parts separated by commas. 865 is the band nearest to that wavelength, nm, as in ``at``;
            450-680 are all bands with their centres in that range; B003 is the third band.

        Raises
        ------
        UsageError : a part has another form, or no band matches it.
        """
        chosen: list[int] = []
        for part in text.split(","):
            number = r"(\d+(?:\.\d+)?)"
            if match := re.fullmatch(rf"\s*{number}\s*-\s*{number}\s*", part):
                low, high = map(float, match.groups())
                positions = [at for at, nm in enumerate(self.centre_nm) if low <= nm <= high]
            elif match := re.fullmatch(rf"\s*{number}\s*", part):
                positions = [self.at(float(match[1]))]
            elif match := re.fullmatch(r"\s*B(\d+)\s*", part):
                positions = [at for at in (int(match[1]) - 1,) if 0 <= at < len(self)]
            else:
                raise UsageError(
                    "not a list of bands", got=repr(part), expected="e.g. 450-680,865 in nm, or B001,B012"
                )
            if not positions:
                raise UsageError("the cube has no such band", got=part.strip(), expected=str(self))
            chosen += positions
        return tuple(dict.fromkeys(chosen))

    def __str__(self) -> str:
        return f"{len(self)} bands from {min(self.centre_nm):g} to {max(self.centre_nm):g} nm"

    def to_json(self) -> dict[str, Any]:
        """The bands as plain lists, for JSON."""
        return {"centre_nm": list(self.centre_nm), "fwhm_nm": list(self.fwhm_nm)}

    def varied(self, shift_nm: ArrayLike, width_factor: ArrayLike) -> Bands:
        """The bands with every centre moved and every width multiplied, each by its own amount."""
        centre = np.asarray(self.centre_nm) + np.asarray(shift_nm)
        return Bands.from_arrays(centre, np.asarray(self.fwhm_nm) * np.asarray(width_factor))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Bands:
        """The bands that ``to_json`` wrote, of any class."""
        if "curves" in value:
            return MeasuredBands.from_curves(value["wavelength_nm"], value["curves"])
        kind = NearestBands if value.get("picked") else Bands
        return kind(tuple(value["centre_nm"]), tuple(value["fwhm_nm"]))


@dataclass(frozen=True)
class MeasuredBands(Bands):
    """Bands whose responses are measured curves; centres are the curves' centroids."""

    wavelength_nm: tuple[float, ...]
    """The W wavelengths at which the curves are given, ascending, nm."""
    curves: tuple[tuple[float, ...], ...]
    """The response of each band there, in any unit, not negative; linear in between and zero outside."""

    @classmethod
    def from_curves(cls, wavelength_nm: ArrayLike, curves: ArrayLike) -> MeasuredBands:
        """Bands from wavelengths (W,), nm, and their curves (B, W); tails below 0.1 % are cut.

        Raises
        ------
        UsageError
            Where the wavelengths do not ascend, or a curve is not finite, negative or zero throughout.
        """
        nm, values = np.asarray(wavelength_nm, dtype=np.float64), np.asarray(curves, dtype=np.float64)
        if nm.ndim != 1 or values.shape[1:] != nm.shape or nm.size < 2 or not (np.diff(nm) > 0).all():
            raise UsageError(
                "response curves need ascending wavelengths", got=f"{nm.shape} and {values.shape}"
            )
        if not np.isfinite(values).all() or (values < 0).any() or not (values > 0).any(axis=1).all():
            raise UsageError("response curves must be finite, not negative and not all zero")
        strong = np.flatnonzero((values > 1e-3 * values.max(axis=1, keepdims=True)).any(axis=0))
        kept = slice(max(strong[0] - 1, 0), strong[-1] + 2)
        nm, values = nm[kept], values[:, kept]
        area = values * _trapezoid(nm)
        centre = (area @ nm) / area.sum(axis=1)
        width = area.sum(axis=1) / values.max(axis=1)
        return cls(
            tuple(centre.tolist()),
            tuple(width.tolist()),
            tuple(nm.tolist()),
            tuple(tuple(row) for row in values.tolist()),
        )

    def subset(self, index: ArrayLike) -> Bands:
        """The bands at the given positions."""
        return MeasuredBands.from_curves(self.wavelength_nm, np.asarray(self.curves)[np.asarray(index)])

    def to_json(self) -> dict[str, Any]:
        """The bands and their curves as plain lists, for JSON."""
        curves = {"wavelength_nm": list(self.wavelength_nm), "curves": [list(row) for row in self.curves]}
        return {**super().to_json(), **curves}

    def varied(self, shift_nm: ArrayLike, width_factor: ArrayLike) -> Bands:
        """The bands with every curve moved, and stretched about its centroid, each by its own amount."""
        shifts, factors = (np.broadcast_to(x, len(self)) for x in (shift_nm, width_factor))
        nm = np.asarray(self.wavelength_nm)
        beyond = np.abs(shifts).max() + max(factors.max() - 1.0, 0.0) * (nm[-1] - nm[0])
        wide = np.arange(nm[0] - beyond, nm[-1] + beyond + 1.0)
        curves = [
            np.interp(centre + (wide - centre - shift) / factor, nm, curve, left=0.0, right=0.0)
            for centre, shift, factor, curve in zip(self.centre_nm, shifts, factors, self.curves, strict=True)
        ]
        return MeasuredBands.from_curves(wide, curves)


@dataclass(frozen=True)
class NearestBands(Bands):
    """Channels that are single bands of the source: those nearest to the channels' centres."""

    picked: bool = True
    """Distinguishes them from other bands when only the fields are stored."""

    def to_json(self) -> dict[str, Any]:
        """The bands as plain lists, for JSON."""
        return {**super().to_json(), "picked": True}

    def varied(self, shift_nm: ArrayLike, width_factor: ArrayLike) -> Bands:
        """The bands with every centre moved; a single band has no width to vary."""
        return NearestBands(super().varied(shift_nm, 1.0).centre_nm, self.fwhm_nm)


WATER_VAPOUR_NM = ((1340.0, 1445.0), (1790.0, 1955.0))
"""Ranges where water vapour absorbs the light (NEON's band windows), nm."""


def good_bands(bands: Bands) -> NDArray[np.bool_]:
    """(B,) bool, False for bands whose centre lies in WATER_VAPOUR_NM."""
    centre = np.asarray(bands.centre_nm)
    good: NDArray[np.bool_] = np.ones(centre.shape, dtype=bool)
    for first, last in WATER_VAPOUR_NM:
        good &= (centre < first) | (centre > last)
    return good


def resampling_matrix(source: Bands, target: Bands) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The matrix that turns spectra in ``source`` bands into ``target`` bands, and which rows are valid.

    Rows are the target's Gaussian responses, integrated over the source's centres by the trapezoid
    rule and normalised to one. A target band that is narrower than the source's spacing is
    widened to that spacing: the row is then a smooth interpolation. Measured responses are
    integrated over spectra that are linear between the source's centres. Nearest bands are copied.

    Returns
    -------
    matrix : (T, S) float64, rows sum to one (zero where not supported)
    supported : (T,) bool, False where the source does not reach the target's centre or has a gap
        there wider than the target band and twice the source's spacing. A measured response is
        supported where that holds for 95 % of its area.
    """
    if isinstance(target, MeasuredBands):
        return _measured_rows(source, target)
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
        if isinstance(target, NearestBands):
            weight = np.eye(centre.size)[nearest]
        if supported[row] and weight.sum() > 0:
            matrix[row, order] = weight / weight.sum()
    return matrix, supported


def _trapezoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights of the trapezoid rule at the points x."""
    step = np.diff(x) / 2.0
    return np.pad(step, (0, 1)) + np.pad(step, (1, 0))


def _measured_rows(source: Bands, target: MeasuredBands) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    order = np.argsort(source.centre_nm)
    centre = np.asarray(source.centre_nm, dtype=np.float64)[order]
    typical = float(np.median(np.diff(centre))) if centre.size > 1 else source.fwhm_nm[0]
    nm = np.asarray(target.wavelength_nm)
    area = np.asarray(target.curves) * _trapezoid(nm)
    # Row b: the spectrum that is one in band b and zero in the others, at the curves' wavelengths.
    hats = np.array([np.interp(nm, centre, unit) for unit in np.eye(centre.size)])
    gap = np.abs(nm[:, None] - centre).min(axis=1)
    reaches = (centre[0] - typical <= nm) & (nm <= centre[-1] + typical)
    matrix = np.zeros((len(target), centre.size))
    supported = np.zeros(len(target), dtype=bool)
    for row, (weight, width) in enumerate(zip(area, target.fwhm_nm, strict=True)):
        seen = reaches & (gap <= max(width / 2.0, typical))
        supported[row] = weight[seen].sum() >= 0.95 * weight.sum()
        if supported[row]:
            matrix[row, order] = hats @ weight / weight.sum()
    return matrix, supported


VNIR48 = Bands.evenly_spaced(380.0, 1050.0, 48)
"""The default product: 48 bands over the visible and near infrared, as of the Houston 2018 sensor."""

PAVIA_CENTRE = Bands.evenly_spaced(430.0, 860.0, 102)
"""ROSIS over Pavia Centre: 102 bands left of 115, 430 to 860 nm nominal (Chen et al. 2024, IV-A)."""

PAVIA_UNIVERSITY = Bands.evenly_spaced(430.0, 860.0, 103)
"""ROSIS over Pavia University: 103 bands left of 115, 430 to 860 nm nominal (Liu et al. 2023, IV-A)."""

RGB_CAMERA = Bands((605.0, 540.0, 460.0), (80.0, 80.0, 70.0))
"""A colour camera in the order R, G, B: Gaussians near the sensitivities of consumer sensors."""

SENSORS: dict[str, Bands] = {
    "vnir48": VNIR48,
    "houston2018": VNIR48,
    "pavia_centre": PAVIA_CENTRE,
    "pavia_university": PAVIA_UNIVERSITY,
    "rgb_camera": RGB_CAMERA,
    # Red, green and blue of satellites, from the ranges or centres and widths that their operators
    # publish; docs/training.md names the tables.
    "worldview3": Bands((660.0, 545.0, 480.0), (60.0, 70.0, 60.0)),
    "ikonos": Bands((665.0, 550.5, 480.5), (66.0, 89.0, 71.0)),
    "quickbird": Bands((660.0, 560.0, 485.0), (60.0, 80.0, 70.0)),
    "sentinel2": Bands((664.6, 559.8, 492.4), (31.0, 36.0, 66.0)),
    # All bands of Sentinel-2A's MSI, 1 to 8, 8A, 9 to 12 (ESA, Sentinel-2 user guide), and those of
    # Landsat 8's OLI but the panchromatic one, 1 to 7 and 9 (Barsi et al. 2014, Remote Sens. 6).
    "sentinel2_msi": Bands(
        (442.7, 492.4, 559.8, 664.6, 704.1, 740.5, 782.8, 832.8, 864.7, 945.1, 1373.5, 1613.7, 2202.4),
        (21.0, 66.0, 36.0, 31.0, 15.0, 15.0, 20.0, 106.0, 21.0, 20.0, 31.0, 91.0, 175.0),
    ),
    "landsat8_oli": Bands(
        (443.0, 482.0, 561.4, 654.6, 864.7, 1608.9, 2200.7, 1373.4),
        (16.0, 60.0, 57.3, 37.5, 28.2, 84.7, 186.7, 20.4),
    ),
}
"""Band plans by name."""


def coarse_indices(count: int, coarse: int) -> tuple[int, ...]:
    """The positions of ``coarse`` bands out of ``count`` at equal intervals, starting at the first.

    SCDM takes every fourth of 48 and every sixth of 102.
    """
    if not 1 <= coarse <= count:
        raise UsageError("not that many bands to choose from", got=coarse, expected=f"1 to {count}")
    step = count // coarse
    return tuple(range(0, step * coarse, step))
