"""A cube beside a measurement: another raster, or spectra of the field. Errors, angles, intervals.

Everything is summed square by square, so that memory does not grow with the area.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from spectile.catalog.bands import Bands
from spectile.catalog.errors import BlockError, CubeError, SceneError, UsageError
from spectile.catalog.urls import locate
from spectile.pipeline.comparison.comparison import (
    LEAST_WEIGHT,
    AngleMap,
    Comparison,
    FieldPoint,
    Matching,
    Sums,
    Way,
    match_bands,
)
from spectile.pipeline.comparison.reference import PlacedReference, open_reference
from spectile.pipeline.cube.arrays import open_arrays, reading_metadata
from spectile.pipeline.cube.record import load_plan, read_status
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.pixels import pixels_at
from spectile.pipeline.geometry.placing import to_map
from spectile.pipeline.plan.arrays import block_arrays
from spectile.pipeline.plan.counts import decode
from spectile.pipeline.plan.layers import array_name
from spectile.pipeline.plan.plan import CHUNK, SHARD, Plan
from spectile.pipeline.spectra.libraries import FieldSpectra, read_field_spectra
from spectile.pipeline.store.opening import open_storage

Floats = NDArray[np.float32]

INTERVAL = array_name("q05"), array_name("q95")
"""The arrays of the lower and the upper end of the interval."""
MOST_RADIUS = 256
"""Pixels of the largest radius."""
EARTH_RADIUS_M = 6_371_000.0
"""Mean radius of the Earth, m."""


def compare(
    cube: str | Path,
    reference: str | Path,
    *,
    radius: float | None = None,
    crs: str | None = None,
    scale: float | None = None,
    bands: Bands | None = None,
) -> Comparison:
    """Hold a finished cube against a measurement.

    A raster is brought onto the cube's grid: finer pixels are averaged over the area of a pixel, of coarser
    ones the one at the pixel's centre is taken. A table (``.csv``) is read by ``read_field_spectra``.

    Parameters
    ----------
    cube, reference : paths or URLs; a table is a path.
    radius : metres; the cube's mean within is compared with a field spectrum, not the pixel under it.
    crs : of the x and y of a table, x before y; None is the cube's own.
    scale : reflectance of a stored 1, where the reference does not say it; of a table 1 by default.
    bands : of a raster that does not say its wavelengths.

    Raises
    ------
    CubeError : there is no cube, or it is not finished.
    SceneError, UsageError : the reference cannot be used, or cube and reference have no place or band in
        common.
    BlockError, StoreError : one of them cannot be read.
    """
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise UsageError("the scale must be positive", got=f"--scale {scale:g}")
    opened = _open_cube(str(cube))
    if str(reference).lower().endswith(".csv"):
        if bands is not None:
            raise UsageError("a table says its wavelengths", got="--bands-of")
        table = locate(reference)
        if not isinstance(table, Path):
            raise UsageError("a table of field spectra is read from this machine", where=str(reference))
        return _with_field(opened, str(reference), read_field_spectra(table, scale=scale), radius, crs)
    for name, value in (("radius", radius), ("crs", crs)):
        if value is not None:
            raise UsageError("an option for tables of field spectra", got=f"--{name}")
    return _with_raster(opened, str(reference), bands, scale)


@dataclass(frozen=True)
class _Cube:
    """A finished cube that is read by window."""

    place: str
    plan: Plan
    group: Any
    bands: Bands

    @property
    def grid(self) -> Grid:
        return self.plan.cube_grid

    @property
    def has_intervals(self) -> bool:
        return set(INTERVAL) <= block_arrays(self.plan).keys()

    def read(self, name: str, window: Window) -> Floats:
        """(B, h, w) float32 reflectance, NaN where not valid."""
        try:
            return decode(self.group[name][(slice(None), *window.slices)])
        except (ValueError, RuntimeError, OSError) as err:
            raise BlockError(
                "the cube cannot be read", where=f"{name} at row {window.row}, column {window.col}",
                got=str(err) or type(err).__name__, remedy="see spectile verify --repair",
            ) from err  # fmt: skip

    def squares(self, extent: Window) -> Iterator[Window]:
        """The parts of the cube's chunks that hold data and lie in a window."""
        for row, col in self.plan.levels[0].shards:
            for down in range(row * SHARD, (row + 1) * SHARD, CHUNK):
                for right in range(col * SHARD, (col + 1) * SHARD, CHUNK):
                    square = Window(down, right, CHUNK, CHUNK).intersection(extent)
                    if square.size:
                        yield square


