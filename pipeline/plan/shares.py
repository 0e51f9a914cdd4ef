"""Which parts of a flight line each of its scenes has a share in: cells of a lattice, as runs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectile.pipeline.geometry.clip import Clip
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Tiling, reflected

Runs = tuple[tuple[int, int, int], ...]
"""Cells of a lattice: (row, first column, column after the last), row by row."""


@dataclass(frozen=True)
class Share:
    """One scene of a flight line, and where it can change the cube."""

    facts: Mapping[str, object]
    """What identifies the scene and its pixels, as plain JSON values: name, sha256, radiometry, …"""
    shards: Runs
    """Shards of the plan's window that hold a valid pixel of it."""
    tiles: Runs
    """Tiles of the lattice that hold a valid pixel of it, halo included."""

    def to_json(self) -> dict[str, object]:
        """The share as plain values."""
        return {**self.facts, "shards": [list(run) for run in self.shards],
                "tiles": [list(run) for run in self.tiles]}  # fmt: skip

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Share:
        """The share that ``to_json`` wrote."""
        facts = {key: value for key, value in stored.items() if key not in ("shards", "tiles")}
        return cls(facts, *(tuple((r, c, s) for r, c, s in stored[key]) for key in ("shards", "tiles")))

    def check(self, *, shards: tuple[int, int], tiles: tuple[int, int]) -> None:
        """Raise ValueError where a run leaves its lattice of so many rows and columns."""
        for runs, (rows, cols) in ((self.shards, shards), (self.tiles, tiles)):
            for row, start, stop in runs:
                if not (0 <= row < rows and 0 <= start < stop <= cols):
                    raise ValueError(f"a scene's share {(row, start, stop)} in {rows} × {cols}")

    def touches(self, tiles: Window) -> bool:
        """Whether a rectangle of the lattice, rows and columns of tiles, holds one of its tiles."""
        return any(
            tiles.row <= row < tiles.row_stop and col < tiles.col_stop and tiles.col < stop
            for row, col, stop in self.tiles
        )


MOST_CELLS = 2**18
"""Squares of a window at most that are held against a polygon, if they are not shards already."""


def clip_share(clip: Clip, tiling: Tiling, window: Window, shard: int) -> Share:
    """The shards of a window, and the tiles, that a polygon meets."""
    side = 16
    while side < shard and -(-window.height // side) * -(-window.width // side) > MOST_CELLS:
        side *= 2
    rows, cols = np.nonzero(clip.squares(window, side))
    rows, cols = window.row + rows * side, window.col + cols * side
    last_rows = np.minimum(rows + side, window.row_stop) - 1
    last_cols = np.minimum(cols + side, window.col_stop) - 1
    boxes = np.stack([rows, last_rows, cols, last_cols])
    return Share(
        {"sha256": clip.digest}, to_runs(shards_met(boxes, window, shard)), to_runs(tiles_met(boxes, tiling))
    )


def cells(runs: Iterable[tuple[int, int, int]]) -> set[tuple[int, int]]:
    """The (row, column) of each cell of the runs."""
    return {(row, col) for row, start, stop in runs for col in range(start, stop)}


def to_runs(cells: NDArray[np.bool_]) -> Runs:
    """The cells where ``cells`` (rows, columns) bool is True, as runs."""
    edges = np.diff(np.pad(cells, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    return tuple((int(r), int(a), int(b)) for r, a, b in zip(rows, starts, stops, strict=True))


def shards_met(boxes: NDArray[np.int64], window: Window, shard: int) -> NDArray[np.bool_]:
    """The shards of a window that rectangles of pixels touch: (rows, columns) bool.

    Parameters
    ----------
    boxes : (4, N), first row, last row, first column, last column on the grid; empty where last < first.
    """
    first_row, last_row = _clip(boxes[0], boxes[1], window.row, window.row_stop)
    first_col, last_col = _clip(boxes[2], boxes[3], window.col, window.col_stop)
    shape = -(-window.height // shard), -(-window.width // shard)
    kept = (first_row <= last_row) & (first_col <= last_col)
    rows = [(edge[kept] - window.row) // shard for edge in (first_row, last_row)]
    cols = [(edge[kept] - window.col) // shard for edge in (first_col, last_col)]
    return _filled(shape, rows[0], rows[1], cols[0], cols[1])


def tiles_met(boxes: NDArray[np.int64], tiling: Tiling) -> NDArray[np.bool_]:
    """Which tiles of the lattice show the pixels of rectangles, mirrored ones included: as ``counts``, bool.

    Parameters
    ----------
    boxes : as of ``shards_met``.
    """
    rows, cols = tiling.shape
    first_row, last_row = _clip(boxes[0], boxes[1], 0, rows)
    first_col, last_col = _clip(boxes[2], boxes[3], 0, cols)
    kept = (first_row <= last_row) & (first_col <= last_col)
    at_rows = _showing(first_row[kept], last_row[kept], tiling, 0)
    at_cols = _showing(first_col[kept], last_col[kept], tiling, 1)
    return _filled(tiling.counts, *at_rows, *at_cols)


def _showing(
    first: NDArray[np.int64], last: NDArray[np.int64], tiling: Tiling, axis: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last tile along an axis whose window shows pixels from ``first`` to ``last``."""
    origins = np.arange(tiling.counts[axis]) * tiling.core - tiling.halo
    shown = [reflected(int(start), int(start) + tiling.tile, tiling.shape[axis]) for start in origins]
    lowest = np.array([pixels.min() for pixels in shown])
    highest = np.maximum.accumulate([pixels.max() for pixels in shown])
    # The last tile may mirror pixels far before its own; counting the tile before it too is on the safe side.
    lowest = np.minimum.accumulate(lowest[::-1])[::-1]
    return np.searchsorted(highest, first), np.searchsorted(lowest, last, side="right") - 1


def _clip(
    first: NDArray[np.int64], last: NDArray[np.int64], start: int, stop: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.maximum(first, start), np.minimum(last, stop - 1)


def _filled(
    shape: tuple[int, int],
    first_row: NDArray[np.int64],
    last_row: NDArray[np.int64],
    first_col: NDArray[np.int64],
    last_col: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """A mask of rectangles of cells: differences at their corners, summed along both axes."""
    rows, cols = shape[0] + 1, shape[1] + 1
    corners = (
        (first_row, first_col, 1), (first_row, last_col + 1, -1),
        (last_row + 1, first_col, -1), (last_row + 1, last_col + 1, 1),
    )  # fmt: skip
    summed = np.zeros(rows * cols, dtype=np.int64)
    for row, col, sign in corners:
        summed += sign * np.bincount(row * cols + col, minlength=rows * cols)
    return np.asarray(summed.reshape(rows, cols).cumsum(axis=0).cumsum(axis=1)[:-1, :-1] > 0)
