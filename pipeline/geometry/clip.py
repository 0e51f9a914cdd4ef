"""A polygon that cuts a scene: the pixels of a grid whose centres lie inside."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import geometry_mask

from spectile.catalog.errors import UsageError
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.pixels import pixels_at
from spectile.pipeline.geometry.placing import to_map, transform_points

Points = NDArray[np.float64]
"""(N, 2) x and y."""

CELL = 512
"""Rows and columns that are masked at once, from the grid's first pixel on: so a pixel on an edge is the same
in every window."""
BEND = 0.01
"""Most pixels by which a side may leave the straight line that it is in the polygon's own CRS."""
MOST_HALVINGS = 14
"""How often the longest side is halved at most."""


@dataclass(frozen=True)
class Clip:
    """A polygon on a grid."""

    wkb: bytes
    """The polygon as WKB, in columns (x) and rows (y) of the grid."""
    shape: tuple[int, int]
    """(rows, columns) of the grid."""
    digest: str
    """The sha256 of the polygon as it was given."""

    def __getstate__(self) -> dict[str, object]:
        return {"wkb": self.wkb, "shape": self.shape, "digest": self.digest}

    @cached_property
    def _polygon(self) -> shapely.Geometry:
        polygon = shapely.from_wkb(self.wkb)
        shapely.prepare(polygon)
        return polygon

    @cached_property
    def window(self) -> Window:
        """The smallest window around the polygon, cut at the grid; of size zero where they do not meet."""
        left, top, right, bottom = shapely.bounds(self._polygon)
        row, col = math.floor(top), math.floor(left)
        around = Window(row, col, math.ceil(bottom) - row, math.ceil(right) - col)
        return around.intersection(Window(0, 0, *self.shape))

    def meets(self, boxes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(N,) whether rectangles of pixels touch the polygon.

        Parameters
        ----------
        boxes : (4, N), first row, last row, first column, last column.
        """
        first_row, last_row, first_col, last_col = boxes
        rectangles = shapely.box(first_col, first_row, last_col + 1, last_row + 1)
        return np.asarray(shapely.intersects(self._polygon, rectangles))

    def inside(self, window: Window) -> NDArray[np.bool_]:
        """(h, w) True for the pixels of a window whose centres lie in the polygon."""
        found = np.zeros(window.shape, dtype=bool)
        for row in range(window.row // CELL * CELL, window.row_stop, CELL):
            for col in range(window.col // CELL * CELL, window.col_stop, CELL):
                cell = Window(row, col, CELL, CELL)
                part = cell.intersection(window)
                if part.size:
                    found[part.relative_to(window).slices] = self._cell(cell)[part.relative_to(cell).slices]
        return found

    def _cell(self, cell: Window) -> NDArray[np.bool_]:
        square = shapely.box(cell.col, cell.row, cell.col_stop, cell.row_stop)
        if not shapely.intersects(self._polygon, square):
            return np.zeros(cell.shape, dtype=bool)
        if shapely.contains_properly(self._polygon, square):
            return np.ones(cell.shape, dtype=bool)
        origin = Affine.translation(cell.col, cell.row)
        return np.asarray(geometry_mask([self._polygon], cell.shape, origin, invert=True))


@dataclass(frozen=True)
class Area:
    """A polygon on the map."""

    polygon: shapely.Geometry
    """A valid Polygon or MultiPolygon."""
    crs: str
    """Its CRS, x before y."""
    digest: str
    """The sha256 of what it was made of."""
    name: str
    """The file, for errors."""

    def on(self, grid: Grid) -> Clip:
        """The polygon on a grid. Its sides are straight in its own CRS, so they may be curved here.

        Raises
        ------
        UsageError : it has no place in the grid's CRS, or does not meet the grid.
        """

        def placed(points: Points) -> Points:
            rows, cols = pixels_at(grid, points[:, 0], points[:, 1], crs=self.crs)
            return np.column_stack([cols, rows])

        whole = polygon = self._near(grid)
        if whole.is_empty:
            raise self._apart(grid)
        longest = math.hypot(whole.bounds[2] - whole.bounds[0], whole.bounds[3] - whole.bounds[1])
        for _ in range(MOST_HALVINGS):
            if _is_straight(polygon, placed):
                break
            longest /= 2
            polygon = shapely.segmentize(whole, longest)
        there = shapely.transform(polygon, placed)
        if not np.isfinite(shapely.get_coordinates(there)).all():
            raise UsageError("the polygon has no place in the scene's CRS", where=self.name,
                             remedy="cut it nearer to the scene")  # fmt: skip
        clip = Clip(shapely.to_wkb(sound(there)), grid.shape, self.digest)
        if not clip.window.size:
            raise self._apart(grid)
        return clip

    def _near(self, grid: Grid) -> shapely.Geometry:
        """The part of the polygon around a grid: a CRS need not know what is far from it."""
        along, still = np.linspace(0, 1, 65), np.zeros(65)
        down = np.concatenate([along, still + 1, along, still]) * grid.shape[0]
        right = np.concatenate([still, along, still + 1, along]) * grid.shape[1]
        try:
            x, y = transform_points(*to_map(grid, down, right), grid.crs_wkt, self.crs)
        except (RuntimeError, ValueError):  # the next transformation says why
            return self.polygon
        if not (np.isfinite(x) & np.isfinite(y)).all():
            return self.polygon
        around = shapely.box(x.min(), y.min(), x.max(), y.max())
        # Sides may be curved between the points.
        around = around.buffer(0.1 * math.hypot(np.ptp(x), np.ptp(y)), join_style="mitre")
        return _polygons(shapely.intersection(self.polygon, around))

    def _apart(self, grid: Grid) -> UsageError:
        bounds = ",".join(f"{value:.10g}" for value in grid.bounds)
        return UsageError("the polygon does not meet the scene", where=self.name,
                          expected=f"an overlap with {bounds} in the scene's CRS")  # fmt: skip


def sound(polygon: shapely.Geometry) -> shapely.Geometry:
    """The polygon without sides that cross; its area by the even-odd rule."""
    return polygon if polygon.is_valid else _polygons(shapely.make_valid(polygon))


def _polygons(geometry: shapely.Geometry) -> shapely.Geometry:
    """What of a geometry has an area."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return shapely.union_all(parts[shapely.get_dimensions(parts) == 2])


def _is_straight(polygon: shapely.Geometry, placed: Callable[[Points], Points]) -> bool:
    """Whether the middle of each side stays within ``BEND`` of the straight line on the grid."""
    rings = shapely.get_rings(shapely.get_parts(polygon))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    there, middles = placed(points), placed((points[:-1] + points[1:]) / 2)
    off = np.hypot(*(middles - (there[:-1] + there[1:]) / 2).T)[ring[:-1] == ring[1:]]
    return bool((off[np.isfinite(off)] <= BEND).all())
