"""Whether tiles are visible: seam measures on what the network adds to a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Tiling

HARMONICS = 8
"""Multiples of the lattice's frequency that are looked at."""
STRIP = 16
"""Pixels on each side of a border that count as near it, if tiles do not share more."""
NEIGHBOURS = 6
"""Frequencies on each side that a multiple is compared with."""


@dataclass(frozen=True)
class Seams:
    """How visible the lattice of tiles is in a texture; (1, 1) if it is not visible at all."""

    sd_ratio: float
    """Standard deviation near borders of tiles, where they overlap if they do, ÷ elsewhere. Averaging
    independent noise gives about 0.71 where two tiles meet."""
    lattice_peak: float
    """Mean power of the gradient's profile at multiples of the lattice's frequency ÷ that of the
    frequencies around them, the larger of both axes. 1 for a texture that knows no lattice."""


def seams(texture: NDArray[np.floating], tiling: Tiling, window: Window) -> Seams:
    """The seam measures of a texture, e.g. (sample − mean of samples) of a scene.

    Parameters
    ----------
    texture : (B, h, w) floating, without NaN; the pixels of ``window`` on the scene's grid.
    """
    overlap = near_borders(tiling, window)
    centred = texture - texture.mean(axis=(1, 2), keepdims=True)
    inside, shared = (float(np.sqrt(np.mean(centred[:, where] ** 2))) for where in (~overlap, overlap))
    peaks = [_lattice_peak(centred, tiling.core, axis) for axis in (1, 2)]
    return Seams(shared / inside if inside > 0 else 1.0, max(peaks))


def near_borders(tiling: Tiling, window: Window) -> NDArray[np.bool_]:
    """Where more than one tile has a share, or STRIP from a border between two, (h, w) bool."""
    rows = _near(tiling, window.row, window.height, 0)
    cols = _near(tiling, window.col, window.width, 1)
    return rows[:, None] | cols[None, :]


def _near(tiling: Tiling, start: int, length: int, axis: int) -> NDArray[np.bool_]:
    at = np.arange(start, start + length)
    border = np.rint((at + 0.5) / tiling.core).astype(int)
    inner = (border > 0) & (border < tiling.counts[axis])
    near: NDArray[np.bool_] = np.abs(at + 0.5 - border * tiling.core) < max(tiling.ramp, STRIP)
    return inner & near


def _lattice_peak(texture: NDArray[np.floating], core: int, axis: int) -> float:
    """Mean excess power of the gradient's profile at the lattice's frequency and its multiples."""
    steps = np.abs(np.diff(texture, axis=axis)).mean(axis=(0, 3 - axis))
    periods = steps.size // core
    if periods < 2:
        return 1.0  # too small a scene to have a period
    profile = steps[: periods * core]  # whole periods, so that each multiple falls on one frequency
    power = np.abs(np.fft.rfft(profile - profile.mean())) ** 2
    ratios = []
    for multiple in range(1, HARMONICS + 1):
        place = multiple * periods
        reach = min(NEIGHBOURS, periods - 1)
        around = np.r_[place - reach : place, place + 1 : place + reach + 1]
        around = around[(around > 0) & (around < power.size)]
        if place < power.size and around.size:
            background = float(power[around].mean())
            ratios.append(float(power[place]) / background if background > 0 else 1.0)
    return float(np.mean(ratios)) if ratios else 1.0
