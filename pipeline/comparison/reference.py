"""A measured hyperspectral raster, read by windows of a cube's grid and in bands that both have."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import Resampling, reproject

from spectile.catalog.bands import Bands
from spectile.catalog.errors import BlockError, SceneError, SpectileError, UsageError
from spectile.catalog.redaction import redact_url
from spectile.catalog.urls import locate
from spectile.pipeline.comparison.comparison import Way
from spectile.pipeline.cube.arrays import readable
from spectile.pipeline.files.opening import (
    MOST_BLOCK_BYTES,
    first_line,
    is_gdal_error,
    open_raster,
)
from spectile.pipeline.files.remote import reading
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.placing import Placement
from spectile.pipeline.scene.file import grid_of
from spectile.pipeline.spectra.formats import (
    Layout,
    kind_of,
    open_zarr,
    spectra_of_zarr,
    stated_by_envi,
    stated_by_geotiff,
)
from spectile.pipeline.spectra.hyperspectral import LEAST_VALID
from spectile.pipeline.store.opening import open_storage

Floats = NDArray[np.float32]

SOURCE_BYTES = 64_000_000
"""What is read of a reference at once, as float32, at most; finer ones are read in smaller cells."""
LEAST_COVER = 0.5
"""The share of a cube's pixel that finer pixels of the reference must cover."""

SAME_PIXELS = 0.01
"""Pixels by which two grids may differ anywhere and count as the same."""


@dataclass(frozen=True)
class Reference:
    """An open hyperspectral raster with a place on the map."""

    name: str
    """The file's name."""
    grid: Grid
    """Its grid."""
    bands: Bands
    """Its bands without bad ones, in ascending order."""
    positions: tuple[int, ...]
    """Their positions in the file, from 0."""
    scale: float
    """Reflectance per count."""
    offset: float
    """Reflectance of a count of zero."""
    nodata: float | None
    """The count of missing samples."""
    counts: Callable[[Window, Sequence[int]], NDArray[np.generic]]
    """Reads positions of a window, (n, h, w) as stored."""

    def read(self, window: Window, wanted: Sequence[int]) -> Floats:
        """Reflectance (n, h, w) float32 of some of ``bands``; NaN in all if one is missing or all are zero.

        Raises
        ------
        BlockError : the file cannot be read there.
        """
        try:
            counts = self.counts(window, [self.positions[band] for band in wanted])
        except SpectileError:
            raise
        except Exception as err:
            if not (is_gdal_error(err) or isinstance(err, OSError | ValueError | RuntimeError)):
                raise
            raise BlockError(
                "the reference cannot be read", where=f"{self.name} at row {window.row}, column {window.col}",
                got=first_line(err),
            ) from err  # fmt: skip
        values: Floats = counts.astype(np.float32)
        known = np.isfinite(values).all(axis=0)
        if self.nodata is not None and not math.isnan(self.nodata):
            known &= (counts != self.nodata).all(axis=0)
        values *= np.float32(self.scale)
        values += np.float32(self.offset)
        known &= (values > LEAST_VALID).any(axis=0)
        values[:, ~known] = np.nan
        return values


@contextmanager
def open_reference(
    place: str | Path, *, bands: Bands | None = None, scale: float | None = None
) -> Iterator[Reference]:
    """A GeoTIFF, an ENVI raster, or a Zarr store with coordinates (also a cube), open for reading.

    Parameters
    ----------
    bands : the bands, if the file does not state them.
    scale : reflectance per count, if the file does not state it.

    Raises
    ------
    SceneError : it cannot be opened, has no grid, or bands or scale are neither in it nor given.
    """
    where = locate(place)
    shown = redact_url(str(place))
    if str(place).rstrip("/").endswith(".zarr") or (isinstance(where, Path) and kind_of(where) == "zarr"):
        store = where if isinstance(where, Path) else open_storage(place).zarr(read_only=True)
        with readable(shown, "reference"):
            opened = open_zarr(store)
        with opened:
            with readable(shown, "reference"):
                found = _of_zarr(opened, shown, bands, scale)
            yield found
        return
    if isinstance(where, Path) and where.is_dir():
        raise SceneError("a folder is no reference", where=shown, expected=_KINDS)
    with open_raster(str(place)) as dataset:
        yield _of_raster(dataset, str(place), bands, scale)


_KINDS = "a GeoTIFF, ENVI file or Zarr store with a grid, or a table of field spectra (.csv)"


