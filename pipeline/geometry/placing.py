"""The pixels of one grid on another, and a scene's RGB there. All values depend on the position only.

Coordinates are computed pixel by pixel from absolute indices, so a pixel has the same value, bit for bit, in
every window. GDAL's warper approximates within the given window, so it is not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from spectile.catalog.choices import Resampling
from spectile.pipeline.geometry.grid import Grid

Points = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Rows and columns, or x and y, of points."""


@dataclass(frozen=True)
class Placement:
    """A scene's grid and a line's grid. Rows and columns count from upper left corners."""

    line: Grid
    """The line's grid, which is filled."""
    scene: Grid
    """The scene's grid, which is read."""

    @cached_property
    def same_crs(self) -> bool:
        """Whether the grids have one CRS, so that the transformation is affine."""
        return bool(CRS.from_wkt(self.line.crs_wkt) == CRS.from_wkt(self.scene.crs_wkt))

    @cached_property
    def _between(self) -> tuple[Affine, Affine]:
        """The affine from pixels of the line to pixels of the scene, and its inverse, within one CRS."""
        there = _rounded(~self.scene.transform @ self.line.transform)
        return there, ~there

    @cached_property
    def is_parallel(self) -> bool:
        """Whether rows of the line are rows of the scene, and columns columns."""
        return self.same_crs and self._between[0].b == 0 and self._between[0].d == 0

    def __getstate__(self) -> dict[str, object]:
        return {"line": self.line, "scene": self.scene}

    def to_scene(self, rows: NDArray[np.float64], cols: NDArray[np.float64]) -> Points:
        """Rows and columns on the scene of points of the line."""
        if self.same_crs:
            return _apply(self._between[0], rows, cols)
        return self._through(self.line, self.scene, rows, cols)

    def to_line(self, rows: NDArray[np.float64], cols: NDArray[np.float64]) -> Points:
        """Rows and columns on the line of points of the scene; not finite where there are none."""
        if self.same_crs:
            return _apply(self._between[1], rows, cols)
        return self._through(self.scene, self.line, rows, cols)

    def _through(self, start: Grid, end: Grid, rows: Any, cols: Any) -> Points:
        x, y = transform_points(*to_map(start, rows, cols), start.crs_wkt, end.crs_wkt)
        return to_pixels(end, x, y)

    @cached_property
    def pixel(self) -> tuple[float, float]:
        """(height, width) of a pixel of the scene, in pixels of the line, at the scene's centre."""
        row, col = self.scene.shape[0] / 2, self.scene.shape[1] / 2
        rows, cols = self.to_line(np.array([row, row + 1, row]), np.array([col, col, col + 1]))
        return (
            float(np.hypot(rows[1] - rows[0], cols[1] - cols[0])),
            float(np.hypot(rows[2] - rows[0], cols[2] - cols[0])),
        )


def _rounded(affine: Affine) -> Affine:
    """Without noise in the last digits, so that aligned grids differ by whole pixels exactly."""
    a, b, c, d, e, f = tuple(affine)[:6]
    return Affine(round(a, 12), round(b, 12), round(c, 6), round(d, 12), round(e, 12), round(f, 6))


def _apply(affine: Affine, rows: NDArray[np.float64], cols: NDArray[np.float64]) -> Points:
    return affine.d * cols + affine.e * rows + affine.f, affine.a * cols + affine.b * rows + affine.c


def to_map(grid: Grid, rows: NDArray[np.float64], cols: NDArray[np.float64]) -> Points:
    """X and y in the grid's CRS of points given by row and column."""
    y, x = _apply(grid.transform, rows, cols)
    return x, y


def to_pixels(grid: Grid, x: NDArray[np.float64], y: NDArray[np.float64]) -> Points:
    """Rows and columns on a grid of points given by x and y in its CRS."""
    inverse = ~grid.transform
    return inverse.d * x + inverse.e * y + inverse.f, inverse.a * x + inverse.b * y + inverse.c


def transform_points(x: NDArray[np.float64], y: NDArray[np.float64], start: str, end: str) -> Points:
    """X and y of points in another CRS, both given as WKT; not finite where a point has no place there."""
    from odc.geo.crs import CRS as MapCRS

    transformed = MapCRS(start).transformer_to_crs(MapCRS(end))(x, y)
    return np.asarray(transformed[0], dtype=np.float64), np.asarray(transformed[1], dtype=np.float64)


