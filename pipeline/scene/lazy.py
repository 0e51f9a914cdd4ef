"""A scene as a lazy xarray object, for notebooks. It shows exactly what the network gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.choices import NodataRule
from spectile.catalog.inputs import RGB_SCENE
from spectile.catalog.redaction import redact_url
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.tiling import Tile, Tiling, reflected
from spectile.pipeline.scene.source import open_source

if TYPE_CHECKING:
    import xarray as xr


def open_scene(
    path: str | Path,
    *,
    radiometry: str | None = None,
    nodata_rule: NodataRule = "all",
    sensor: str | None = None,
    bands: Sequence[int | str] | None = None,
    chunk: int = 1024,
) -> xr.DataArray:
    """The scene as a lazy, dask-chunked DataArray ``(band, y, x)``, float32 reflectance with its CRS.

    Red, green and blue, or the bands that are named. Invalid pixels are NaN. ``attrs["source"]`` names the
    file and its radiometry. The full geotransform is always there, x and y coordinates if the grid is
    axis-aligned.

    Raises
    ------
    SceneError : as in ``open_source``.
    """
    import dask.array as da
    import rioxarray  # noqa: F401  (adds the .rio accessor)
    import xarray as xr

    source = open_source(
        path, None if bands else RGB_SCENE, radiometry=radiometry, nodata_rule=nodata_rule, sensor=sensor,
        bands=bands,
    )  # fmt: skip
    names = [str(band) for band in bands or ("red", "green", "blue")]
    rows, cols = source.grid.shape

    def block(block_info: dict[object, dict[str, list[tuple[int, int]]]]) -> NDArray[np.float32]:
        (_, _), (row, row_stop), (col, col_stop) = block_info[None]["array-location"]
        return source.read(Window(row, col, row_stop - row, col_stop - col))[0]

    chunks = ((len(source.channels),), _chunks(rows, chunk), _chunks(cols, chunk))
    # Without meta, map_blocks would call the reader on an empty window to find its type.
    data = da.map_blocks(  # type: ignore[no-untyped-call]
        block, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    scene = xr.DataArray(
        data,
        dims=("band", "y", "x"),
        coords={"band": names, **axis_coordinates(source.grid)},
        name="scene" if bands else "rgb",
        attrs={"units": "1", "long_name": "reflectance", "source": redact_url(source.path),
               "radiometry": source.radiometry.kind},
    )  # fmt: skip
    placed: xr.DataArray = scene.rio.write_crs(source.grid.crs_wkt)
    placed = placed.rio.write_transform(source.grid.transform)
    return placed


def tiles(scene: xr.DataArray, *, tile: int = 256, halo: int = 32) -> Iterator[tuple[Tile, xr.DataArray]]:
    """The overlapping chunks of a scene, each with its tile: lazy selections of ``(band, y, x)``.

    They are the same windows that the network gets, mirrored at the scene's border.

    Raises
    ------
    UsageError : the halo is too large for the tile.
    """
    rows, cols = scene.sizes["y"], scene.sizes["x"]
    for each in Tiling((rows, cols), tile, halo).tiles():
        window = each.window
        if Window(0, 0, rows, cols).contains(window):
            yield each, scene.isel(y=window.slices[0], x=window.slices[1])
        else:
            at_rows = reflected(window.row, window.row_stop, rows)
            at_cols = reflected(window.col, window.col_stop, cols)
            yield each, scene.isel(y=at_rows, x=at_cols)


def axis_coordinates(grid: Grid) -> dict[str, NDArray[np.float64]]:
    """Pixel-centre coordinates y (rows,) and x (columns,) of an axis-aligned grid; empty if rotated."""
    if not grid.is_axis_aligned:
        return {}
    rows, cols = grid.shape
    t = grid.transform
    centres = [np.arange(size, dtype=np.float64) + 0.5 for size in (rows, cols)]
    return {"y": t.f + t.e * centres[0], "x": t.c + t.a * centres[1]}


def _chunks(size: int, chunk: int) -> tuple[int, ...]:
    return tuple(min(chunk, size - start) for start in range(0, size, chunk))
