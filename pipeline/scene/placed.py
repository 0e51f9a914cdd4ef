"""A window of another grid, filled from a scene. Values depend on the position only, not on the window."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.choices import Resampling
from spectile.catalog.inputs import Raster
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.placing import Placement, reduce_scene, resample, valid_at


class Placed(NamedTuple):
    """A scene on a window of another grid."""

    values: NDArray[np.float32]
    """(C, h, w) reflectance, zero where not valid."""
    valid: NDArray[np.bool_]
    """(h, w)."""
    rows: NDArray[np.float64]
    """(h, w) rows on the scene of the window's pixels, far outside where the scene is not."""
    cols: NDArray[np.float64]
    """(h, w) columns."""


class Readable(Protocol):
    """A scene that can be read by window."""

    @property
    def grid(self) -> Grid:
        """Its grid."""
        ...

    def read(self, window: Window) -> Raster:
        """Values (C, h, w) and validity (h, w)."""
        ...


def read_placed(
    scene: Readable, placement: Placement, at: Window, *, resampling: Resampling, factor: int = 1
) -> Placed | None:
    """The scene on a window of the placement's line; None where it does not reach.

    Parameters
    ----------
    factor : rows and columns of the scene that are averaged first, for a much coarser grid.

    Raises
    ------
    BlockError : the file cannot be read there.
    """
    rows, cols = placement.to_scene(*centres(at))
    high, wide = scene.grid.shape
    inside = (rows >= 0) & (rows < high) & (cols >= 0) & (cols < wide)
    if not inside.any():
        return None
    rows, cols = np.where(inside, rows, -1e6), np.where(inside, cols, -1e6)
    reach = 3 * factor  # the reach of the widest kernel
    first_row, last_row = int(rows[inside].min()) - reach, int(rows[inside].max()) + reach
    first_col, last_col = int(cols[inside].min()) - reach, int(cols[inside].max()) + reach
    row, col = max(0, first_row // factor * factor), max(0, first_col // factor * factor)
    held = Window(row, col, min(last_row + 1, high) - row, min(last_col + 1, wide) - col)
    values, valid = scene.read(held)
    if factor > 1:
        more = ((0, -held.height % factor), (0, -held.width % factor))
        values, valid = reduce_scene(np.pad(values, ((0, 0), *more)), np.pad(valid, more), factor)
    place = rows / factor - row // factor, cols / factor - col // factor
    shown = valid_at(valid, *place)
    return Placed(
        np.where(shown, resample(values, valid, *place, resampling), np.float32(0)), shown, rows, cols
    )


def centres(at: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows and columns (h, w) of the centres of a window's pixels."""
    rows, cols = np.meshgrid(
        np.arange(at.row, at.row_stop) + 0.5, np.arange(at.col, at.col_stop) + 0.5, indexing="ij"
    )
    return rows, cols
