"""How a scene is cut: a lattice of overlapping tiles anchored to the grid, and blocks that own pixels.

A tile is a core of ``tile - 2 * halo`` pixels with a halo around it. Cores lie side by side from the grid's
first pixel on, so a tile does not depend on the region that is processed.

Neighbours are blended over ``blend`` pixels on each side of the border between their cores; the rest of the
halo is there for the network to look at. Where the network looks no farther than that, neighbours agree, and
``blend`` can be 0: then every pixel is of one tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.errors import UsageError
from spectile.pipeline.geometry.grid import Window


@dataclass(frozen=True, order=True)
class Tile:
    """One tile of the lattice."""

    row: int
    """Row of the lattice."""
    col: int
    """Column of the lattice."""
    window: Window
    """The tile's pixels on the scene's grid, halo included; may reach beyond the scene."""

    @property
    def name(self) -> str:
        """The tile's name in errors and ledgers."""
        return f"r{self.row:04d}c{self.col:04d}"


@dataclass(frozen=True)
class Tiling:
    """The lattice of a scene."""

    shape: tuple[int, int]
    """(rows, columns) of the scene."""
    tile: int = 256
    """Rows and columns of a tile, halo included."""
    halo: int = 32
    """Pixels outside the core on each side; neighbouring tiles overlap by twice as many."""
    blend: int | None = None
    """Pixels outside the core on each side that count; None takes the halo."""
    step: int | None = None
    """Sides of the last row and column of tiles are cut to the least multiple of this that holds the scene
    and a halo; None leaves them whole."""

    def __post_init__(self) -> None:
        if self.tile < 1 or self.halo < 0:
            raise UsageError("tile and halo must be positive", got=f"tile {self.tile}, halo {self.halo}")
        if not 0 <= self.ramp <= self.halo or (self.step is not None and self.step < 1):
            raise ValueError(f"a tiling cannot blend {self.blend} px, or have steps of {self.step} px")
        if 2 * self.ramp > self.core or self.core < 1:
            least = 2 * self.halo + max(2 * self.ramp, 1)
            most = min((self.tile + 2 * (self.halo - self.ramp)) // 4, (self.tile - 1) // 2)
            raise UsageError(
                f"halo {self.halo} is too large for tile {self.tile}",
                got=f"an overlap of {2 * self.ramp} on a core of {self.core}",
                expected="an overlap no larger than the core",
                remedy=f"use --halo {most} or less, or --tile {least} or more",
            )

    @property
    def ramp(self) -> int:
        """Pixels on each side of a border between cores over which neighbours are blended."""
        return self.halo if self.blend is None else self.blend

    @property
    def core(self) -> int:
        """Rows and columns of the core; also the lattice's period."""
        return self.tile - 2 * self.halo

    @property
    def counts(self) -> tuple[int, int]:
        """(rows, columns) of the lattice."""
        return -(-self.shape[0] // self.core), -(-self.shape[1] // self.core)

    def check_stride(self, stride: int) -> None:
        """Raise UsageError unless tile and period are multiples of the network's stride."""
        for name, value in (("tile", self.tile), ("tile stride (tile − 2·halo)", self.core)):
            if value % stride:
                raise UsageError(
                    f"{name} {value} is not a multiple of the network's stride",
                    expected=f"a multiple of {stride}",
                    remedy="choose --tile and --halo so that both are",
                )

    def tile_at(self, row: int, col: int) -> Tile:
        """The tile at a row and column of the lattice."""
        sides = self._side(row, 0), self._side(col, 1)
        return Tile(row, col, Window(row * self.core - self.halo, col * self.core - self.halo, *sides))

    def _side(self, index: int, axis: int) -> int:
        """Pixels of a tile along an axis."""
        if self.step is None:
            return self.tile
        needed = self.shape[axis] - index * self.core + 2 * self.halo
        return min(self.tile, -(-needed // self.step) * self.step)

    def core_of(self, tile: Tile) -> Window:
        """The pixels of a tile's core; every pixel of the scene lies in one core."""
        return Window(tile.row * self.core, tile.col * self.core, self.core, self.core)

    @property
    def mean_size(self) -> float:
        """Pixels of a tile, in the mean over the lattice."""
        rows, cols = (
            ((count - 1) * self.tile + self._side(count - 1, axis)) / count
            for axis, count in enumerate(self.counts)
        )
        return rows * cols

    def share_of(self, tile: Tile) -> Window:
        """The pixels in which a tile counts: its core, and what is blended with its neighbours."""
        side = self.core + 2 * self.ramp
        return Window(tile.row * self.core - self.ramp, tile.col * self.core - self.ramp, side, side)

    def tiles(self, window: Window | None = None) -> Iterator[Tile]:
        """The tiles that contribute to a window of the scene (default: all), row by row."""
        window = window or Window(0, 0, *self.shape)
        rows = self._span(window.row, window.row_stop, 0)
        cols = self._span(window.col, window.col_stop, 1)
        for row in rows:
            for col in cols:
                yield self.tile_at(row, col)

    def count(self, window: Window) -> int:
        """The number of tiles that contribute to a window."""
        return self.span(window).size

    def span(self, window: Window) -> Window:
        """The rows and columns of the lattice whose tiles contribute to a window."""
        rows = self._span(window.row, window.row_stop, 0)
        cols = self._span(window.col, window.col_stop, 1)
        return Window(rows.start, cols.start, len(rows), len(cols))

    def _span(self, start: int, stop: int, axis: int) -> range:
        if stop <= start:
            return range(0)
        first = max(0, (start - self.ramp) // self.core)
        last = min(self.counts[axis], -(-(stop + self.ramp) // self.core))
        return range(first, last)


@dataclass(frozen=True, order=True)
class Block:
    """A rectangle of output pixels that is computed by one worker and written once."""

    row: int
    """Row of the block."""
    col: int
    """Column of the block."""
    window: Window
    """Its pixels on the scene's grid."""

    @property
    def name(self) -> str:
        """The block's name in errors and ledgers."""
        return f"r{self.row:04d}c{self.col:04d}"


def blocks(window: Window, block: int) -> Iterator[Block]:
    """The blocks of ``block`` x ``block`` pixels that cover a window, row by row; the last ones are cut."""
    for row in range(0, window.height, block):
        for col in range(0, window.width, block):
            square = Window(window.row + row, window.col + col, block, block)
            yield Block(row // block, col // block, square.intersection(window))


def reflected(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """The source index of each pixel from ``start`` to ``stop`` of an axis that is mirrored at its ends.

    The edge pixel is not repeated; mirrors repeat as often as needed. Shape (stop - start,).
    """
    index = np.arange(start, stop)
    if size == 1:
        return np.zeros(index.shape, dtype=np.intp)
    period = 2 * (size - 1)
    index = np.mod(index, period)
    return np.where(index < size, index, period - index).astype(np.intp)
