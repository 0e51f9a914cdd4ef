"""Trees of a simulated landscape: crowns on a jittered lattice, off roads, buildings and water."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectile.pipeline.simulate.buildings import halls, houses
from spectile.pipeline.simulate.landscape import (
    FIELD,
    FOREST,
    MEADOW,
    ORCHARD,
    PARK,
    Array,
    Index,
    Landscape,
    Position,
    coverage,
    octaves,
)

MAX_HEIGHT_M = 14.0
"""Largest height of any object, so that the length of shadows is bounded, metres."""

_CELL_M = 6.4

# The share of lattice cells with a tree, by kind of parcel.
_SHARE = np.array([0.0, 0.02, 0.97, 0.20, 0.07, 0.30, 0.03, 0.0], np.float32)


@dataclass(frozen=True)
class Crowns:
    """The visible crowns at each pixel; zero where there is none."""

    alpha: Array
    """The share of the pixel under crowns."""
    height: Array
    """Height of the crown's surface, metres."""
    stand: Array
    """A number in 0 to 1 drawn for the parcel in which the tree stands."""
    own: Array
    """A number in 0 to 1 drawn for the tree."""
    of_stand: NDArray[np.bool_]
    """Whether the tree has the species of its stand, like most trees in a wood."""
    state: Array
    """The state of the foliage, 0 to 1."""


@dataclass(frozen=True)
class _Trees:
    y: Position
    x: Position
    radius: Array
    height: Array
    stand: Array
    own: Array
    wood: NDArray[np.bool_]
    state: Array


def grown(land: Landscape, y: Position, x: Position, rough: Array, pixel_size_m: float) -> Crowns:
    """The crowns at pixels y (h, 1) and x (1, w), their outline roughened by ``rough`` in -1 to 1."""
    i, j = (np.floor(axis.ravel() / _CELL_M).astype(np.int64) for axis in (y, x))
    ti, tj = np.meshgrid(np.arange(i[0] - 1, i[-1] + 2), np.arange(j[0] - 1, j[-1] + 2), indexing="ij")
    trees = _trees(land, ti, tj)
    shape = rough.shape
    ragged = (np.float32(1.0) + np.float32(0.55) * rough).ravel()
    best, alpha = np.zeros(rough.size, np.float32), np.zeros(rough.size, np.float32)
    tree = np.zeros(rough.size, np.int64)
    for di in (0, 1, 2):
        for dj in (0, 1, 2):
            cell = ((i - i[0] + di) * ti.shape[1])[:, None] + (j - j[0] + dj)[None, :]
            here = np.flatnonzero(trees.radius.ravel().take(cell))
            if not here.size:
                continue
            at = cell.ravel()[here]
            row, col = here // shape[1], here % shape[1]
            dy = (y.ravel()[row] - trees.y.ravel()[at]).astype(np.float32)
            dx = (x.ravel()[col] - trees.x.ravel()[at]).astype(np.float32)
            radius = trees.radius.ravel()[at]
            distance = np.sqrt((dy * dy + dx * dx) * ragged[here])
            share = coverage(radius - distance, pixel_size_m)
            inside = np.flatnonzero(share)
            here, at, share, part = here[inside], at[inside], share[inside], distance[inside] / radius[inside]
            dome = np.sqrt(np.maximum(np.float32(1.0) - part * part, 0.0))
            z = trees.height.ravel()[at] * (np.float32(0.45) + np.float32(0.55) * dome) * share
            top = z > best[here]
            best[here[top]], tree[here[top]] = z[top], at[top]
            alpha[here] = np.maximum(alpha[here], share)

    def of(values: NDArray[np.float32]) -> Array:
        return values.ravel().take(tree).reshape(shape)

    of_stand = (trees.wood & (trees.own < 0.7)).ravel().take(tree).reshape(shape)
    return Crowns(
        alpha.reshape(shape), best.reshape(shape), of(trees.stand), of(trees.own), of_stand, of(trees.state)
    )


def _trees(land: Landscape, ti: Index, tj: Index) -> _Trees:
    """The tree of each lattice cell; its radius is 0 where there is none."""
    y = (ti + 0.2 + 0.6 * land.pick(50, ti, tj)) * _CELL_M
    x = (tj + 0.2 + 0.6 * land.pick(51, ti, tj)) * _CELL_M
    u, v = land.frame(y, x)
    p = land.parcels(u, v)
    kind = land.kind(p.row, p.column)
    grove = octaves((land.seed, 203), y, x, 45.0, count=2)
    share = _SHARE[kind]
    share = np.where((kind == PARK) | (kind == MEADOW), share * (np.float32(1.0) + 2 * grove), share)
    # Hedges stand along some borders between columns outside towns.
    rural = (kind == FIELD) | (kind == MEADOW) | (kind == ORCHARD)
    hedge = rural & (p.column_distance < 4.0) & (land.pick(33, p.row, p.column_border) > 0.7)
    share = np.where(hedge, np.float32(0.8), share)
    wood = kind == FOREST
    radius = (1.5 + 2.4 * land.pick(53, ti, tj)) * np.where(wood, 1.25, 1.0) * np.where(hedge, 0.8, 1.0)
    built = np.maximum(houses(land, u, v).inside, halls(land, u, v).inside)
    clear = (p.row_distance > radius + 4.0) & (hedge | (p.column_distance > radius + 3.0))
    clear &= (built < -radius) & (land.shore(y, x) < -radius)
    radius = np.where(clear & (land.pick(52, ti, tj) < share), radius, 0.0).astype(np.float32)
    height = np.minimum(2.5 + 2.1 * radius + 2.0 * land.pick(54, ti, tj), MAX_HEIGHT_M).astype(np.float32)
    state = np.float32(0.2) + np.float32(0.6) * land.pick(57, ti, tj)
    stand, own = land.pick(55, p.row, p.column), land.pick(56, ti, tj)
    return _Trees(y, x, radius, height, stand, own, wood, state)
