"""The levels of a cube: the cube itself, and overviews, each with half the rows and columns of the last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from affine import Affine

from spectile.pipeline.geometry.grid import Grid

FOLDER = "overviews"
"""The group that holds the groups of the overviews."""
SMALLEST = 512
"""The coarsest overview is the first with at most this many rows and columns."""


@dataclass(frozen=True)
class Level:
    """One level of a cube."""

    factor: int
    """Number of the cube's rows and columns along one of this level; 1 is the cube itself."""
    shape: tuple[int, int]
    """(rows, columns); the last pixel may lie in part outside the cube."""
    shards: tuple[tuple[int, int], ...]
    """(row, column) of the written shards, row by row."""

    @cached_property
    def written(self) -> frozenset[tuple[int, int]]:
        """The written shards."""
        return frozenset(self.shards)

    @property
    def folder(self) -> str:
        """The path of its group in the cube; empty for the cube itself."""
        return "" if self.factor == 1 else f"{FOLDER}/{self.factor}"

    def key(self, name: str) -> str:
        """The store key of the object with this name in the level's group."""
        return f"{self.folder}/{name}" if self.folder else name

    def grid(self, cube: Grid) -> Grid:
        """The level's grid, computed from the cube's."""
        return Grid(self.shape, cube.transform @ Affine.scale(self.factor), cube.crs_wkt)

    def finer(self, row: int, col: int) -> list[tuple[int, int]]:
        """(row, column) of the four shards of the finer level under a shard, written or not."""
        return [(2 * row + down, 2 * col + right) for down in (0, 1) for right in (0, 1)]


def levels(shape: tuple[int, int], shards: Iterable[tuple[int, int]]) -> list[Level]:
    """The cube and its overviews, the finest first.

    Parameters
    ----------
    shape : (rows, columns) of the cube.
    shards : (row, column) of its written shards.
    """
    made = [Level(1, shape, tuple(sorted(shards)))]
    while max(made[-1].shape) > SMALLEST:
        last = made[-1]
        halved = sorted({(row // 2, col // 2) for row, col in last.shards})
        rows, cols = (-(-size // 2) for size in last.shape)
        made.append(Level(2 * last.factor, (rows, cols), tuple(halved)))
    return made
