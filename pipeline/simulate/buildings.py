"""Buildings of a simulated landscape: rectangles on a lattice of lots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectile.pipeline.simulate.landscape import (
    COMMERCIAL,
    RESIDENTIAL,
    Array,
    Cells,
    Index,
    Landscape,
    Position,
)


@dataclass(frozen=True)
class Boxes:
    """Rectangles, at most one in each cell of a lattice in the landscape's frame, seen from points."""

    a: Array
    """Position along the rectangle's long side from its centre, metres."""
    b: Array
    """Position along its short side, metres."""
    half_a: Array
    """Half its length, metres."""
    half_b: Array
    """Half its width, metres."""
    present: NDArray[np.bool_]
    """Whether there is one."""
    cells: Cells
    """The lattice cells."""
    i: Index
    """The lattice row of each point."""
    j: Index
    """The lattice column of each point."""

    @property
    def inside(self) -> Array:
        """Metres inside the rectangle; negative outside."""
        reach = np.minimum(self.half_a - np.abs(self.a), self.half_b - np.abs(self.b))
        return np.where(self.present, reach, np.float32(-99.0))


def _boxes(
    land: Landscape,
    u: Position,
    v: Position,
    *,
    purpose: int,
    size: tuple[float, float],
    half: tuple[tuple[float, float], tuple[float, float]],
    kind: int,
    share: float,
) -> Boxes:
    """Buildings of parcels of one ``kind``: in a ``share`` of the cells of ``size`` metres, off the roads."""
    i, j = np.floor(u / size[0]).astype(np.int64), np.floor(v / size[1]).astype(np.int64)
    cells = Cells.of(land.seed, i, j)
    ci, cj = np.broadcast_arrays(cells.i, cells.j)

    def pick(n: int) -> Array:
        return land.pick(purpose + n, ci, cj)

    half_a = half[0][0] + (half[0][1] - half[0][0]) * pick(0)
    half_b = half[1][0] + (half[1][1] - half[1][0]) * pick(1)
    turned = pick(2) < 0.5
    reach_u, reach_v = np.where(turned, half_a, half_b), np.where(turned, half_b, half_a)
    centre_u = (ci + 0.5) * size[0] + (pick(3) - 0.5) * np.maximum(size[0] - 2.3 * reach_u, 0.0)
    centre_v = (cj + 0.5) * size[1] + (pick(4) - 0.5) * np.maximum(size[1] - 2.3 * reach_v, 0.0)
    parcels = land.parcels(centre_u, centre_v)
    clear = (parcels.row_distance > reach_u + 8.0) & (parcels.column_distance > reach_v + 7.0)
    here = clear & (land.kind(parcels.row, parcels.column) == kind) & (pick(5) < share)
    here &= land.shore(*land.unframe(centre_u, centre_v)) < -(np.maximum(reach_u, reach_v) + 6.0)
    du = (u - cells.look_up(centre_u)).astype(np.float32)
    dv = (v - cells.look_up(centre_v)).astype(np.float32)
    tilt = np.float32(0.16) * (cells.look_up(pick(6)) - np.float32(0.5))
    du, dv = du + tilt * dv, dv - tilt * du
    along = cells.look_up(turned)
    return Boxes(
        np.where(along, du, dv),
        np.where(along, dv, du),
        cells.look_up(half_a),
        cells.look_up(half_b),
        cells.look_up(here),
        cells,
        i,
        j,
    )


def houses(land: Landscape, u: Position, v: Position) -> Boxes:
    """The houses of residential parcels."""
    half = ((4.5, 7.5), (3.5, 5.0))
    return _boxes(land, u, v, purpose=100, size=(24.0, 19.0), half=half, kind=RESIDENTIAL, share=0.88)


def halls(land: Landscape, u: Position, v: Position) -> Boxes:
    """The halls of commercial parcels."""
    half = ((10.0, 17.0), (7.0, 12.0))
    return _boxes(land, u, v, purpose=120, size=(37.0, 41.0), half=half, kind=COMMERCIAL, share=0.9)
