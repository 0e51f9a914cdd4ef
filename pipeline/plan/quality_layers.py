"""The quality layers: flags, agreement with the scene's colours, agreement of overlapping tiles.

They need no extra network time: their inputs are in memory while a block is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import Bands, resampling_matrix
from spectile.catalog.choices import QualityLayer
from spectile.catalog.counts import SCALE
from spectile.catalog.errors import UsageError
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Tile, Tiling

QUALITY: tuple[QualityLayer, ...] = get_args(QualityLayer)
"""The layers in order; the names are those of the arrays."""
MEASURES: tuple[QualityLayer, ...] = QUALITY[1:]
"""Those in reflectance."""
DEFAULT: tuple[QualityLayer, ...] = ("quality", "rgb_consistency")
"""The layers that cost almost nothing."""
OF_PAIRS: tuple[QualityLayer, ...] = ("quality", "rgb_consistency", "hsi_consistency")
"""Those of a fused pair: the last one shows whether the cube is still the HSI."""

FLAGS = {
    "nodata": 1, "padded": 2, "masked_input": 4, "saturated": 8, "extrapolating": 16, "changed": 32,
}  # fmt: skip
"""The bits of ``quality`` by their meanings."""
RANGE = (0.0, 1.5)
"""Reflectance of colours beyond which the model is taken to extrapolate."""
NEGLIGIBLE = 1e-6
"""A band with a smaller share in a colour is left out."""
_ROUNDING = np.float32(1 - 1e-6)
"""Resampled colours may be this much below the ceiling although all of their pixels have reached it."""

_ATTRIBUTES: dict[QualityLayer, dict[str, Any]] = {
    "quality": {
        "long_name": "quality flags",
        "comment": "padded: the network looks beyond the scene, which is mirrored there; masked_input: it "
        "looks at masked pixels, which are filled; saturated: a channel is at the largest number that its "
        "data type holds; extrapolating: a channel is below "
        f"{RANGE[0]:g} or above {RANGE[1]:g} reflectance",
    },
    "rgb_consistency": {
        "long_name": "difference of the cube, seen through the colour response, from the scene's colours",
        "comment": "root mean square over the channels that its bands cover, reflectance",
    },
    "overlap_disagreement": {
        "long_name": "difference of overlapping tiles",
        "comment": "root mean square over bands and samples, reflectance; where more than two tiles meet, "
        "the largest difference of one from the blend of those before; none where one tile stands alone",
    },
    "hsi_consistency": {
        "long_name": "difference of the cube, seen through the blur, from the hyperspectral scene",
        "comment": "root mean square over bands, reflectance; one value a pixel of that scene",
    },
}  # fmt: skip


def choose_quality(wanted: Sequence[str] | None, *, pair: bool = False) -> tuple[QualityLayer, ...]:
    """The quality layers of ``--layers``, in the order of QUALITY; None takes DEFAULT, of a pair OF_PAIRS.

    Raises
    ------
    UsageError : a layer is one of pairs, and this is none.
    """
    if wanted is None:
        return OF_PAIRS if pair else DEFAULT
    if "hsi_consistency" in wanted and not pair:
        raise UsageError("hsi_consistency is a layer of fused pairs", got=f"--layers {','.join(wanted)}")
    return tuple(layer for layer in QUALITY if layer in wanted)


def quality_attributes(layer: QualityLayer, *, pair: bool = False) -> dict[str, Any]:
    """The attributes of a layer, without those of how it is stored; of a cube of a scene, or of a pair."""
    attributes = dict(_ATTRIBUTES[layer])
    if layer != "quality":
        return attributes
    flags = {name: bit for name, bit in FLAGS.items() if pair or name != "changed"}
    comment = attributes["comment"] + (_CHANGED if pair else "")
    return {
        "long_name": attributes["long_name"], "flag_masks": list(flags.values()),
        "flag_meanings": " ".join(flags), "comment": comment,
    }  # fmt: skip


_CHANGED = (
    "; changed: the two scenes differ by more than noise, so that the upsampled hyperspectral scene stands "
    "here"
)  # fmt: skip


@dataclass(frozen=True)
class Inspection:
    """What to inspect while a block is made."""

    layers: tuple[QualityLayer, ...]
    """The layers that are wanted."""
    ceiling: NDArray[np.float32] | None = None
    """(C,) reflectance of the largest number that each channel can hold; None where unknown."""
    pair: bool = False
    """Whether a pair is fused."""


@dataclass
class QualityEvidence:
    """The evidence for a block's quality layers, from its pixels and tiles."""

    flags: NDArray[np.uint8]
    """(h, w) the bits of ``quality``."""
    rgb: NDArray[np.float32]
    """(C, h, w) the scene's colours, reflectance; those of masked pixels have no meaning."""
    matrix: NDArray[np.float32]
    """(C, B) the responses of the channels that the bands cover."""
    channels: NDArray[np.intp]
    """(C,) the numbers of these channels."""
    disagreement: NDArray[np.float32]
    """(h, w) difference of tiles, reflectance; NaN where they do not overlap; (0, 0) if not wanted."""
    hsi_difference: NDArray[np.float32]
    """(h, w) difference from the HSI of a pair, reflectance; (0, 0) of no pair."""


