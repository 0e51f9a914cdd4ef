"""The MSI on the fine grid by averaging over the area of each pixel. Values depend on the position only.

GDAL's warper approximates within the window that it is given, so it is not used (``geometry/placing.py``).
Where the rows of both grids are parallel, areas are exact. Else, and where the shift changes over the scene,
each pixel is sampled at POINTS × POINTS points, which errs by less than a sixteenth of a pixel in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.inputs import Raster
from spectile.pipeline.geometry.clip import Clip
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.placing import Placement, reduce_scene
from spectile.pipeline.pair.drift import Drift

POINTS = 8
"""Points along a side of a fine pixel where its area is not known exactly."""
CELL = 512
"""Rows and columns that are averaged at once, of the finer of the two grids."""
LEAST_SHARE = 0.5
"""A fine pixel is valid if at least this share of its area is."""

Floats = NDArray[np.float64]
ALIGNED = Drift()


class Readable(Protocol):
    """A scene that can be read by window."""

    @property
    def grid(self) -> Grid:
        """Its grid."""
        ...

    @property
    def ceiling(self) -> NDArray[np.float32] | None:
        """(C,) greatest reflectance that it can hold."""
        ...

    def read(self, window: Window) -> Raster:
        """Values (C, h, w), NaN where not valid, and validity (h, w)."""
        ...


@dataclass(frozen=True)
class MirroredSource:
    """A scene that is mirrored at its border with the edge pixel repeated.

    Other sources leave the edge pixel out. Then a mirrored HSI pixel would not cover the mirrored fine
    pixels, and a tile at the border would show another place in the one than in the other.
    """

    scene: Readable
    """The scene."""

    def read(self, window: Window) -> Raster:
        """Reflectance (C, h, w) float32, NaN where not valid, and validity (h, w) bool of a window.

        Raises
        ------
        BlockError : the file cannot be read there.
        """
        held, rows, cols = mirrored(window, self.scene.grid.shape)
        found = self.scene.read(held)
        if held == window:
            return found
        return Raster(found.values[:, rows[:, None], cols], found.valid[rows[:, None], cols])

    @property
    def ceiling(self) -> NDArray[np.float32] | None:
        """As of the scene."""
        return self.scene.ceiling


def mirrored(window: Window, shape: tuple[int, int]) -> tuple[Window, NDArray[np.intp], NDArray[np.intp]]:
    """The pixels of a grid that a window needs, and the rows and columns of each of its pixels in them."""
    sides = []
    for start, stop, size in (
        (window.row, window.row_stop, shape[0]),
        (window.col, window.col_stop, shape[1]),
    ):
        index = np.mod(np.arange(start, stop), 2 * size)
        sides.append(np.minimum(index, 2 * size - 1 - index).astype(np.intp))
    rows, cols = sides
    held = Window(int(rows.min()), int(cols.min()), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)
    return held, rows - held.row, cols - held.col


@dataclass(frozen=True)
class WarpedSource:
    """A scene averaged onto another grid, which can be read by window."""

    scene: Readable
    """The scene, of any CRS and rotation."""
    grid: Grid
    """The grid that it is averaged onto."""
    drift: Drift = ALIGNED
    """Where the scene lies against its own georeference, pixels of ``grid``; it is taken out."""
    clip: Clip | None = None
    """The polygon outside of which no pixel is valid."""

    def read(self, window: Window) -> Raster:
        """Reflectance (C, h, w) float32, NaN where not valid, and validity (h, w) bool of a window.

        The window may reach beyond the grid, which is mirrored there with the edge pixel repeated.

        Raises
        ------
        BlockError : the file cannot be read there.
        """
        held, rows, cols = mirrored(window, self.grid.shape)
        found = self._averaged(held)
        if held == window:
            return found
        return Raster(found.values[:, rows[:, None], cols], found.valid[rows[:, None], cols])

    @property
    def ceiling(self) -> NDArray[np.float32] | None:
        """As of the scene."""
        return self.scene.ceiling

    @cached_property
    def _placement(self) -> Placement:
        return Placement(self.grid, self.scene.grid)

    @cached_property
    def _density(self) -> float:
        """Pixels of the scene along a side of a pixel of the grid, in the middle."""
        return 1 / min(self._placement.pixel)

    def _averaged(self, window: Window) -> Raster:
        side = max(16, int(CELL / max(1.0, self._density)))
        parts = []
        for row in range(window.row, window.row_stop, side):
            for col in range(window.col, window.col_stop, side):
                cell = Window(row, col, side, side).intersection(window)
                parts.append((cell.relative_to(window).slices, self._cell(cell)))
        values = np.empty((len(parts[0][1].values), *window.shape), dtype=np.float32)
        valid = np.empty(window.shape, dtype=bool)
        for at, part in parts:
            values[(slice(None), *at)], valid[at] = part
        if self.clip is not None:
            valid &= self.clip.inside(window)
        values[:, ~valid] = np.nan
        return Raster(values, valid)

    def _cell(self, at: Window) -> Raster:
        # Corners of the pixels, from absolute indices, so that neighbouring windows agree to the bit.
        rows, cols = np.arange(at.row, at.row_stop + 1.0), np.arange(at.col, at.col_stop + 1.0)
        placement = self._placement
        if placement.is_parallel and self.drift.is_constant:
            rows, cols = rows + self.drift.row, cols + self.drift.col
            along_rows = placement.to_scene(rows, np.zeros_like(rows))[0]
            along_cols = placement.to_scene(np.zeros_like(cols), cols)[1]
            return self._exact(along_rows, along_cols)
        down, right = np.meshgrid(rows, cols, indexing="ij")
        return self._sampled(*placement.to_scene(*self.drift.at(down, right, self.grid.shape)))

    def _held(self, rows: Floats, cols: Floats, factor: int = 1) -> Window | None:
        """The pixels of the scene around points, in whole groups of ``factor``; None where there are none."""
        there = np.isfinite(rows) & np.isfinite(cols)
        if not there.any():
            return None
        first, stop = [], []
        for points, size in (
            (rows[there], self.scene.grid.shape[0]),
            (cols[there], self.scene.grid.shape[1]),
        ):
            first.append(max(0, int(np.floor(points.min() / factor)) * factor))
            stop.append(min(size, (int(np.ceil(points.max() / factor)) + 1) * factor))
        if stop[0] <= first[0] or stop[1] <= first[1]:
            return None
        return Window(first[0], first[1], stop[0] - first[0], stop[1] - first[1])

    def _exact(self, rows: Floats, cols: Floats) -> Raster:
        """Means over the exact areas between edges (h + 1,) and (w + 1,), on the scene."""
        shape = len(rows) - 1, len(cols) - 1
        held = self._held(*np.meshgrid(rows[[0, -1]], cols[[0, -1]], indexing="ij"))
        if held is None:
            return self._nothing(shape)
        found = self.scene.read(held)
        summed, area = _known(found)
        summed, area = (_averaged_along(each, rows - held.row, axis=-2) for each in (summed, area))
        summed, area = (_averaged_along(each, cols - held.col, axis=-1) for each in (summed, area))
        return _divided(summed, area)

    def _sampled(self, rows: Floats, cols: Floats) -> Raster:
        """Means over points inside pixels with corners (h + 1, w + 1), on the scene."""
        shape = rows.shape[0] - 1, rows.shape[1] - 1
        factor = max(1, int(self._density // 2))  # a much sharper scene is averaged first
        held = self._held(rows, cols, factor)
        if held is None:
            return self._nothing(shape)
        values, valid = self.scene.read(held)
        if factor > 1:
            more = ((0, -held.height % factor), (0, -held.width % factor))
            values, valid = reduce_scene(np.pad(values, ((0, 0), *more)), np.pad(valid, more), factor)
        known, weight = _known(Raster(values, valid))
        summed, area = np.zeros((len(known), *shape)), np.zeros(shape)
        for down in (np.arange(POINTS) + 0.5) / POINTS:
            for right in (np.arange(POINTS) + 0.5) / POINTS:
                # Inside a pixel the way from one CRS to another is straight enough.
                row, col = (
                    np.floor(_between(corners / factor, float(down), float(right))) - start // factor
                    for corners, start in ((rows, held.row), (cols, held.col))
                )
                inside = (row >= 0) & (row < valid.shape[0]) & (col >= 0) & (col < valid.shape[1])
                index = np.where(inside, row, 0).astype(np.intp), np.where(inside, col, 0).astype(np.intp)
                summed += np.where(inside, known[(slice(None), *index)], 0)
                area += np.where(inside, weight[index], 0)
        return _divided(summed / POINTS**2, area / POINTS**2)

    def _nothing(self, shape: tuple[int, int]) -> Raster:
        channels = len(self.scene.read(Window(0, 0, 1, 1)).values)
        return Raster(np.full((channels, *shape), np.nan, dtype=np.float32), np.zeros(shape, dtype=bool))


def _known(found: Raster) -> tuple[Floats, Floats]:
    """Values (C, h, w), zero where not valid, and validity (h, w), both float64."""
    return np.where(found.valid, found.values, np.float32(0)).astype(np.float64), found.valid.astype(
        np.float64
    )


def _divided(summed: Floats, area: Floats) -> Raster:
    valid = area >= LEAST_SHARE - 1e-9
    values = np.asarray(summed / np.where(area > 0, area, 1), dtype=np.float32)
    values[:, ~valid] = np.nan
    return Raster(values, valid)


def _between(corners: Floats, down: float, right: float) -> Floats:
    """Points inside pixels, from their corners (h + 1, w + 1)."""
    upper = corners[:-1, :-1] * (1 - right) + corners[:-1, 1:] * right
    lower = corners[1:, :-1] * (1 - right) + corners[1:, 1:] * right
    return np.asarray(upper * (1 - down) + lower * down)


def _averaged_along(values: Floats, edges: Floats, *, axis: int) -> Floats:
    """Means of pixels along an axis between edges (n + 1,); outside they count as zero.

    The taps are summed one by one, in one order: the result of a pixel does not depend on the window.
    """
    values = np.moveaxis(values, axis, 0)
    low, high = np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])
    first = np.floor(low)
    out = np.zeros((len(low), *values.shape[1:]))
    for tap in range(int((np.ceil(high) - first).max())):
        at = first + tap
        share = np.clip(np.minimum(high, at + 1) - np.maximum(low, at), 0, None) / (high - low)
        inside = (at >= 0) & (at < len(values))
        share = np.where(inside, share, 0).reshape(-1, *(1,) * (values.ndim - 1))
        out += share * values[np.where(inside, at, 0).astype(np.intp)]
    return np.moveaxis(out, 0, axis)
