"""The weight of a scene where scenes overlap, from the distance to the edge of its valid pixels.

A scene's mask is read once, at reduced resolution, over the whole scene. So the weight of a pixel depends on
its position only, never on the window that is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.errors import BlockError
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.scene.source import Scene

FOOTPRINT_CELLS = 1_000_000
"""Most cells of a footprint (4 MB of distances); a scene of 40,000 × 2,000 px gets cells of 9 px."""
LEAST_WEIGHT = np.float32(1e-7)
"""Weight of a valid pixel at the edge, px: above zero, so that it counts where no other scene is."""


@dataclass(frozen=True)
class Footprint:
    """The valid area of a scene, by square cells of its pixels."""

    shape: tuple[int, int]
    """(rows, columns) of the scene."""
    step: int
    """Rows and columns of a cell, px; the last cells are cut."""
    some: NDArray[np.bool_]
    """(R, C) bool, cells with at least one valid pixel."""
    whole: NDArray[np.bool_]
    """(R, C) bool, cells in which every pixel is valid."""

    def corners(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows (R + 1,) and columns (C + 1,) of the cells' edges, in the scene's pixels."""
        rows, cols = (
            np.minimum(np.arange(count + 1) * self.step, size).astype(np.float64)
            for count, size in zip(self.some.shape, self.shape, strict=True)
        )
        return rows, cols

    def outline(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows and columns (N,) of points of the scene whose hull contains every valid pixel."""
        rows, cols = self.corners()
        if self.some.all():  # the frame; enough points for its sides to bend in another CRS
            along = np.linspace(0, 1, 65)
            zero, one = np.zeros_like(along), np.ones_like(along)
            sides = np.concatenate([[zero, along], [one, along], [along, zero], [along, one]], axis=1)
            return sides[0] * rows[-1], sides[1] * cols[-1]
        found_rows, found_cols = [], []
        for row in np.flatnonzero(self.some.any(axis=1)):
            filled = np.flatnonzero(self.some[row])
            for edge in (row, row + 1):
                found_rows += [rows[edge]] * 2
                found_cols += [cols[filled[0]], cols[filled[-1] + 1]]
        return np.array(found_rows), np.array(found_cols)


def take_footprint(source: Scene, *, multiple: int = 1) -> Footprint:
    """The footprint of a scene, from one pass over its mask.

    Unreadable parts of the file count as valid: the blocks there fail with an error, the others are made.

    Parameters
    ----------
    multiple : the side of a cell is a multiple of this number of pixels.
    """
    rows, cols = source.grid.shape
    step = multiple
    while -(-rows // step) * -(-cols // step) > FOOTPRINT_CELLS:
        step += multiple
    some, whole = [], []
    strip = step * max(1, 512 // step)
    for row in range(0, rows, strip):
        window = Window(row, 0, min(strip, rows - row), cols)
        try:
            valid = source.read_valid(window)
        except BlockError:
            valid = np.ones(window.shape, dtype=bool)
        some.append(_pooled(valid, step, any_of=True))
        whole.append(_pooled(valid, step, any_of=False))
    return Footprint((rows, cols), step, np.concatenate(some), np.concatenate(whole))


def _pooled(valid: NDArray[np.bool_], step: int, *, any_of: bool) -> NDArray[np.bool_]:
    rows, cols = valid.shape
    padded = np.pad(valid, ((0, -rows % step), (0, -cols % step)), constant_values=not any_of)
    cells = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step)
    return np.asarray(cells.any(axis=(1, 3)) if any_of else cells.all(axis=(1, 3)))


def edge_distance(footprint: Footprint, pixel: tuple[float, float]) -> NDArray[np.float32] | None:
    """Distance of each cell's centre to the nearest cell that is not wholly valid: (R, C) float32, or None.

    Negative in such cells, so that it is zero at the edge of the valid pixels. None if the whole scene is
    valid: its frame is then the only edge.

    Parameters
    ----------
    pixel : (height, width) of a pixel of the scene, in the unit of the distances.
    """
    from scipy.ndimage import distance_transform_edt

    if footprint.whole.all():
        return None
    cell = footprint.step * pixel[0], footprint.step * pixel[1]
    half = min(cell) / 2
    inside = distance_transform_edt(footprint.whole, sampling=cell)
    outside = distance_transform_edt(~footprint.whole, sampling=cell)
    far = float(np.hypot(*footprint.whole.shape) * max(cell))
    if not footprint.whole.any():
        outside = np.full(footprint.whole.shape, far)  # the distance transform needs some background
    signed = np.where(footprint.whole, inside - half, half - outside)
    return np.asarray(signed, dtype=np.float32)


def feather_weight(
    rows: NDArray[np.float64],
    cols: NDArray[np.float64],
    *,
    footprint: Footprint,
    distance: NDArray[np.float32] | None,
    pixel: tuple[float, float],
) -> NDArray[np.float32]:
    """The weight of a scene at some of its points: float32, LEAST_WEIGHT or more.

    Near one edge of the valid area it is the distance to that edge, at most S, half of the scene's shorter
    side. Near several edges it is S times the product of three distances, each divided by S: to the sides, to
    the ends and to masked pixels. With the nearest distance alone, the result would have a step where two
    scenes share a side and one of them ends.

    Parameters
    ----------
    rows, cols : the points, in pixels of the scene from its upper left corner; inside the scene.
    distance, pixel : as in ``edge_distance``.
    """
    high, wide = footprint.shape
    most = min(high * pixel[0], wide * pixel[1]) / 2
    along = np.minimum(np.minimum(rows, high - rows) * pixel[0], most).astype(np.float32)
    across = np.minimum(np.minimum(cols, wide - cols) * pixel[1], most).astype(np.float32)
    weight = along * across / np.float32(most)
    if distance is not None:
        masked = np.clip(_between_cells(distance, rows, cols, footprint.step), 0, np.float32(most))
        weight *= masked / np.float32(most)
    return np.asarray(np.maximum(weight, LEAST_WEIGHT))


def _between_cells(
    values: NDArray[np.float32], rows: NDArray[np.float64], cols: NDArray[np.float64], step: int
) -> NDArray[np.float32]:
    """Values of cells, interpolated linearly between their centres."""
    row, down = _split(rows / step - 0.5, values.shape[0])
    col, right = _split(cols / step - 0.5, values.shape[1])
    below, beside = np.minimum(row + 1, values.shape[0] - 1), np.minimum(col + 1, values.shape[1] - 1)
    upper = values[row, col] * (1 - right) + values[row, beside] * right
    lower = values[below, col] * (1 - right) + values[below, beside] * right
    return np.asarray(upper * (1 - down) + lower * down)


def _split(at: NDArray[np.float64], size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    clipped = np.clip(at, 0, size - 1)
    whole = np.floor(clipped)
    return whole.astype(np.intp), (clipped - whole).astype(np.float32)


def axis_distance(
    rows: NDArray[np.float64],
    cols: NDArray[np.float64],
    axis: tuple[tuple[float, float], tuple[float, float]],
) -> NDArray[np.float64]:
    """Distance of points to the segment between two (row, column) ends, in pixels."""
    (row, col), (row_end, col_end) = axis
    high, wide = row_end - row, col_end - col
    squared = high * high + wide * wide
    if squared:
        share = np.clip(((rows - row) * high + (cols - col) * wide) / squared, 0, 1)
    else:
        share = np.zeros_like(rows)
    return np.hypot(rows - (row + share * high), cols - (col + share * wide))
