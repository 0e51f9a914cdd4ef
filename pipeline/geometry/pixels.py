"""The pixels of a grid at a point or inside a polygon."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import geometry_mask
from shapely.geometry import shape

from spectile.catalog.errors import UsageError
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.placing import Points, to_pixels, transform_points


class Shape(Protocol):
    """A shapely geometry, or any object with the GeoJSON interface."""

    @property
    def __geo_interface__(self) -> Mapping[str, Any]:
        """The geometry as GeoJSON."""
        ...


def pixel_at(grid: Grid, x: float, y: float, *, crs: Any = None) -> tuple[int, int]:
    """(row, col) of the pixel that contains a point.

    Parameters
    ----------
    crs : CRS of the point, with x as easting or longitude; None is the grid's own.

    Raises
    ------
    UsageError : the point lies outside the grid, or the CRS is unknown.
    """
    rows, cols = pixels_at(grid, np.array([x], np.float64), np.array([y], np.float64), crs=crs)
    row, col = float(rows[0]), float(cols[0])
    if not (0 <= row < grid.shape[0] and 0 <= col < grid.shape[1]):  # NaN is outside
        raise _outside("point", grid, f"x {x:.10g}, y {y:.10g}")
    return int(row), int(col)


def pixels_in(
    grid: Grid, polygon: Shape | Mapping[str, Any], *, crs: Any = None, all_touched: bool = False
) -> tuple[Window, NDArray[np.bool_]]:
    """The window around a polygon, clipped to the grid, and a mask (h, w) of the pixels inside.

    Parameters
    ----------
    polygon : a Polygon or MultiPolygon, or a Feature with one, from shapely or as GeoJSON.
    crs : CRS of the polygon, x before y; None is the grid's own.
    all_touched : include every pixel that the polygon touches, not only those whose centre is inside.

    Raises
    ------
    UsageError : it is not a polygon, contains no pixel of the grid, or the CRS is unknown.
    """

    def placed(points: NDArray[np.float64]) -> NDArray[np.float64]:
        rows, cols = pixels_at(grid, points[:, 0], points[:, 1], crs=crs)
        return np.column_stack([cols, rows])

    there = shapely.transform(_geometry(polygon), placed)
    left, top, right, bottom = there.bounds
    window = Window(0, 0, 0, 0)
    if all(map(math.isfinite, (left, top, right, bottom))):
        row, col = math.floor(top), math.floor(left)
        around = Window(row, col, math.ceil(bottom) - row, math.ceil(right) - col)
        window = around.intersection(grid.window)
    if not window.size:
        raise _outside("polygon", grid)
    origin = Affine.translation(window.col, window.row)
    inside = geometry_mask([there], window.shape, origin, all_touched=all_touched, invert=True)
    if not inside.any():
        raise UsageError(
            "the polygon holds no pixel of the cube", remedy=None if all_touched else "use all_touched=True"
        )
    return window, np.asarray(inside)


def pixels_at(grid: Grid, x: NDArray[np.float64], y: NDArray[np.float64], *, crs: Any = None) -> Points:
    """Rows and columns (N,) of points; NaN where a point has no coordinates in the grid's CRS.

    Parameters
    ----------
    crs : as of ``pixel_at``.

    Raises
    ------
    UsageError : the CRS is unknown.
    """
    if crs is not None:
        try:
            x, y = transform_points(x, y, crs, grid.crs_wkt)
        except (RuntimeError, ValueError) as err:  # pyproj's errors are RuntimeErrors
            raise UsageError("not a CRS that can be used", got=crs, expected="e.g. EPSG:4326") from err
    there = np.isfinite(x) & np.isfinite(y)
    return to_pixels(grid, np.where(there, x, np.nan), np.where(there, y, np.nan))


def _geometry(polygon: Any) -> shapely.Geometry:
    geometry = getattr(polygon, "__geo_interface__", polygon)
    if isinstance(geometry, Mapping) and geometry.get("type") == "Feature":
        geometry = geometry.get("geometry")
    kind = geometry.get("type") if isinstance(geometry, Mapping) else type(polygon).__name__
    if kind not in ("Polygon", "MultiPolygon"):
        raise UsageError("not a polygon", got=kind, expected="Polygon or MultiPolygon, of shapely or GeoJSON")
    try:
        flat = shapely.force_2d(shape(geometry))
    except (ValueError, TypeError, KeyError, IndexError, shapely.errors.ShapelyError) as err:
        raise UsageError("the polygon is damaged", got=err) from err
    if flat.is_empty:
        raise UsageError("the polygon is empty")
    return flat


def _outside(what: str, grid: Grid, got: str | None = None) -> UsageError:
    x_min, y_min, x_max, y_max = grid.bounds
    return UsageError(
        f"the {what} lies outside the cube", got=got,
        expected=f"x {x_min:.10g} to {x_max:.10g}, y {y_min:.10g} to {y_max:.10g} in its CRS",
        remedy=f"give the {what}'s CRS if it is another",
    )  # fmt: skip