def _of_raster(
    dataset: rasterio.DatasetReader, name: str, bands: Bands | None, scale: float | None
) -> Reference:
    state = {"GTiff": stated_by_geotiff, "ENVI": stated_by_envi}.get(dataset.driver)
    if state is None:
        raise SceneError("no hyperspectral raster", where=name, got=dataset.driver, expected=_KINDS)
    if any("complex" in dtype for dtype in dataset.dtypes):
        raise SceneError("the reference holds complex numbers", where=name)
    try:
        stated = state(dataset, Layout())
    except (ValueError, UsageError) as err:
        raise SceneError(f"cannot be read: {err}", where=name) from err

    def read(window: Window, positions: Sequence[int]) -> NDArray[np.generic]:
        at = rasterio.windows.Window(window.col, window.row, window.width, window.height)
        with reading(name):
            counts: NDArray[np.generic] = dataset.read([at + 1 for at in positions], window=at)
            return counts

    return _reference(redact_url(name), grid_of(dataset, name), dataset.count, stated, bands, scale, read)


def _of_zarr(store: xr.Dataset, name: str, bands: Bands | None, scale: float | None) -> Reference:
    import rioxarray  # noqa: F401  (adds the .rio accessor)

    array, stated = spectra_of_zarr(store, Layout())
    chunks = array.encoding.get("chunks") or array.shape
    if math.prod(chunks) * array.dtype.itemsize > MOST_BLOCK_BYTES:
        raise SceneError("the store's chunks are too large to read it in parts", where=name)
    if array.rio.crs is None:
        raise SceneError("the reference has no CRS", where=name, remedy="write it with .rio.write_crs(…)")
    grid = Grid((array.shape[1], array.shape[2]), array.rio.transform(), array.rio.crs.to_wkt())

    def read(window: Window, positions: Sequence[int]) -> NDArray[np.generic]:
        rows, cols = window.slices
        # Zarr reads a list of bands one by one.
        first, last = min(positions), max(positions)
        values: NDArray[np.generic] = array[first : last + 1, rows, cols].values
        return values[[at - first for at in positions]]

    return _reference(name, grid, array.shape[0], stated, bands, scale, read)


def _reference(
    name: str, grid: Grid, count: int, stated: dict[str, Any], bands: Bands | None, scale: float | None,
    read: Callable[[Window, Sequence[int]], NDArray[np.generic]],
) -> Reference:  # fmt: skip
    found = stated["bands"] or bands
    factor = stated["scale"] if stated["scale"] is not None else scale
    if found is None:
        raise SceneError("the file does not say its wavelengths", where=name, remedy="use --bands-of FILE")
    if len(found) != count:
        raise SceneError("wavelengths and bands do not match", where=name, got=len(found), expected=count)
    if factor is None:
        raise SceneError(
            "the file does not say its scale", where=name,
            remedy="use --scale S, the reflectance of a stored 1, e.g. 0.0001, or 1 for reflectance",
        )  # fmt: skip
    good = stated.get("good")
    order = [int(at) for at in np.argsort(found.centre_nm) if good is None or good[at]]
    if not order:
        raise SceneError("every band is bad", where=name)
    return Reference(
        name, grid, found.subset(order), tuple(order), float(factor), stated.get("offset") or 0.0,
        stated.get("nodata"), read,
    )  # fmt: skip


