"""What a report measures on a cube: spectra of some pixels, statistics, seams, agreement with the colours.

What is read is bounded whatever the cube's size: one window at full resolution, and one level of its maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import RGB_CAMERA
from spectile.pipeline.cube.arrays import reading_metadata
from spectile.pipeline.cube.attempts import read_failures
from spectile.pipeline.cube.ledger import Marker
from spectile.pipeline.cube.record import Cube, finished_blocks
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Block, Tiling
from spectile.pipeline.plan.counts import decode
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.plan.quality_layers import FLAGS
from spectile.pipeline.product.points import choose_points
from spectile.pipeline.product.quality import STRIP, near_borders
from spectile.pipeline.product.view import Place, Resolution, Spectrum, Subject, View

Array = NDArray[np.float32]

SEAM_SIDE = 512
"""Rows and columns of the window in which seams are looked for, at most."""
SEAM_BANDS = 12
"""Bands in which they are looked for, at most."""


@dataclass(frozen=True)
class Point:
    """A pixel whose spectrum is shown."""

    row: int
    """Row of the cube."""
    col: int
    """Column of the cube."""
    place: Place
    """Where its centre is."""
    spectrum: Spectrum
    """Its spectrum, with what the cube knows of its uncertainty."""


@dataclass(frozen=True)
class Statistics:
    """Reflectance of each band, (B,) float64; NaN where there is no valid pixel."""

    mean: NDArray[np.float64]
    """Mean."""
    sd: NDArray[np.float64]
    """Standard deviation over pixels."""
    low: NDArray[np.float64]
    """Smallest."""
    high: NDArray[np.float64]
    """Largest."""
    pixels: int
    """Valid pixels."""


@dataclass(frozen=True)
class SeamFigures:
    """Whether tiles show, in what the cube's bands hold beyond a linear map of its three colours."""

    sd_ratio: float
    """Standard deviation near borders of tiles ÷ elsewhere; about 1 where tiles do not show."""
    distance: NDArray[np.float64]
    """(D,) distance to the nearest border of a tile's core, px."""
    sd: NDArray[np.float64]
    """(D,) standard deviation there, reflectance."""
    strip: int
    """Pixels on each side of a border that count as near it: what tiles share, or STRIP."""
    shape: tuple[int, int]
    """(rows, columns) of the window that was looked at."""


@dataclass(frozen=True)
class Agreement:
    """Difference of the cube, seen through the camera's response, from the scene's colours."""

    values: Array
    """(N,) root mean squares over the channels, reflectance, of the pixels of the map."""

    @property
    def quantiles(self) -> tuple[float, float, float]:
        """Median, 95 % and 99 % quantile."""
        median, high, highest = np.percentile(self.values, (50, 95, 99))
        return float(median), float(high), float(highest)


@dataclass(frozen=True)
class Timing:
    """What the ledger says of the blocks."""

    seconds: tuple[float, ...]
    """Time that each block took in the network."""
    tiles: int
    """Tiles that were predicted."""
    given_up: dict[str, int]
    """Names of blocks that runs gave up before, and how often."""
    pixels: int
    """Pixels of the blocks."""


def timing(cube: Cube, markers: Mapping[Block, Marker] | None = None) -> Timing:
    """What the ledger of a cube says of its blocks.

    Parameters
    ----------
    markers : of the finished blocks; None reads them.
    """
    markers = finished_blocks(cube) if markers is None else markers
    given_up = {block.name: note.attempts for block, note in read_failures(cube, markers).items()}
    return Timing(
        tuple(marker.seconds for marker in markers.values()),
        sum(marker.tiles for marker in markers.values()),
        given_up,
        sum(cube.plan.pixels(block) for block in markers),
    )


def flat(view: View, level: Resolution, name: str) -> Array:
    """An array without bands at a level, (h, w); where it is scaled its values, NaN where there is none."""
    values: Array = view.read(Subject("", name), level)[0]
    return values


def spread_points(view: View) -> list[Point]:
    """The pixels that the quicklook numbers, with what the cube knows of them."""
    return [
        Point(row, col, view.place(row + 0.5, col + 0.5), view.spectrum(row, col))
        for row, col in choose_points(view.group)
    ]