def _open_cube(place: str) -> _Cube:
    storage = open_storage(place)
    status = read_status(storage)
    if status["status"] != "complete":
        raise CubeError(
            "the cube is not finished", where=str(storage), got=status["status"],
            remedy="run again with --resume",
        )  # fmt: skip
    plan = load_plan(storage)
    group = open_arrays(storage, plan, consolidated=False)
    with reading_metadata(storage):
        bands = Bands.from_arrays(group["wavelength"][:], group["fwhm"][:])
    return _Cube(str(storage), plan, group, bands)


def _with_raster(cube: _Cube, place: str, bands: Bands | None, scale: float | None) -> Comparison:
    with open_reference(place, bands=bands, scale=scale) as reference:
        matching = match_bands(cube.bands, reference.bands)
        wanted = np.flatnonzero(matching.reference.any(axis=0))
        weights = matching.reference[:, wanted]
        placed = PlacedReference(reference, cube.grid, tuple(map(int, wanted)), weights)
        extent = placed.extent
        sums, angles = Sums(matching), AngleMap(extent)
        same = matching.same_bands
        for square in cube.squares(extent):
            there = placed.read(square)
            if not np.isfinite(there).any():
                continue
            here = cube.read("reflectance", square)
            rows, cols = np.nonzero(np.isfinite(here[0]) & np.isfinite(there[0]))
            truth, spectra = there[:, rows, cols], here[:, rows, cols]
            seen = matching.cube @ spectra if same is None else spectra[same]
            angles.add(square, rows, cols, sums.add(seen, truth))
            if cube.has_intervals and same is not None:
                low, high = (cube.read(name, square)[:, rows, cols][same] for name in INTERVAL)
                sums.bound(low, high, truth)
        if not sums.pixels:
            raise _apart(reference.name, reference.grid, cube.grid)
        notes = _notes(cube, matching)
        area = math.prod(placed.pixel)
        if placed.way == "nearest" and area > 4:
            notes.append(
                f"a pixel of the reference covers {area:.0f} of the cube's, whose detail counts as error"
            )
        return _comparison(cube, reference.name, placed.way, matching, reference.bands, sums, notes,
                           angle_map=angles.mean())  # fmt: skip


def _comparison(
    cube: _Cube, reference: str, way: Way, matching: Matching, bands: Bands,
    sums: Sums, notes: Sequence[str], **more: Any,
) -> Comparison:  # fmt: skip
    left = [
        tuple(np.asarray(each.centre_nm)[~matrix.any(axis=0)].tolist())
        for each, matrix in ((cube.bands, matching.cube), (bands, matching.reference))
    ]
    return Comparison(
        cube=cube.place, reference=reference, way=way, bands=matching.bands, bands_of=matching.of,
        cube_left_out_nm=left[0], reference_left_out_nm=left[1], notes=tuple(notes), **sums.means(), **more,
    )  # fmt: skip


def _notes(cube: _Cube, matching: Matching) -> list[str]:
    if cube.has_intervals and matching.of == "reference":
        return ["the intervals are of the cube's own bands, and were not compared in wider ones"]
    return []


def _apart(name: str, grid: Grid, cube: Grid) -> SceneError:
    return SceneError(
        "the reference has no valid pixel on the cube", where=name,
        got=f"bounds {_bounds(grid)}", expected=f"an overlap with {_bounds(cube)}",
    )  # fmt: skip


def _bounds(grid: Grid) -> str:
    crs = CRS.from_wkt(grid.crs_wkt).to_epsg()
    return ",".join(f"{side:.10g}" for side in grid.bounds) + (f" in EPSG:{crs}" if crs else "")