@dataclass(frozen=True)
class PlacedReference:
    """A reference on a cube's grid, in the bands of a matrix."""

    reference: Reference
    """What is read."""
    grid: Grid
    """The cube's grid."""
    wanted: tuple[int, ...]
    """The bands of the reference that are read."""
    matrix: NDArray[np.float32]
    """(T, n) weights of these bands."""

    @cached_property
    def _placement(self) -> Placement:
        return Placement(self.grid, self.reference.grid)

    @property
    def pixel(self) -> tuple[float, float]:
        """(height, width) of a pixel of the reference, in pixels of the cube."""
        return self._placement.pixel

    @cached_property
    def way(self) -> Way:
        """How pixels are brought over."""
        high, wide = self.grid.shape
        rows, cols = self._at(np.array([0.0, 0.0, high]), np.array([0.0, wide, 0.0]))
        off = [*(rows - round(float(rows[0])) - (0, 0, high)), *(cols - round(float(cols[0])) - (0, wide, 0))]
        if self._placement.same_crs and np.abs(off).max() < SAME_PIXELS:
            return "same grid"
        return "area average" if max(self._placement.pixel) < 0.99 else "nearest"

    def _at(
        self, rows: NDArray[np.float64], cols: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        try:
            return self._placement.to_scene(rows, cols)
        except RuntimeError as err:  # pyproj's errors have this class
            raise self._no_way(err) from err

    def _no_way(self, err: RuntimeError) -> UsageError:
        return UsageError(
            "no transformation between the cube's CRS and the reference's", where=self.reference.name,
            got=str(err).partition("\n")[0],
        )  # fmt: skip

    def read(self, window: Window) -> Floats:
        """Reflectance (T, h, w) float32 of a window of the cube; NaN where the reference has none.

        Raises
        ------
        BlockError : the file cannot be read there.
        """
        found = np.full((len(self.matrix), *window.shape), np.nan, dtype=np.float32)
        area = max(math.prod(self._placement.pixel), 1e-6)
        side = math.isqrt(int(SOURCE_BYTES / (4 * len(self.wanted)) * area))
        side = min(max(side, 1), max(window.shape))
        for row in range(window.row, window.row_stop, side):
            for col in range(window.col, window.col_stop, side):
                cell = Window(row, col, side, side).intersection(window)
                values = self._cell(cell)
                if values is not None:
                    found[(slice(None), *cell.relative_to(window).slices)] = values
        return found

    @property
    def extent(self) -> Window:
        """The pixels of the cube that the reference can cover; all of them where that is not known.

        Raises
        ------
        UsageError : the two CRS have no transformation.
        """
        rows, cols = (np.linspace(0, size, 65) for size in self.reference.grid.shape)
        try:
            points = self._placement.to_line(*np.meshgrid(rows, cols, indexing="ij"))
        except RuntimeError as err:
            raise self._no_way(err) from err
        if not np.isfinite(points).all():
            return self.grid.window
        around = _around(*points)
        more = 1 + max(around.shape) // 100  # sides may be curved between the points
        return Window(around.row - more, around.col - more, around.height + 2 * more,
                      around.width + 2 * more).intersection(self.grid.window)  # fmt: skip

    def _cell(self, cell: Window) -> Floats | None:
        edges = [np.linspace(start, start + size, min(size, 64) + 1) for start, size in
                 ((cell.row, cell.height), (cell.col, cell.width))]  # fmt: skip
        under = self._at(*np.meshgrid(*edges, indexing="ij"))
        held = _around(*under).intersection(self.reference.grid.window)
        if not held.size:
            return None
        values = self.reference.read(held, self.wanted)
        if not np.isfinite(values).any():
            return None
        seen: Floats = np.tensordot(self.matrix, values, axes=1).astype(np.float32, copy=False)
        if self.way == "area average":
            return self._averaged(seen, held, cell)
        rows, cols = self._at(
            *np.meshgrid(np.arange(cell.row, cell.row_stop) + 0.5, np.arange(cell.col, cell.col_stop) + 0.5,
                         indexing="ij")
        )  # fmt: skip
        at_row, at_col = np.floor(rows) - held.row, np.floor(cols) - held.col
        inside = (at_row >= 0) & (at_row < held.height) & (at_col >= 0) & (at_col < held.width)
        picked = seen[:, np.where(inside, at_row, 0).astype(int), np.where(inside, at_col, 0).astype(int)]
        return np.where(inside, picked, np.float32(np.nan))

    def _averaged(self, seen: Floats, held: Window, cell: Window) -> Floats:
        """Area means of finer pixels, NaN where they cover less than ``LEAST_COVER`` of a pixel."""
        # What lies around the file counts as not covered.
        margin = math.ceil(1 / min(self._placement.pixel)) + 1
        frame = ((margin, margin), (margin, margin))
        around = Window(held.row - margin, held.col - margin, held.height + 2 * margin,
                        held.width + 2 * margin)  # fmt: skip
        values = np.pad(seen, ((0, 0), *frame), constant_values=np.nan)
        covered = np.isfinite(values[0]).astype(np.float32)
        source = self.reference.grid[around]
        target = self.grid[cell]
        options: dict[str, Any] = {
            "src_transform": source.transform, "src_crs": CRS.from_wkt(source.crs_wkt),
            "dst_transform": target.transform, "dst_crs": CRS.from_wkt(target.crs_wkt),
            "resampling": Resampling.average,
        }  # fmt: skip
        mean = np.full((len(seen), *cell.shape), np.nan, dtype=np.float32)
        cover = np.zeros(cell.shape, dtype=np.float32)
        reproject(values, mean, src_nodata=np.nan, dst_nodata=np.nan, **options)
        reproject(covered, cover, **options)
        mean[:, cover < LEAST_COVER] = np.nan
        return mean


def _around(rows: NDArray[np.float64], cols: NDArray[np.float64]) -> Window:
    """The window around those of the points that are finite, with a pixel on each side; empty if none is."""
    there = np.isfinite(rows) & np.isfinite(cols)
    if not there.any():
        return Window(0, 0, 0, 0)
    row, col = math.floor(rows[there].min()) - 1, math.floor(cols[there].min()) - 1
    stop, end = math.ceil(rows[there].max()) + 1, math.ceil(cols[there].max()) + 1
    return Window(row, col, stop - row, end - col)
