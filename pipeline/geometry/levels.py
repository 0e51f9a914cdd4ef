"""The levels of a cube: itself, and overviews that are each half as large as the one before. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from affine import Affine

from spectile.pipeline.geometry.grid import Grid

FOLDER = "overviews"
"""The group that holds the groups of the overviews."""
SMALLEST = 512
"""Overviews end with the first whose rows and columns are no more than this."""


@dataclass(frozen=True)
class Level:
    """One level of a cube."""

    factor: int
    """Rows and columns of the cube along one of this level; 1 is the cube itself."""
    shape: tuple[int, int]
    """(rows, columns); the last pixel may lie in part outside the cube."""
    shards: tuple[tuple[int, int], ...]
    """(row, column) of the shards that are written, row by row."""

    @property
    def folder(self) -> str:
        """The path of its group inside the cube's; empty for the cube itself."""
        return "" if self.factor == 1 else f"{FOLDER}/{self.factor}"

    def key(self, name: str) -> str:
        """The key in the store of what has this name in the level's group."""
        return f"{self.folder}/{name}" if self.folder else name

    def grid(self, cube: Grid) -> Grid:
        """The level's grid, from that of the cube."""
        return Grid(self.shape, cube.transform @ Affine.scale(self.factor), cube.crs_wkt)

    def finer(self, row: int, col: int) -> list[tuple[int, int]]:
        """(row, column) of the shards of the level before that lie under one, written or not."""
        return [(2 * row + down, 2 * col + right) for down in (0, 1) for right in (0, 1)]


def levels(shape: tuple[int, int], shards: Iterable[tuple[int, int]]) -> list[Level]:
    """The cube and its overviews, the finest first.

    Parameters
    ----------
    shape : (rows, columns) of the cube.
    shards : (row, column) of its shards that are written.
    """
    found = [Level(1, shape, tuple(sorted(shards)))]
    while max(found[-1].shape) > SMALLEST:
        last = found[-1]
        halved = sorted({(row // 2, col // 2) for row, col in last.shards})
        rows, cols = (-(-size // 2) for size in last.shape)
        found.append(Level(2 * last.factor, (rows, cols), tuple(halved)))
    return found