def begin(
    inspection: Inspection,
    rgb: NDArray[np.float32],
    valid: NDArray[np.bool_],
    response: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> QualityEvidence:
    """The evidence from the colours of a block alone.

    Parameters
    ----------
    rgb, valid : (C, h, w) reflectance and (h, w) validity of the block.
    response : (C, B) matrix and (C,) offset: colours = matrix · spectrum + offset. A channel that no band
        covers has a row of zeros.
    """
    flags = np.where(valid, 0, FLAGS["nodata"]).astype(np.uint8)
    if "quality" in inspection.layers:
        low, high = RANGE
        flags |= _flag("extrapolating", ((rgb < low) | (rgb > high)).any(axis=0) & valid)
        if inspection.ceiling is not None:
            ceiling = inspection.ceiling[:, None, None] * _ROUNDING
            flags |= _flag("saturated", (rgb >= ceiling).any(axis=0) & valid)
    matrix, offset = response
    matrix = np.where(np.abs(matrix) < NEGLIGIBLE, np.float32(0), matrix)
    channels = np.flatnonzero(matrix.any(axis=1))
    shape = valid.shape if "overlap_disagreement" in inspection.layers else (0, 0)
    return QualityEvidence(
        flags, rgb - offset[:, None, None] if offset.any() else rgb, matrix[channels], channels,
        np.full(shape, np.nan, dtype=np.float32),
        np.full(valid.shape if inspection.pair else (0, 0), np.nan, dtype=np.float32),
    )  # fmt: skip


def response_of(bands: Bands, camera: Bands) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How a camera sees spectra of ``bands``, as ``begin`` takes it: what their responses say."""
    matrix, supported = resampling_matrix(bands, camera)
    matrix[~supported] = 0
    return matrix.astype(np.float32), np.zeros(len(matrix), dtype=np.float32)


def add_findings(
    evidence: QualityEvidence,
    block: Window,
    core: Window,
    hsi_difference: NDArray[np.float32],
    changed: NDArray[np.bool_],
) -> None:
    """Add what a fusion found in a tile's core, which is that of no other tile.

    Parameters
    ----------
    block, core : on the scene's grid.
    hsi_difference, changed : (h, w) of the core.
    """
    shared = core.intersection(block)
    if not shared.size:
        return
    at, inside = shared.relative_to(block).slices, shared.relative_to(core).slices
    evidence.hsi_difference[at] = hsi_difference[inside]
    known = evidence.flags[at] & np.uint8(FLAGS["nodata"]) == 0
    evidence.flags[at] |= _flag("changed", np.ascontiguousarray(changed[inside]) & known)


def _flag(name: str, where: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return where.view(np.uint8) * np.uint8(FLAGS[name])


def flag_tile(
    evidence: QualityEvidence,
    tile: Window,
    block: Window,
    *,
    scene: Window,
    valid: NDArray[np.bool_],
    reach: int | None,
) -> None:
    """Add to ``evidence`` what is known of a tile that has a share in the block.

    Parameters
    ----------
    tile, block, scene : on the scene's grid.
    valid : (h, w) validity of the tile, mirrored beyond the scene.
    reach : of the predictor.
    """
    shared = tile.intersection(block)
    part = evidence.flags[shared.relative_to(block).slices]
    known = part & np.uint8(FLAGS["nodata"]) == 0
    beyond = np.ones(tile.shape, dtype=bool)
    beyond[tile.intersection(scene).relative_to(tile).slices] = False
    for name, unseen in (("padded", beyond), ("masked_input", ~valid)):
        if unseen.any():
            near = _within(unseen, reach)[shared.relative_to(tile).slices]
            part |= _flag(name, near & known)


def _within(there: NDArray[np.bool_], reach: int | None) -> NDArray[np.bool_]:
    """Where a pixel of ``there`` is at most ``reach`` rows and columns away; everywhere for None."""
    if reach is None:
        return np.ones_like(there)
    from scipy.ndimage import maximum_filter

    near: NDArray[np.bool_] = maximum_filter(there, size=2 * reach + 1, mode="constant", cval=False)
    return near


@dataclass
class OverlapComparison:
    """The difference of a part of a tile from the tiles that were summed there before."""

    pixels: Window
    """On the scene's grid."""
    before: NDArray[np.float32]
    """(h, w) the weights of the tiles before."""
    squares: NDArray[np.float32]
    """(h, w) mean over bands of the squared difference, summed over samples."""

    def compare(self, inside: NDArray[np.float32], target: NDArray[np.float32], shared: Window) -> None:
        """Add one sample of the tile, before it is summed.

        Parameters
        ----------
        inside : (B, h, w) reflectance of the tile in ``shared``.
        target : (B, h, w) the weighted sum of the tiles before, there.
        """
        cut = (slice(None), *self.pixels.relative_to(shared).slices)
        blend = target[cut] / np.where(self.before > 0, self.before, np.float32(1))
        self.squares += np.square(inside[cut] - blend, out=blend).mean(axis=0)


class Overlap:
    """The difference of each tile of a block from the tiles before it."""

    def __init__(self, evidence: QualityEvidence, tiling: Tiling, block: Window) -> None:
        self._evidence = evidence
        self._tiling = tiling
        self._block = block
        self._weight = np.zeros(evidence.disagreement.shape, dtype=np.float32)

    def compare_with(
        self, shared: Window, tile: Tile, weights: NDArray[np.float32]
    ) -> list[OverlapComparison]:
        """The parts where a tile overlaps the tiles before it; then it counts as one of them.

        Parameters
        ----------
        shared : the pixels of the block in which the tile counts.
        weights : (h, w) of the tile in ``shared``.
        """
        # In the lattice's order the tiles before are above, to the left, and above to the right.
        overlap, whole = 2 * self._tiling.ramp, self._tiling.share_of(tile)
        above = Window(whole.row, whole.col, overlap, whole.width).intersection(shared)
        left = Window(whole.row + overlap, whole.col, whole.height - overlap, overlap).intersection(shared)
        met = []
        for part in (above, left):
            before = self._weight[part.relative_to(self._block).slices]
            if before.any():
                met.append(OverlapComparison(part, before.copy(), np.zeros_like(before)))
        weight = self._weight[shared.relative_to(self._block).slices]
        weight += weights
        return met

    def note(self, met: list[OverlapComparison], samples: int) -> None:
        """Add the differences of a tile's samples to the evidence."""
        for comparison in met:
            disagreement = self._evidence.disagreement[comparison.pixels.relative_to(self._block).slices]
            rms = np.sqrt(comparison.squares / np.float32(samples))
            rms[comparison.before <= 0] = np.nan
            np.fmax(disagreement, rms, out=disagreement)


def rgb_consistency(
    evidence: QualityEvidence, counts: NDArray[np.uint16], at: tuple[slice, slice]
) -> NDArray[np.float32]:
    """The rms difference (h, w) of colours, reflectance, in a part of a block; NaN where no band tells.

    Parameters
    ----------
    counts : (B, h, w) uint16, the stored mean there.
    """
    if not evidence.channels.size:
        return np.full(counts.shape[1:], np.nan, dtype=np.float32)
    seen = -evidence.rgb[(evidence.channels, *at)]
    # Band by band: the order of a sum in BLAS may depend on its threads, and with it the last bit.
    for band in np.flatnonzero(evidence.matrix.any(axis=0)):
        values = counts[band] * np.float32(SCALE)
        for channel, share in zip(seen, evidence.matrix[:, band], strict=True):
            if share:
                channel += share * values
    difference: NDArray[np.float32] = np.sqrt(np.square(seen, out=seen).mean(axis=0))
    return difference
