"""The windows of a pair from which it is estimated: few, spread over the scene, the same in every run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spectile.catalog.errors import SceneError
from spectile.catalog.inputs import Raster
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.pair.source import Pair

MOST_WINDOWS = 6
"""Windows that are read at most."""
MOST_TRIES = 24
"""Places at which valid pixels are looked for."""
WHOLE_SIDE = 96
"""HSI pixels along a side up to which a scene is read whole."""
SIDE = 64
"""HSI pixels along a side of a window at most …"""
FINE_SIDE = 768
"""… and pixels of the cube."""
LEAST_SIDE = 16
"""HSI pixels along a side of a window at least, where the scene has as many."""
LEAST_VALID = 0.5
"""Share of valid pixels that a window must have in both scenes."""


@dataclass(frozen=True)
class Sampled:
    """One window of both scenes, as read."""

    window: Window
    """Its pixels on the HSI's grid."""
    hsi: Raster
    """(B, h, w)."""
    msi: Raster
    """(C, h·ratio, w·ratio)."""


def sample_windows(pair: Pair, seed: int) -> list[Sampled]:
    """The windows of a pair, at most ``MOST_WINDOWS``; a small scene is one window.

    Raises
    ------
    SceneError : there is hardly a place where both scenes are valid.
    BlockError : a file cannot be read.
    """
    found: list[Sampled] = []
    best = (0.0, 0.0)
    for window in candidates(pair.extent.coarser(pair.ratio), pair.ratio, seed):
        read = read_window(pair, window)
        shares = float(read.hsi.valid.mean()), float(read.msi.valid.mean())
        best = max(best[0], shares[0]), max(best[1], shares[1])
        if min(shares) >= LEAST_VALID:
            found.append(read)
        if len(found) == MOST_WINDOWS:
            break
    if not found:
        raise SceneError(
            "there is no window in which both scenes are valid",
            got=f"at most {best[0]:.0%} of the HSI and {best[1]:.0%} of the MSI",
            expected=f"{LEAST_VALID:.0%} of each",
            remedy="check their nodata values, or choose a part with --region",
        )  # fmt: skip
    return found


def candidates(extent: Window, ratio: int, seed: int) -> list[Window]:
    """Windows of the HSI's grid in the order in which they are tried: one a cell of a lattice, shuffled."""
    if max(extent.shape) <= WHOLE_SIDE and max(extent.shape) * ratio <= 2 * FINE_SIDE:
        return [extent]
    side = max(LEAST_SIDE, min(SIDE, FINE_SIDE // ratio))
    height, width = min(side, extent.height), min(side, extent.width)
    rng = np.random.default_rng(seed)
    # As many cells as tries, about as high as they are wide.
    rows = int(np.clip(round(np.sqrt(MOST_TRIES * extent.height / extent.width)), 1, MOST_TRIES))
    rows, cols = min(rows, -(-extent.height // height)), min(MOST_TRIES // rows, -(-extent.width // width))
    free = extent.height - height, extent.width - width
    windows = []
    for number in rng.permutation(rows * cols):
        place = (np.array(divmod(int(number), cols)) + rng.random(2)) / (rows, cols)
        row, col = (int(share * (room + 1)) for share, room in zip(place, free, strict=True))
        windows.append(Window(extent.row + row, extent.col + col, height, width))
    return windows


def read_window(pair: Pair, window: Window) -> Sampled:
    """A window of the HSI's grid, of both scenes.

    Raises
    ------
    BlockError : a file cannot be read.
    """
    fine = Window(*(side * pair.ratio for side in (window.row, window.col, window.height, window.width)))
    sources = pair.sources
    return Sampled(window, sources["hsi"].read(window), sources["msi"].read(fine))


def digest_of(windows: Sequence[Sampled]) -> str:
    """The sha256 of everything that was read, hexadecimal."""
    digest = hashlib.sha256()
    for each in windows:
        digest.update(repr(each.window).encode())
        for values, valid in (each.hsi, each.msi):
            # NaN has many bit patterns; masked pixels count as masked.
            digest.update(np.where(valid, values, np.float32(-1)).tobytes())
            digest.update(np.packbits(valid).tobytes())
    return digest.hexdigest()
