"""What a comparison of a cube with a reference holds, and the sums it is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import Bands, NearestBands, resampling_matrix
from spectile.catalog.errors import UsageError
from spectile.pipeline.geometry.grid import Window

Floats = NDArray[np.float32]
Numbers = NDArray[np.float64]

Way = Literal["same grid", "area average", "nearest", "field spectra"]
"""How the reference comes onto the cube's grid."""

DARK = 0.02
"""Pixels whose mean reflectance in the reference is below that are dark: water and shadow, whose angle says
little more than noise."""
COARSER = 1.5
"""The reference's bands are compared as they are where they are so many times wider than the cube's."""
SAME_BAND = 0.1
"""Parts of its width by which a band may lie beside another and be the same; twice that in width."""
LEAST_WEIGHT = 1e-6
"""A band with a smaller share in every compared band is left out."""
MAP_SIDE = 800
"""Rows and columns at most of the map of angles; larger areas are averaged down."""


@dataclass(frozen=True)
class Matching:
    """The bands in which cube and reference are compared."""

    bands: Bands
    """The T bands that are compared."""
    of: Literal["cube", "reference"]
    """Whose bands they are: the coarser ones."""
    cube: NDArray[np.float32]
    """(T, B) weights of the cube's bands."""
    reference: NDArray[np.float32]
    """(T, R) weights of the reference's bands."""

    @property
    def same_bands(self) -> NDArray[np.intp] | None:
        """(T,) positions of the cube's bands if they are compared as they are, else None."""
        return np.argmax(self.cube, axis=1) if self.of == "cube" else None


def match_bands(cube: Bands, reference: Bands) -> Matching:
    """The bands of the cube that the reference covers; those of the reference if they are much wider.

    Raises
    ------
    UsageError : the two have no band in common.
    """
    mine, theirs = np.asarray(cube.centre_nm), np.asarray(reference.centre_nm)
    low, high = max(mine.min(), theirs.min()), min(mine.max(), theirs.max())
    widths = [
        np.asarray(bands.fwhm_nm)[(centre >= low) & (centre <= high)]
        for bands, centre in ((cube, mine), (reference, theirs))
    ]
    coarse = widths[1].size > 0 and float(np.median(widths[1])) > COARSER * float(
        np.median(widths[0] if widths[0].size else np.asarray(cube.fwhm_nm))
    )
    source, target = (cube, reference) if coarse else (reference, cube)
    matrix, supported = resampling_matrix(source, target)
    kept = np.flatnonzero(supported)
    if not kept.size:
        raise UsageError("the cube and the reference have no band in common", got=str(reference),
                         expected=str(cube))  # fmt: skip
    alike = np.array([_is_in(source, *band) for band in zip(target.centre_nm, target.fwhm_nm, strict=True)])
    copied, _ = resampling_matrix(source, NearestBands(target.centre_nm, target.fwhm_nm))
    weights: Floats = np.where(alike[:, None], copied, matrix)[kept].astype(np.float32)
    weights[:, (weights < LEAST_WEIGHT).all(axis=0)] = 0.0
    picked: Floats = np.eye(len(target), dtype=np.float32)[kept]
    if coarse:
        return Matching(target.subset(kept), "reference", weights, picked)
    return Matching(target.subset(kept), "cube", picked, weights)


def _is_in(bands: Bands, centre_nm: float, fwhm_nm: float) -> bool:
    """Whether a band is one of these: averaged over its neighbours once more, it would be too wide."""
    at = bands.nearest(centre_nm)
    near = abs(bands.centre_nm[at] - centre_nm) <= SAME_BAND * fwhm_nm
    return near and abs(bands.fwhm_nm[at] - fwhm_nm) <= 2 * SAME_BAND * fwhm_nm


@dataclass(frozen=True)
class Intervals:
    """How the layers q05 and q95 hold up against the reference."""

    cover: float
    """Share of values of the reference within them; 0.9 where they are right."""
    width: float
    """Their mean width, reflectance."""
    cover_by_band: Numbers
    """(T,) the share of each band."""
    width_by_band: Numbers
    """(T,) the mean width of each band."""


@dataclass(frozen=True)
class FieldPoint:
    """One spectrum of the field and the cube there."""

    name: str
    """Its name."""
    row: int
    """Row of the cube's pixel that holds the point."""
    col: int
    """Its column."""
    pixels: int
    """Valid pixels of the cube that were averaged."""
    rmse: float
    """Root mean squared error over the bands, reflectance."""
    bias: float
    """Mean of cube - reference over the bands, reflectance."""
    angle: float
    """Spectral angle, radians; NaN where one of the two is zero."""
    cube: Numbers
    """(T,) the cube's reflectance."""
    reference: Numbers
    """(T,) the field's reflectance, NaN where it has no value."""