def statistics(view: View) -> Statistics:
    """Of each band, as the finished cube tells them.

    Raises
    ------
    CubeError : what it tells is damaged.
    """
    with reading_metadata(view.storage):
        stored = view.group["reflectance"].attrs["statistics"]
        names = ("mean", "stddev", "minimum", "maximum")
        mean, sd, low, high = (np.array(stored[name], dtype=np.float64) for name in names)
        return Statistics(mean, sd, low, high, int(max(stored["valid_count"])))


def flag_shares(view: View) -> dict[str, float]:
    """The share of the finished cube's pixels that have a flag of ``quality``, by its meaning.

    Raises
    ------
    CubeError : what it tells is damaged.
    """
    if "quality" not in view.arrays:
        return {}
    with reading_metadata(view.storage):
        counts = view.group["quality"].attrs["statistics"]["flag_counts"]
        return {meaning: counts[meaning] / view.grid.window.size for meaning in FLAGS}


def agreement(view: View, level: Resolution) -> Agreement | None:
    """The agreement with the scene's colours at a level; None where the cube does not hold it."""
    if "rgb_consistency" not in view.arrays:
        return None
    values = flat(view, level, "rgb_consistency")
    known = values[np.isfinite(values)]
    return Agreement(known) if known.size else None


def seam_figures(view: View, plan: Plan) -> SeamFigures | None:
    """From the middle of the cube at full resolution; None where one tile is all that there is."""
    rows, cols = view.grid.shape
    height, width = min(rows, SEAM_SIDE), min(cols, SEAM_SIDE)
    top = _crossing(plan.tiling, plan.window.row, rows, height)
    at = Window(top, _crossing(plan.tiling, plan.window.col, cols, width), height, width)
    on_scene = Window(at.row + plan.window.row, at.col + plan.window.col, height, width)
    valid = np.asarray(view.group["valid"][at.slices]) > 0
    shared = near_borders(plan.tiling, on_scene)
    if not (valid & shared).any() or not (valid & ~shared).any():
        return None
    texture = _texture(view, at, valid)
    squares = np.square(texture, out=texture).mean(axis=0, dtype=np.float64)
    shared = shared[valid]
    inside, overlap = float(squares[~shared].mean()), float(squares[shared].mean())
    distance = _to_border(plan, on_scene)[valid].astype(np.intp)
    count = np.bincount(distance)
    there = count > 0
    variance = np.bincount(distance, weights=squares)[there] / count[there]
    ratio = float(np.sqrt(overlap / inside)) if inside > 0 else 1.0
    middles = np.flatnonzero(there).astype(np.float64) + 0.5
    return SeamFigures(ratio, middles, np.sqrt(variance), max(plan.tiling.ramp, STRIP), at.shape)


def _crossing(tiling: Tiling, origin: int, length: int, side: int) -> int:
    """First pixel of a window along an axis of the cube, around the border of cores nearest to its middle."""
    border = round((origin + length / 2) / tiling.core) * tiling.core - origin
    return int(np.clip(border - side // 2, 0, length - side))


def _texture(view: View, at: Window, valid: NDArray[np.bool_]) -> Array:
    """What some bands hold beyond a linear map of three of them, (B', valid pixels), reflectance."""
    some = slice(None, None, -(-len(view.bands) // SEAM_BANDS))
    values: Array = decode(view.group["reflectance"][(some, *at.slices)][:, valid])
    centre = np.asarray(view.bands.centre_nm[some])
    colours = sorted({int(np.argmin(np.abs(centre - nm))) for nm in RGB_CAMERA.centre_nm})
    seen = np.vstack([values[colours], np.ones((1, values.shape[1]), np.float32)])
    rest = np.delete(values, colours, axis=0) if len(colours) < len(values) else values
    weights = np.linalg.lstsq(seen @ seen.T, seen @ rest.T, rcond=None)[0]
    rest -= weights.T @ seen
    rest -= rest.mean(axis=1, keepdims=True)
    return rest


def _to_border(plan: Plan, window: Window) -> NDArray[np.float64]:
    """Distance of each pixel (h, w) to the nearest border of a tile's core inside the scene, px."""
    far: list[NDArray[np.float64]] = []
    for start, length, count in zip((window.row, window.col), window.shape, plan.tiling.counts, strict=True):
        at = np.arange(start, start + length) + 0.5
        borders = np.arange(1, count) * plan.tiling.core
        gaps = np.abs(at[:, None] - borders).min(axis=1) if borders.size else np.full(length, np.inf)
        far.append(gaps)
    nearest: NDArray[np.float64] = np.minimum(far[0][:, None], far[1][None, :])
    return nearest
