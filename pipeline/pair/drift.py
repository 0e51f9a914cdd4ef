"""Where the MSI lies against the HSI: one shift, and how it changes over the scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST_PLACES = 6
"""Places at which a shift must be known before a plane is laid through them."""
LEAST_SPREAD = 0.25
"""Part of the scene's sides over which they must be spread."""
LEAST_GAIN = 0.3
"""Part by which a plane must reduce the scatter of shifts about what the other places tell of them."""
LEAST_BEND = 0.1
"""Fine pixels by which a plane must leave its middle somewhere in the scene."""


@dataclass(frozen=True)
class Drift:
    """A shift that changes linearly over the scene: fine pixels, positive where the MSI lies down, right."""

    row: float = 0.0
    """Rows, in the middle of the grid."""
    col: float = 0.0
    """Columns, there."""
    slopes: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Change of ``row`` a row and a column, and of ``col`` a row and a column."""

    @property
    def is_constant(self) -> bool:
        """Whether it is the same everywhere."""
        return not any(self.slopes)

    def at(self, rows: Floats, cols: Floats, shape: tuple[int, int]) -> tuple[Floats, Floats]:
        """Rows and columns of what stands at these places of a grid of this shape, in the MSI as it lies."""
        down, right = rows - shape[0] / 2, cols - shape[1] / 2
        a, b, c, d = self.slopes
        return rows + (self.row + a * down + b * right), cols + (self.col + c * down + d * right)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"shift": [self.row, self.col], "slopes": list(self.slopes)}

    @classmethod
    def from_json(cls, facts: Any) -> Drift:
        """What ``to_json`` gave."""
        row, col = facts["shift"]
        a, b, c, d = facts["slopes"]
        return cls(row, col, (a, b, c, d))


def fit_drift(shift: tuple[float, float], field: Floats, shape: tuple[int, int]) -> Drift:
    """One shift, or the plane through a field of shifts where that tells clearly more.

    Parameters
    ----------
    shift : (row, col) of the whole scene, fine pixels.
    field : (n, 4) row, col, drow, dcol: the shift about n places, fine pixels.
    shape : of the fine grid.
    """
    constant = Drift(float(shift[0]), float(shift[1]))
    places = (field[:, :2] - np.array(shape) / 2) if len(field) else np.zeros((0, 2))
    if len(field) < LEAST_PLACES or (np.ptp(places, axis=0) < LEAST_SPREAD * np.array(shape)).any():
        return constant
    matrix = np.column_stack([np.ones(len(places)), places])
    kept = np.ones(len(places), dtype=bool)
    for _ in range(2):  # once more without places that lie far off
        plane, *_ = np.linalg.lstsq(matrix[kept], field[kept, 2:], rcond=None)
        off = np.hypot(*(field[:, 2:] - matrix @ plane).T)
        kept = off <= 3 * max(float(np.median(off)), 0.02)
    if kept.sum() < LEAST_PLACES:
        return constant
    scatter = _left_out(matrix[kept], field[kept, 2:])
    before = _left_out(matrix[kept, :1], field[kept, 2:])
    bend = np.abs(plane[1:]) * (np.array(shape) / 2)[:, None]
    if scatter > (1 - LEAST_GAIN) * before or bend.sum(axis=0).max() < LEAST_BEND:
        return constant
    (row, col), (a, c), (b, d) = plane.tolist()
    return Drift(row, col, (a, b, c, d))


def _left_out(matrix: Floats, shifts: Floats) -> float:
    """The scatter of shifts about what the other places alone tell of each, root of the summed squares."""
    hat = matrix @ np.linalg.pinv(matrix)
    left = (shifts - hat @ shifts) / (1 - np.diag(hat))[:, None]
    return float(np.sqrt(np.square(left).sum()))
