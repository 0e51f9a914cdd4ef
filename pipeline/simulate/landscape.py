"""A landscape as a function of position: hashes, smooth noise, and the parcels, roads, lots and trees.

All values depend only on a seed and on absolute coordinates in metres, so any window equals the crop of the
whole. Per-pixel work uses only operations that are exact or correctly rounded (+, -, *, /, sqrt, comparisons,
look-ups): no result depends on a pixel's position in an array.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Index = NDArray[np.int64]

Position = NDArray[np.float64]
T = TypeVar("T", bound=np.generic)

_U = np.uint64


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014), elementwise."""
    value = (value ^ (value >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> _U(27))) * _U(0x94D049BB133111EB)
    return value ^ (value >> _U(31))


def cell_bits(key: tuple[int, int], i: Index, j: Index) -> NDArray[np.uint64]:
    """64 random bits for each integer cell (i, j) under a key of (seed, purpose); i and j broadcast."""
    salt = _mix(np.array([(key[0] * 0x9E3779B97F4A7C15 + key[1] * 0xD1B54A32D192ED03) % 2**64], dtype=_U))
    rows = _mix(np.asarray(i, dtype=np.int64).astype(_U) * _U(0x9E3779B97F4A7C15) + salt)
    return _mix(rows ^ (np.asarray(j, dtype=np.int64).astype(_U) * _U(0xC2B2AE3D27D4EB4F)))


def cell_uniform(key: tuple[int, int], i: Index, j: Index) -> Array:
    """A float32 in [0, 1) for each integer cell (i, j)."""
    return ((cell_bits(key, i, j) >> _U(40)).astype(np.float32)) * np.float32(2.0**-24)


def pixel_normal(key: tuple[int, int], i: Index, j: Index) -> Array:
    """A nearly standard normal float32 for each pixel (i, j): the sum of four uniforms."""
    bits = cell_bits(key, i, j)
    total = sum(((bits >> _U(s)) & _U(0xFFFF)).astype(np.float32) for s in (0, 16, 32, 48))
    return np.asarray((total * np.float32(2.0**-16) - np.float32(2.0)) * np.float32(np.sqrt(3.0)))


def _lattice(position: NDArray[np.float64], scale: float) -> tuple[Index, Array]:
    cell = np.floor(position / scale)
    t = position / scale - cell
    return cell.astype(np.int64), (t * t * (3.0 - 2.0 * t)).astype(np.float32)


def noise(key: tuple[int, int], y: NDArray[np.float64], x: NDArray[np.float64], scale: float) -> Array:
    """Value noise in [0, 1) with features of ``scale`` metres.

    ``y`` of (h, 1) and ``x`` of (1, w) give an (h, w) field, computed separably; otherwise y and x are
    points of one shape.
    """
    i, fy = _lattice(y, scale)
    j, fx = _lattice(x, scale)
    i0, j0 = int(i.min()), int(j.min())
    rows, cols = np.arange(i0, int(i.max()) + 2), np.arange(j0, int(j.max()) + 2)
    table = cell_uniform(key, rows[:, None], cols[None, :])
    i, j = i - i0, j - j0
    if y.ndim == 2 and y.shape[1] == 1 and x.shape[0] == 1:
        left, right = table[:, j[0]], table[:, j[0] + 1]
        across = left + (right - left) * fx
        top = across[i[:, 0]]
        return np.asarray(top + (across[i[:, 0] + 1] - top) * fy)
    top = table[i, j] + (table[i, j + 1] - table[i, j]) * fx
    bottom = table[i + 1, j] + (table[i + 1, j + 1] - table[i + 1, j]) * fx
    return np.asarray(top + (bottom - top) * fy)


def octaves(
    key: tuple[int, int], y: NDArray[np.float64], x: NDArray[np.float64], scale: float, *, count: int
) -> Array:
    """Value noise summed over ``count`` octaves from ``scale`` metres down by 2.3, in [-1, 1]."""
    total = np.zeros(np.broadcast_shapes(y.shape, x.shape), dtype=np.float32)
    size, norm = 1.0, 0.0
    for octave in range(count):
        total += np.float32(2.0 * size) * noise((key[0], key[1] * 64 + octave), y, x, scale / 2.3**octave)
        norm += size
        size *= 0.62
    return np.asarray((total - np.float32(norm)) * np.float32(1.0 / norm))


def coverage(inside_m: NDArray[np.floating[Any]], pixel_size_m: float) -> Array:
    """The share of a pixel that an object covers whose edge lies ``inside_m`` metres beyond the centre."""
    share = inside_m * np.float32(1.0 / pixel_size_m) + np.float32(0.5)
    return np.asarray(np.clip(share, np.float32(0.0), np.float32(1.0)))


@dataclass(frozen=True)
class Cells:
    """The lattice cells of many points. Random values are drawn once per cell and then looked up."""

    seed: int
    """The landscape's seed."""
    i: Index
    """(n, 1) every row of the lattice that occurs."""
    j: Index
    """(1, m) every column."""
    place: Index
    """The index of each point's cell among the n * m."""

    @classmethod
    def of(cls, seed: int, i: Index, j: Index) -> Cells:
        """The cells (i, j) of points; i and j have one shape."""
        i0, j0 = i.min(), j.min()
        rows, cols = np.arange(i0, i.max() + 1), np.arange(j0, j.max() + 1)
        return cls(seed, rows[:, None], cols[None, :], (i - i0) * cols.size + (j - j0))

    def pick(self, purpose: int) -> Array:
        """A float32 in [0, 1) for each point, constant within a cell."""
        return self.look_up(cell_uniform((self.seed, purpose), self.i, self.j))

    def look_up(self, table: NDArray[T]) -> NDArray[T]:
        """The values of an (n, m) table at each point's cell."""
        return table.ravel().take(self.place)


