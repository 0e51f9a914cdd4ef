"""The weights for summing overlapping tiles, in closed form; at every pixel they sum to one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Tile, Tiling


def axis_weights(tiling: Tiling, index: int, axis: int) -> NDArray[np.float32]:
    """The weights of a tile along one axis, (tile,) float32, in [0, 1].

    One over the core, and over each overlap a raised-cosine ramp centred on the border between two
    cores, w = sin²(π/2 · t), whose mirror image 1 − w is the neighbour's; nothing beyond. With an overlap
    no larger than the core at most two tiles meet at a pixel of an axis, so the sum is one. At the scene's
    border, where there is no neighbour, the weight stays one.
    """
    weights = np.ones(tiling.tile, dtype=np.float64)
    overlap, unused = 2 * tiling.ramp, tiling.halo - tiling.ramp
    ramp = np.sin(0.5 * np.pi * (np.arange(overlap) + 0.5) / max(overlap, 1)) ** 2
    rise = np.concatenate([np.zeros(unused), ramp])
    if index > 0:
        weights[: rise.size] = rise
    if index < tiling.counts[axis] - 1:
        weights[tiling.tile - rise.size :] = rise[::-1]
    return weights.astype(np.float32)


def tile_weights(tiling: Tiling, tile: Tile, window: Window) -> NDArray[np.float32]:
    """The weights of a tile over a window inside it, (h, w) float32."""
    inside = window.relative_to(tile.window)
    rows = axis_weights(tiling, tile.row, 0)[inside.slices[0]]
    cols = axis_weights(tiling, tile.col, 1)[inside.slices[1]]
    return rows[:, None] * cols[None, :]