def _with_field(
    cube: _Cube, place: str, field: FieldSpectra, radius: float | None, crs: str | None
) -> Comparison:
    if field.is_lonlat and crs is not None:
        raise UsageError("lon and lat are on WGS 84", got=f"--crs {crs}", remedy="leave --crs out")
    matching = match_bands(cube.bands, field.bands)
    rows, cols = pixels_at(cube.grid, field.x, field.y, crs="OGC:CRS84" if field.is_lonlat else crs)
    same = matching.same_bands
    sums, points, left_out = Sums(matching), [], []
    for name, row, col, spectrum in zip(field.names, rows, cols, field.spectra, strict=True):
        inside = 0 <= row < cube.grid.shape[0] and 0 <= col < cube.grid.shape[1]  # NaN is outside
        truth = _resampled(matching.reference, spectrum)
        window, weights = _disc(cube.grid, row, col, radius) if inside else (Window(0, 0, 0, 0), None)
        here = cube.read("reflectance", window)[:, weights] if inside else np.empty((1, 0), np.float32)
        here = here[:, np.isfinite(here[0])]
        if not here.size or not np.isfinite(truth).any():
            left_out.append(name)
            continue
        mean = here.mean(axis=1, dtype=np.float64).astype(np.float32)
        seen = matching.cube @ mean if same is None else mean[same]
        angle = float(sums.add(seen[:, None], truth[:, None])[0])
        if cube.has_intervals and same is not None and radius is None:
            low, high = (cube.read(name, window)[:, weights][same] for name in INTERVAL)
            sums.bound(low, high, truth[:, None])
        error = (seen - truth)[np.isfinite(truth)].astype(np.float64)
        points.append(
            FieldPoint(name, int(row), int(col), here.shape[1], float(np.sqrt(np.mean(error**2))),
                       float(error.mean()), angle, seen.astype(np.float64), truth.astype(np.float64))
        )  # fmt: skip
    if not points:
        raise SceneError(
            "no spectrum of the table lies on a valid pixel of the cube", where=place,
            expected=f"places within {_bounds(cube.grid)}",
            remedy="give the CRS of x and y with --crs, or columns lon and lat",
        )  # fmt: skip
    notes = _notes(cube, matching)
    if cube.has_intervals and radius is not None:
        notes.append("the intervals are of single pixels, and were not compared with means")
    return _comparison(cube, place, "field spectra", matching, field.bands, sums, notes,
                       points=tuple(points), points_left_out=tuple(left_out))  # fmt: skip


def _resampled(matrix: NDArray[np.float32], spectrum: Floats) -> Floats:
    """(T,) a spectrum (R,) in other bands; NaN where an empty cell has a share."""
    known = np.isfinite(spectrum)
    values = matrix @ np.where(known, spectrum, np.float32(0))
    whole = (matrix[:, ~known] <= LEAST_WEIGHT).all(axis=1)
    return np.where(whole, values, np.float32(np.nan))


def _disc(grid: Grid, row: float, col: float, radius: float | None) -> tuple[Window, NDArray[np.bool_]]:
    """The window around a point, and which of its pixels (h, w) count.

    Raises
    ------
    UsageError : the radius reaches too far.
    """
    middle = Window(int(row), int(col), 1, 1)
    if radius is None:
        return middle, np.ones((1, 1), dtype=bool)
    across, down = _metres(grid, row, col)
    reach = [math.ceil(radius / float(np.hypot(*step))) for step in (down, across)]
    if max(reach) > MOST_RADIUS:
        raise UsageError("the radius is too large", got=f"--radius {radius:g}",
                         expected=f"up to {MOST_RADIUS} pixels")  # fmt: skip
    window = Window(
        middle.row - reach[0], middle.col - reach[1], 2 * reach[0] + 1, 2 * reach[1] + 1
    ).intersection(grid.window)
    rows, cols = np.meshgrid(
        np.arange(window.row, window.row_stop) + 0.5 - row,
        np.arange(window.col, window.col_stop) + 0.5 - col,
        indexing="ij",
    )  # fmt: skip
    inside = np.hypot(rows * down[0] + cols * across[0], rows * down[1] + cols * across[1]) <= radius
    inside[middle.relative_to(window).slices] = True
    return window, inside


def _metres(grid: Grid, row: float, col: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """(east, north) in metres of one pixel to the right and one down, at a place."""
    crs, t = CRS.from_wkt(grid.crs_wkt), grid.transform
    east = north = crs.units_factor[1]
    if crs.is_geographic:
        _, y = to_map(grid, np.array([row]), np.array([col]))
        north *= EARTH_RADIUS_M
        east = north * math.cos(float(y[0]) * crs.units_factor[1])
    return (t.a * east, t.d * north), (t.b * east, t.e * north)