FIELD, MEADOW, FOREST, RESIDENTIAL, COMMERCIAL, PARK, BARE, ORCHARD = range(8)
"""The kinds of parcel."""

_ROW_M, _COLUMN_M = 92.0, 124.0


@dataclass(frozen=True)
class Parcels:
    """The positions of points relative to the parcels."""

    u: Array
    """Metres across the rows of parcels, in the landscape's own turned and bent frame."""
    v: Array
    """Metres along them."""
    row: Index
    """The parcel's row."""
    column: Index
    """The parcel's column."""
    row_border: Index
    """Which border between rows is nearest: the row above it."""
    row_distance: Array
    """Metres to it."""
    column_border: Index
    """Which border between columns is nearest: the column left of it."""
    column_distance: Array
    """Metres to it."""
    along: Array
    """The fraction of the parcel's length along v at which the point lies, about 0 to 1."""


def _bricks(
    key: tuple[int, int], line: Index, position: NDArray[np.float64], size: float
) -> tuple[Index, Index, Array, Array]:
    """Cell, nearest border (the cell before it), distance to it, and fraction of the cell."""

    def border(k: Index) -> NDArray[np.float64]:
        lo, l0 = int(k.min()), int(line.min())
        ks, ls = np.arange(lo, int(k.max()) + 1), np.arange(l0, int(line.max()) + 1)
        jitter = cell_uniform(key, ls[:, None], ks[None, :])
        return np.asarray((k + 0.5 * jitter[line - l0, k - lo]) * size)

    k = np.floor(position / size).astype(np.int64)
    k = k - (position < border(k))
    low, high = border(k), border(k + 1)
    to_low, to_high = position - low, high - position
    first = to_low < to_high
    nearest = np.where(first, k - 1, k)
    return (
        k,
        nearest,
        np.where(first, to_low, to_high).astype(np.float32),
        (to_low / (high - low)).astype(np.float32),
    )


@dataclass(frozen=True)
class Landscape:
    """The layout of one seed."""

    seed: int
    """The seed of the layout."""

    def _turn(self) -> tuple[float, float]:
        """Cosine and sine of the angle between the landscape's frame and the grid."""
        t = 2.0 * float(cell_uniform((self.seed, 1), np.array([0]), np.array([0]))[0]) - 1.0
        return (1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t)

    def frame(
        self, y: NDArray[np.float64], x: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The rotated and slightly bent coordinates (u, v), metres, in which parcels are rectangles."""
        c, s = self._turn()
        bend_u = 46.0 * noise((self.seed, 2), y, x, 310.0).astype(np.float64)
        bend_v = 46.0 * noise((self.seed, 3), y, x, 290.0).astype(np.float64)
        return c * y + s * x + bend_u, c * x - s * y + bend_v

    def unframe(
        self, u: NDArray[np.float64], v: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The position (y, x) of points (u, v), to some decimetres; the bend is inverted by iteration."""
        y, x = u, v
        c, s = self._turn()
        for _ in range(6):
            bent_u, bent_v = self.frame(y, x)
            off_u, off_v = u - bent_u, v - bent_v
            y, x = y + c * off_u - s * off_v, x + s * off_u + c * off_v
        return y, x

    def parcels(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> Parcels:
        """The positions of points (u, v) relative to the parcels."""
        row, row_border, row_distance, _ = _bricks((self.seed, 4), np.zeros_like(u, np.int64), u, _ROW_M)
        column, column_border, column_distance, along = _bricks((self.seed, 5), row, v, _COLUMN_M)
        return Parcels(
            u.astype(np.float32), v.astype(np.float32), row, column, row_border, row_distance,
            column_border, column_distance, along,
        )  # fmt: skip

    def kind(self, row: Index, column: Index) -> NDArray[np.int8]:
        """The kind of each parcel: towns, farmland and woods change over some hundreds of metres."""
        y, x = (row + np.float64(0.5)) * _ROW_M, (column + np.float64(0.5)) * _COLUMN_M
        town = noise((self.seed, 6), y, x, 380.0) + 0.12 * (self.pick(7, row, column) - 0.5)
        chance = self.pick(8, row, column)
        rural = np.select(
            [chance < 0.46, chance < 0.63, chance < 0.79, chance < 0.88],
            [FIELD, MEADOW, FOREST, ORCHARD],
            BARE,
        )
        urban = np.select([chance < 0.6, chance < 0.83, chance < 0.93], [RESIDENTIAL, COMMERCIAL, PARK], BARE)
        return np.where(town > 0.52, urban, rural).astype(np.int8)

    def pick(self, purpose: int, i: Index, j: Index) -> Array:
        """A float32 in [0, 1) for each cell (i, j); for many points per cell, use ``Cells``."""
        return cell_uniform((self.seed, purpose), i, j)

    def shore(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> Array:
        """About how many metres a point lies inside water; negative on land."""
        river = noise((self.seed, 9), y, x, 640.0) + np.float32(0.06) * noise((self.seed, 10), y, x, 70.0)
        lake = noise((self.seed, 11), y, x, 330.0) + np.float32(0.08) * noise((self.seed, 12), y, x, 45.0)
        wet = np.maximum(
            (np.float32(0.017) - np.abs(river - np.float32(0.55))) * np.float32(400.0),
            (lake - np.float32(0.93)) * np.float32(200.0),
        )
        return np.asarray(wet)
