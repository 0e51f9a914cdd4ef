"""The grid of a fused cube: that of the HSI, each of its pixels divided into ratio × ratio. No I/O."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
from affine import Affine

from spectile.catalog.errors import SceneError
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.placing import Placement

MOST_RATIO = 64
"""Most fine pixels along an HSI pixel: tiles must hold several HSI pixels in each direction."""
_SNAP = 1e-6
"""Part of a pixel that is taken for rounding."""


def choose_ratio(hsi: Grid, msi: Grid, asked: int | None = None) -> int:
    """The whole number nearest to how many pixels of the MSI lie along one of the HSI; or what is asked.

    Of pixels that are not square it is the geometric mean of both directions.

    Raises
    ------
    SceneError : the MSI is not at least one and a half times as sharp, or more than MOST_RATIO times.
    """
    high, wide = Placement(msi, hsi).pixel
    found = float(np.sqrt(high * wide))
    if not np.isfinite(found):
        raise _apart("no place of the HSI is on the MSI's map")
    ratio = round(found) if asked is None else asked
    shown = f"{found:.3g} MSI pixels along one of the HSI"
    if found < 1 - 1e-3:
        raise SceneError(
            "the HSI is sharper than the MSI", got=shown, expected="2 or more", remedy="swap --hsi and --msi?"
        )
    if round(found) < 2:
        raise SceneError("the MSI is not sharper than the HSI", got=shown, expected="2 or more")
    if ratio > MOST_RATIO:
        raise SceneError(
            "the MSI is too sharp for the HSI", got=shown, expected=f"up to {MOST_RATIO}",
            remedy=f"give --ratio {MOST_RATIO} or less; the MSI is averaged",
        )  # fmt: skip
    return ratio


def divided(grid: Grid, ratio: int) -> Grid:
    """The grid with each pixel divided into ``ratio`` × ``ratio``; its whole affine is kept, rotation too."""
    shape = grid.shape[0] * ratio, grid.shape[1] * ratio
    return Grid(shape, grid.transform @ Affine.scale(1 / ratio), grid.crs_wkt)


def overlap(fine: Grid, msi: Grid, ratio: int) -> Window:
    """The window of the fine grid that holds all of the MSI that lies on it, in whole HSI pixels.

    Raises
    ------
    SceneError : they do not overlap.
    """
    # Points along the MSI's border: between other CRSs its sides are curves on the fine grid.
    rows, cols = (np.linspace(0, size, 33) for size in msi.shape)
    around_rows = np.concatenate([rows, rows, np.zeros(33), np.full(33, msi.shape[0])])
    around_cols = np.concatenate([np.zeros(33), np.full(33, msi.shape[1]), cols, cols])
    at_rows, at_cols = Placement(fine, msi).to_line(around_rows, around_cols)
    there = np.isfinite(at_rows) & np.isfinite(at_cols)
    if not there.any():
        raise _apart("no place of the MSI is on the HSI's map")
    # A border with points that have no place may enclose anything.
    covered = fine.window
    if there.all():
        first = [floor(float(at.min()) / ratio + _SNAP) * ratio for at in (at_rows, at_cols)]
        stop = [ceil(float(at.max()) / ratio - _SNAP) * ratio for at in (at_rows, at_cols)]
        size = [max(0, last - start) for start, last in zip(first, stop, strict=True)]
        covered = Window(first[0], first[1], size[0], size[1]).intersection(fine.window)
    if not covered.size:
        x_min, y_min, x_max, y_max = fine.bounds
        raise _apart(f"HSI x {x_min:.10g} to {x_max:.10g}, y {y_min:.10g} to {y_max:.10g} in its CRS")
    return covered


def _apart(got: str) -> SceneError:
    return SceneError(
        "HSI and MSI do not overlap", got=got, expected="one place",
        remedy="check that both have the right CRS and geotransform",
    )  # fmt: skip
