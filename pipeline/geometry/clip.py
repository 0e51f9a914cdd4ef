"""Polygons that cut a scene: the pixels of a grid whose centres lie inside.

They may come from anybody, so nothing is computed of them whose time grows faster than their points: they are
not joined, and those whose sides cross are not mended.
"""

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
    """Polygons on a grid."""

    wkb: bytes
    """The polygons as WKB of a collection, in columns (x) and rows (y) of the grid."""
    shape: tuple[int, int]
    """(rows, columns) of the grid."""
    digest: str
    """The sha256 of the polygons as they were given."""

    def __getstate__(self) -> dict[str, object]:
        return {"wkb": self.wkb, "shape": self.shape, "digest": self.digest}

    @cached_property
    def _parts(self) -> NDArray[np.object_]:
        return np.asarray(shapely.get_parts(shapely.from_wkb(self.wkb)))

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self._parts)

    @cached_property
    def window(self) -> Window:
        """The smallest window around the polygons, cut at the grid; of size zero where they do not meet."""
        left, top, right, bottom = shapely.total_bounds(self._parts)
        row, col = math.floor(top), math.floor(left)
        around = Window(row, col, math.ceil(bottom) - row, math.ceil(right) - col)
        return around.intersection(Window(0, 0, *self.shape))

    def squares(self, window: Window, side: int) -> NDArray[np.bool_]:
        """(R, C) whether the polygons touch squares of ``side`` pixels from a window's first pixel on."""
        shape = -(-window.height // side), -(-window.width // side)
        placed = Affine.translation(window.col, window.row) @ Affine.scale(side)
        return np.asarray(geometry_mask([*self._parts], shape, placed, all_touched=True, invert=True))

    def inside(self, window: Window) -> NDArray[np.bool_]:
        """(h, w) True for the pixels of a window whose centres lie in a polygon."""
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
        met = self._parts[self._tree.query(square, predicate="intersects")]
        if not met.size:
            return np.zeros(cell.shape, dtype=bool)
        if shapely.contains_properly(met, square).any():
            return np.ones(cell.shape, dtype=bool)
        origin = Affine.translation(cell.col, cell.row)
        # Each of them is drawn for itself, so that they may overlap.
        return np.asarray(geometry_mask([*met], cell.shape, origin, invert=True))


@dataclass(frozen=True)
class Area:
    """Polygons on the map."""

    polygons: tuple[shapely.Polygon, ...]
    """Valid ones; they may overlap."""
    crs: str
    """Their CRS, x before y."""
    digest: str
    """The sha256 of what they were made of."""
    name: str
    """The file, for errors."""

    def on(self, grid: Grid) -> Clip:
        """The polygons on a grid. Their sides are straight in their own CRS, so they may be curved here.

        Raises
        ------
        UsageError : they have no place in the grid's CRS, or do not meet the grid.
        """

        def placed(points: Points) -> Points:
            rows, cols = pixels_at(grid, points[:, 0], points[:, 1], crs=self.crs)
            return np.column_stack([cols, rows])

        whole = polygons = self._near(grid)
        if not whole.size:
            raise self._apart(grid)
        left, bottom, right, top = shapely.total_bounds(whole)
        longest = math.hypot(right - left, top - bottom)
        for _ in range(MOST_HALVINGS):
            if _are_straight(polygons, placed):
                break
            longest /= 2
            polygons = shapely.segmentize(whole, longest)
        there = shapely.transform(polygons, placed)
        if not np.isfinite(shapely.get_coordinates(there)).all():
            raise UsageError("the polygon has no place in the scene's CRS", where=self.name,
                             remedy="cut it nearer to the scene")  # fmt: skip
        clip = Clip(shapely.to_wkb(shapely.geometrycollections(there)), grid.shape, self.digest)
        if not clip.window.size:
            raise self._apart(grid)
        return clip

    def _near(self, grid: Grid) -> NDArray[np.object_]:
        """The parts of the polygons around a grid: a CRS need not know what is far from it."""
        polygons = np.array(self.polygons, dtype=object)
        along, still = np.linspace(0, 1, 65), np.zeros(65)
        down = np.concatenate([along, still + 1, along, still]) * grid.shape[0]
        right = np.concatenate([still, along, still + 1, along]) * grid.shape[1]
        try:
            x, y = transform_points(*to_map(grid, down, right), grid.crs_wkt, self.crs)
        except (RuntimeError, ValueError):  # the next transformation says why
            return polygons
        if not (np.isfinite(x) & np.isfinite(y)).all():
            return polygons
        around = shapely.box(x.min(), y.min(), x.max(), y.max())
        # Sides may be curved between the points.
        around = around.buffer(0.1 * math.hypot(np.ptp(x), np.ptp(y)), join_style="mitre")
        parts = shapely.get_parts(shapely.get_parts(shapely.intersection(polygons, around)))
        return np.asarray(parts[shapely.area(parts) > 0])

    def _apart(self, grid: Grid) -> UsageError:
        bounds = ",".join(f"{value:.10g}" for value in grid.bounds)
        return UsageError("the polygon does not meet the scene", where=self.name,
                          expected=f"an overlap with {bounds} in the scene's CRS")  # fmt: skip


def _are_straight(polygons: NDArray[np.object_], placed: Callable[[Points], Points]) -> bool:
    """Whether the middle of each side stays within ``BEND`` of the straight line on the grid."""
    rings = shapely.get_rings(polygons)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    there, middles = placed(points), placed((points[:-1] + points[1:]) / 2)
    off = np.hypot(*(middles - (there[:-1] + there[1:]) / 2).T)[ring[:-1] == ring[1:]]
    return bool((off[np.isfinite(off)] <= BEND).all())