def reduce_scene(
    rgb: NDArray[np.float32], valid: NDArray[np.bool_], factor: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Means over the valid ones of ``factor`` × ``factor`` pixels, and whether at least half are valid.

    Parameters
    ----------
    rgb : (C, h, w) float32; h and w are multiples of ``factor``.
    valid : (h, w) bool.
    """
    if factor == 1:
        return rgb, valid
    inside = np.where(valid, rgb, np.float32(0))
    # Add one by one: the order of NumPy's sums may change with the shape, and with it the last bit.
    summed = np.zeros((len(rgb), rgb.shape[1] // factor, rgb.shape[2] // factor), dtype=np.float32)
    count = np.zeros(summed.shape[1:], dtype=np.float32)
    for row in range(factor):
        for col in range(factor):
            summed += inside[:, row::factor, col::factor]
            count += valid[row::factor, col::factor]
    mean = np.asarray(summed / np.maximum(count, np.float32(1)), dtype=np.float32)
    return mean, count * 2 >= factor * factor


def valid_at(
    valid: NDArray[np.bool_], rows: NDArray[np.float64], cols: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether the pixel that contains a point is valid, (h, w) bool; False outside the scene.

    Parameters
    ----------
    valid : (H, W) bool.
    rows, cols : (h, w) float64, the points, from the upper left corner of the first pixel.
    """
    row, row_inside = _index(np.floor(rows), valid.shape[0])
    col, col_inside = _index(np.floor(cols), valid.shape[1])
    return row_inside & col_inside & valid[row, col]


def resample(
    rgb: NDArray[np.float32],
    valid: NDArray[np.bool_],
    rows: NDArray[np.float64],
    cols: NDArray[np.float64],
    method: Resampling,
) -> NDArray[np.float32]:
    """Values (C, h, w) float32 at points; use them only where ``valid_at`` is True.

    Masked pixels have no weight; the weights of the others are scaled to sum to one. Cubic (Keys, a = −1/2)
    falls back to bilinear where one of its sixteen pixels is masked.

    Parameters
    ----------
    rgb, valid : (C, H, W) float32 and (H, W) bool, the scene's pixels.
    rows, cols : as in ``valid_at``.
    """
    known = np.where(valid, rgb, np.float32(0))
    values, _ = _weighted(known, valid, rows, cols, _LINEAR)
    if method == "cubic":
        smooth, all_valid = _weighted(known, valid, rows, cols, _CUBIC)
        values = np.where(all_valid, smooth, values)
    return values


def _linear(offset: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 - np.abs(offset))


def _cubic(offset: NDArray[np.float32]) -> NDArray[np.float32]:
    x = np.abs(offset)
    near = (np.float32(1.5) * x - np.float32(2.5)) * x * x + 1
    far = ((np.float32(-0.5) * x + np.float32(2.5)) * x - 4) * x + 2
    return np.where(x <= 1, near, far)


_LINEAR = (_linear, (0, 1))
_CUBIC = (_cubic, (-1, 0, 1, 2))


def _weighted(
    rgb: NDArray[np.float32],
    valid: NDArray[np.bool_],
    rows: NDArray[np.float64],
    cols: NDArray[np.float64],
    kernel: tuple[Any, tuple[int, ...]],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The kernel's mean over valid pixels, and where all of its pixels are valid."""
    weigh, taps = kernel
    high, wide = valid.shape
    first_row, first_col = np.floor(rows - 0.5), np.floor(cols - 0.5)
    down, right = (rows - 0.5 - first_row).astype(np.float32), (cols - 0.5 - first_col).astype(np.float32)
    summed = np.zeros((len(rgb), *rows.shape), dtype=np.float32)
    total = np.zeros(rows.shape, dtype=np.float32)
    all_valid = np.ones(rows.shape, dtype=bool)
    for tap_row in taps:
        row, row_inside = _index(first_row + tap_row, high)
        row_weight = weigh(tap_row - down)
        for tap_col in taps:
            col, col_inside = _index(first_col + tap_col, wide)
            inside = row_inside & col_inside & valid[row, col]
            weight = np.where(inside, row_weight * weigh(tap_col - right), np.float32(0))
            summed += weight * rgb[:, row, col]
            total += weight
            all_valid &= inside
    # The pixel that contains a valid point has at least a quarter of the linear weights.
    out = np.asarray(summed / np.where(total > 0, total, np.float32(1)), dtype=np.float32)
    return out, np.asarray(all_valid)


def _index(at: NDArray[np.float64], size: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    inside = (at >= 0) & (at < size)
    return np.where(inside, at, 0).astype(np.intp), inside