@dataclass(frozen=True)
class Comparison:
    """What a cube and a reference have in common, and how they differ. NaN where nothing is known."""

    cube: str
    """The cube's place."""
    reference: str
    """The reference's place."""
    way: Way
    """How the reference came onto the cube's grid."""
    bands: Bands
    """The T bands that were compared."""
    bands_of: Literal["cube", "reference"]
    """Whose bands these are; the other's were resampled."""
    cube_left_out_nm: tuple[float, ...]
    """Centres of the cube's bands that have no part in it."""
    reference_left_out_nm: tuple[float, ...]
    """Centres of the reference's bands that have no part in it."""
    pixels: int
    """Pixels, or spectra of the field, that were compared."""
    pixels_dark: int
    """How many of them are dark, see ``DARK``."""
    pixels_zero: int
    """How many have no angle because one of the two spectra is zero."""
    rmse: float
    """Root mean squared error over pixels and bands, reflectance."""
    bias: float
    """Mean of cube - reference, reflectance."""
    angle: float
    """Mean spectral angle of the pixels that are not dark, radians."""
    angle_dark: float
    """Mean spectral angle of the dark ones, radians."""
    rmse_by_band: Numbers
    """(T,) root mean squared error of each band."""
    bias_by_band: Numbers
    """(T,) mean of cube - reference of each band."""
    mean_cube: Numbers
    """(T,) the cube's mean reflectance where both have a value."""
    mean_reference: Numbers
    """(T,) the reference's mean reflectance there."""
    intervals: Intervals | None
    """Of the layers q05 and q95; None where the cube has none or they cannot be compared."""
    notes: tuple[str, ...]
    """What a reader of the numbers should know."""
    points: tuple[FieldPoint, ...] = ()
    """The spectra of the field; none of a raster."""
    points_left_out: tuple[str, ...] = ()
    """Names of those outside the cube or on pixels without a value."""
    angle_map: Floats = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """(h, w) mean spectral angle, radians; empty for field spectra."""

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain values; null for NaN. The map is left out."""
        by_band: dict[str, Any] = {
            "nm": self.bands.centre_nm, "fwhm_nm": self.bands.fwhm_nm, "rmse": self.rmse_by_band,
            "bias": self.bias_by_band, "mean_cube": self.mean_cube, "mean_reference": self.mean_reference,
        }  # fmt: skip
        if self.intervals is not None:
            by_band |= {"cover": self.intervals.cover_by_band, "width": self.intervals.width_by_band}
        rows = zip(*by_band.values(), strict=True)
        return {
            "cube": self.cube, "reference": self.reference, "way": self.way, "bands_of": self.bands_of,
            "pixels": self.pixels, "pixels_dark": self.pixels_dark, "pixels_zero": self.pixels_zero,
            "rmse": _plain(self.rmse), "bias": _plain(self.bias), "angle": _plain(self.angle),
            "angle_dark": _plain(self.angle_dark),
            "intervals": None if self.intervals is None else
            {"cover": _plain(self.intervals.cover), "width": _plain(self.intervals.width)},
            "bands": [dict(zip(by_band, map(_plain, row), strict=True)) for row in rows],
            "cube_left_out_nm": [round(nm, 3) for nm in self.cube_left_out_nm],
            "reference_left_out_nm": [round(nm, 3) for nm in self.reference_left_out_nm],
            "points": [
                {"name": each.name, "row": each.row, "col": each.col, "pixels": each.pixels,
                 "rmse": _plain(each.rmse), "bias": _plain(each.bias), "angle": _plain(each.angle),
                 "cube": [*map(_plain, each.cube)], "reference": [*map(_plain, each.reference)]}
                for each in self.points
            ],
            "points_left_out": list(self.points_left_out),
            "notes": list(self.notes),
        }  # fmt: skip


def _plain(value: float) -> float | None:
    return round(float(value), 7) if math.isfinite(value) else None


class Sums:
    """What is summed over pixels; NaN counts nowhere."""

    def __init__(self, matching: Matching) -> None:
        count = len(matching.bands)
        self.count, self.error, self.squares, self.cube, self.reference = np.zeros((5, count))
        self.inside, self.width, self.bounded = np.zeros((3, count))
        self.pixels = self.zero = self.dark = 0
        # By whether a pixel is dark: sum and number.
        self.angles: dict[bool, list[float]] = {False: [0.0, 0], True: [0.0, 0]}

    def add(self, cube: Floats, reference: Floats) -> Numbers:
        """Add spectra (T, N); their angles (N,), radians, NaN where one of the two is zero."""
        known = np.isfinite(cube) & np.isfinite(reference)
        a = np.where(known, cube, 0.0).astype(np.float64)
        b = np.where(known, reference, 0.0).astype(np.float64)
        difference = a - b
        self.count += known.sum(axis=1)
        self.error += difference.sum(axis=1)
        self.squares += np.square(difference).sum(axis=1)
        self.cube += a.sum(axis=1)
        self.reference += b.sum(axis=1)
        angle = spectral_angles(a, b)
        some = known.any(axis=0)
        dark = b.sum(axis=0) < DARK * known.sum(axis=0)
        self.pixels += int(some.sum())
        self.dark += int((some & dark).sum())
        self.zero += int((some & np.isnan(angle)).sum())
        for kind, total in self.angles.items():
            of_kind = angle[some & (dark == kind) & np.isfinite(angle)]
            total[0] += float(of_kind.sum())
            total[1] += of_kind.size
        return np.where(some, angle, np.nan)

    def bound(self, low: Floats, high: Floats, reference: Floats) -> None:
        """Add intervals (T, N)."""
        known = np.isfinite(low) & np.isfinite(high) & np.isfinite(reference)
        self.bounded += known.sum(axis=1)
        self.inside += (known & (reference >= low) & (reference <= high)).sum(axis=1)
        self.width += np.where(known, high.astype(np.float64) - low, 0.0).sum(axis=1)

    def means(self) -> dict[str, Any]:
        """The fields of a comparison that come of it."""
        with np.errstate(invalid="ignore", divide="ignore"):
            by_band = {name: total / self.count for name, total in (
                ("bias", self.error), ("squares", self.squares), ("cube", self.cube),
                ("reference", self.reference),
            )}  # fmt: skip
            intervals = None
            if self.bounded.any():
                intervals = Intervals(
                    float(self.inside.sum() / self.bounded.sum()),
                    float(self.width.sum() / self.bounded.sum()),
                    self.inside / self.bounded, self.width / self.bounded,
                )  # fmt: skip
        total = float(self.count.sum())
        bright, dark = (each[0] / each[1] if each[1] else math.nan for each in self.angles.values())
        return {
            "pixels": self.pixels, "pixels_dark": self.dark, "pixels_zero": self.zero,
            "rmse": math.sqrt(float(self.squares.sum()) / total), "bias": float(self.error.sum()) / total,
            "angle": bright, "angle_dark": dark, "rmse_by_band": np.sqrt(by_band["squares"]),
            "bias_by_band": by_band["bias"], "mean_cube": by_band["cube"],
            "mean_reference": by_band["reference"], "intervals": intervals,
        }  # fmt: skip


def spectral_angles(a: Numbers, b: Numbers) -> Numbers:
    """Angles (N,) between spectra (T, N) (Kruse et al. 1993), radians; NaN where one of the two is zero."""
    lengths = np.sqrt(np.square(a).sum(axis=0)), np.sqrt(np.square(b).sum(axis=0))
    known = (lengths[0] > 0) & (lengths[1] > 0)
    first, second = a / np.where(known, lengths[0], 1.0), b / np.where(known, lengths[1], 1.0)
    # Of half chords: the arc cosine loses half the digits near zero.
    chords = (np.sqrt(np.square(each).sum(axis=0)) for each in (first - second, first + second))
    return np.where(known, 2.0 * np.arctan2(*chords), np.nan)


class AngleMap:
    """Mean angles, averaged down to a side of ``MAP_SIDE`` at most."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._step = max(1, -(-max(window.shape) // MAP_SIDE))
        self._shape = -(-window.height // self._step), -(-window.width // self._step)
        self._sum, self._count = np.zeros((2, math.prod(self._shape)))

    def add(self, at: Window, rows: NDArray[np.intp], cols: NDArray[np.intp], angles: Numbers) -> None:
        """Add angles (N,) of pixels at rows and columns of a window."""
        known = np.isfinite(angles)
        place = at.relative_to(self._window)
        cells = (rows + place.row) // self._step * self._shape[1] + (cols + place.col) // self._step
        size = self._sum.size
        self._sum += np.bincount(cells[known], weights=angles[known], minlength=size)
        self._count += np.bincount(cells[known], minlength=size)

    def mean(self) -> Floats:
        """(h, w) float32, NaN where there is none."""
        with np.errstate(invalid="ignore"):
            return (self._sum / self._count).reshape(self._shape).astype(np.float32)
