"""Checks a grid's place: on the globe, elsewhere for a good reason (a notice), or invalid (an error)."""

from __future__ import annotations

import math

import numpy as np
from rasterio.crs import CRS

from spectile.catalog.errors import SceneError
from spectile.pipeline.geometry.footprint import footprints
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.placing import to_map, transform_points

_PROBES = 9
"""Rows and columns of points that are tested if the outline does not lie wholly on the globe."""


def check_place(grid: Grid, where: str) -> str | None:
    """A notice if the grid has no footprint on the globe, else None.

    A site with a local CRS, another planet, and a picture of the whole Earth with space around it are valid.
    The catalog items of their cubes have no geometry.

    Parameters
    ----------
    where : the scene's name, to show.

    Raises
    ------
    SceneError : CRS and transform do not place the grid anywhere.
    """
    _check_numbers(grid, where)
    name = where.rpartition("/")[2]
    try:
        footprints(grid, [grid.window])
    except SceneError as err:
        if not _is_elsewhere(grid):
            raise _broken(where, "no point of it lies on the globe") from err
        return f"{name}: it cannot be drawn on the globe; its catalog item has no footprint"
    return None


def _check_numbers(grid: Grid, where: str) -> None:
    """Refuse the faults that can be found without a transformation."""
    from odc.geo.crs import CRS as MapCRS

    numbers = tuple(grid.transform)[:6]
    if not all(map(math.isfinite, (*numbers, *grid.bounds))):
        raise _broken(where, "a transform of " + ", ".join(f"{number:g}" for number in numbers))
    _, y_min, _, y_max = grid.bounds
    a, b, _, d, e, _ = numbers
    wide, high = math.hypot(a, d), math.hypot(b, e)
    # Below this size, neighbouring corners are the same number in float64.
    least = 2 * float(np.spacing(max(map(abs, grid.bounds))))
    crs = CRS.from_wkt(grid.crs_wkt)
    if crs.is_geographic:
        least = max(least, 1e-11 * math.pi / 180 / crs.units_factor[1])  # a micrometre
    if min(wide, high) <= least:
        raise _broken(where, f"pixels of {wide:g} × {high:g}")
    if MapCRS(grid.crs_wkt).proj.is_geocentric:
        raise _broken(where, "a geocentric CRS, which has no rows and columns")
    if crs.is_geographic:
        pole = math.pi / 2 / crs.units_factor[1]
        slack = high / 2 * (1 + 1e-6)  # climate grids have the centres of pixels on the poles
        if y_min < -pole - slack or y_max > pole + slack:
            raise _broken(where, f"latitudes of {y_min:.10g} to {y_max:.10g}")


def _is_elsewhere(grid: Grid) -> bool:
    """True if its CRS has no transformation to the globe, or if it works for some of the points."""
    rows, cols = np.meshgrid(*(np.linspace(0, size, _PROBES) for size in grid.shape), indexing="ij")
    try:
        lon, lat = transform_points(*to_map(grid, rows, cols), grid.crs_wkt, "OGC:CRS84")
    except RuntimeError:  # pyproj's errors have this class
        return True
    return bool((np.isfinite(lon) & np.isfinite(lat)).any())


def _broken(where: str, got: str) -> SceneError:
    return SceneError(
        "the scene's georeference is invalid", where=where, got=got,
        expected="a CRS and a transform that place its pixels on a map",
        remedy="assign the right ones, e.g. rio edit-info --crs EPSG:… --transform …",
    )  # fmt: skip
