"""The pixels of a cube whose spectra its quicklook and its report show, under the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.levels import FOLDER

POINTS = 6
"""Pixels at most."""

LARGEST_SIDE = 800
"""Rows and columns at most of the overview on which they are chosen."""


def choose_points(group: Any) -> list[tuple[int, int]]:
    """(row, col) of valid pixels near the middles of parts of the valid ones, from top to bottom.

    Parameters
    ----------
    group : the opened Zarr group of a cube with its overviews.
    """
    shape = group["valid"].shape
    step, level = finest_level(group, LARGEST_SIDE)
    known = np.argwhere(level["valid"][:] > 0)
    if not len(known):
        return []
    points = []
    for row, col in sorted(_middles(known)):
        at = Window(row * step, col * step, step, step).intersection(Window(0, 0, *shape))
        inside = np.argwhere(group["valid"][at.slices])
        if len(inside):
            down, right = inside[len(inside) // 2]
            points.append((at.row + int(down), at.col + int(right)))
    return points


def finest_level(group: Any, side: int) -> tuple[int, Any]:
    """The finest level of a cube with at most ``side`` rows and columns: its factor and its opened group."""
    step = 1
    while max(group["valid"].shape) > step * side:
        step *= 2
    return step, group if step == 1 else group[f"{FOLDER}/{step}"]


def _middles(known: NDArray[np.int64]) -> set[tuple[int, int]]:
    """Of places (N, 2) those that are nearest to the middles of parts of like size."""
    sparse = known[:: max(1, len(known) // 4096)].astype(np.float64)
    middles = sparse[np.linspace(0, len(sparse) - 1, POINTS).astype(int)]
    for _ in range(20):  # k-means
        nearest = np.square(sparse[:, None] - middles).sum(axis=2).argmin(axis=1)
        middles = np.array(
            [sparse[nearest == part].mean(axis=0) if (nearest == part).any() else middles[part]
             for part in range(POINTS)]
        )  # fmt: skip
    chosen = [sparse[np.square(sparse - middle).sum(axis=1).argmin()] for middle in middles]
    return {(int(row), int(col)) for row, col in chosen}
