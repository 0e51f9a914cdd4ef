"""One block where tiles need no blending: each is reduced to stored counts where it is predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.choices import Layer
from spectile.catalog.counts import NODATA, Moments, Part, stored_parts
from spectile.catalog.errors import BlockError
from spectile.catalog.inputs import Batch
from spectile.pipeline.block.mosaic import Kept, Reading, batches, begin_evidence, flag_tiles, stack_tiles
from spectile.pipeline.block.predict import (
    CountingFusion,
    CountingPredictor,
    FusingPredictor,
    Predictor,
    TileFindings,
)
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Block, Tile, Tiling
from spectile.pipeline.plan.layers import part_name
from spectile.pipeline.plan.quality_layers import Inspection, QualityEvidence, add_findings

Counts = Mapping[Part, NDArray[np.uint16]]
"""(…, B, h, w) uint16, the stored counts of each part."""
_Made = tuple[dict[Part, NDArray[np.uint16]], NDArray[np.bool_]]
"""What ``CountingPredictor.count`` gives."""
_Fused = tuple[dict[Part, NDArray[np.uint16]], NDArray[np.bool_], TileFindings]
"""What ``CountingFusion.count_fused`` gives."""


@dataclass(frozen=True)
class Counted:
    """A block as it is stored, in pieces."""

    pieces: Mapping[Window, Counts]
    """The counts of each tile by its pixels in the block, counted from the block's first; NODATA where the
    scene is not valid. Pieces do not overlap; there are none where it is masked all over."""
    bands: int
    """B."""
    valid: NDArray[np.bool_]
    """(h, w) bool, where the scene is valid."""
    tiles: int
    """Tiles that went through the network."""
    tiles_skipped: int
    """Tiles left out because the scene is masked all over what they would give."""
    tiles_kept: int = 0
    """Tiles that had gone through the network for the block before."""
    evidence: QualityEvidence | None = None
    """The evidence for its quality layers, if they were asked for."""

    def counts(
        self, layers: Sequence[Layer], part: tuple[slice, slice]
    ) -> Iterator[tuple[str, NDArray[np.uint16]]]:
        """The name and the (B, h, w) counts of the mean and of each layer in a part of the block."""
        rows, cols = part
        asked = Window(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start)
        met = {at: asked.intersection(at) for at in self.pieces}
        met = {at: shared for at, shared in met.items() if shared.size}
        wanted: tuple[Part, ...] = ("mean", *layers)
        for name in wanted:
            if [*met.values()] == [asked]:
                ((at, _),) = met.items()
                array = self.pieces[at][name][(slice(None), *asked.relative_to(at).slices)]
            else:
                array = np.full((self.bands, *asked.shape), NODATA, dtype=np.uint16)
                for at, shared in met.items():
                    own = self.pieces[at][name][(slice(None), *shared.relative_to(at).slices)]
                    array[(slice(None), *shared.relative_to(asked).slices)] = own
            yield part_name(name), array


def count_block(
    block: Block,
    *,
    reading: Reading,
    tiling: Tiling,
    predictor: Predictor,
    samples: int,
    layers: Sequence[Layer] = (),
    batch: int | None = None,
    on_tiles: Callable[[int], None] = lambda done: None,
    kept: Kept | None = None,
    then: Window | None = None,
    inspection: Inspection | None = None,
) -> Counted:
    """The block as it is stored; every pixel is of the one tile in whose core it lies.

    While a batch of tiles is predicted, the next is cut and the last one put in its place.

    Parameters
    ----------
    reading : the inputs in the block's ``extent``.
    layers : to take of the samples beside their mean.
    batch, on_tiles, kept, then, inspection : as of ``mosaic_block``.

    Raises
    ------
    BlockError : the network gave NaN or infinity, in which tile.
    MemoryError : there is not enough memory. ``kept`` has lost its tiles; the block can be made again.
    """
    assert tiling.ramp == 0
    window = reading.window
    valid = reading.valid[block.window.relative_to(window).slices].copy()
    evidence = begin_evidence(block, reading, predictor, inspection)
    pieces: dict[Window, Counts] = {}
    tiles = list(tiling.tiles(block.window))
    shares = {tile: tiling.share_of(tile).intersection(block.window) for tile in tiles}
    wanted = [tile for tile in tiles if valid[shares[tile].relative_to(block.window).slices].any()]
    on_tiles(len(tiles) - len(wanted))
    known: dict[Tile, Counts] = {}
    found: dict[Tile, TileFindings] = {}
    fused = inspection is not None and inspection.pair
    if kept is not None:
        there, found = kept.take(block.window)
        known = {tile: there[tile] for tile in wanted if tile in there}
        kept.window = then

    def put(tile: Tile, counts: Counts, of: Window) -> None:
        """Put the counts of a window of a tile where they belong."""
        share = shares[tile]
        at, inside = share.relative_to(block.window), (slice(None), *share.relative_to(of).slices)
        pieces[at] = {part: array[inside] for part, array in counts.items()}
        masked = ~valid[at.slices]
        if masked.any():
            for array in pieces[at].values():
                for band in array:
                    band[masked] = NODATA

    def note(tile: Tile, findings: TileFindings) -> None:
        """Note what was found in the core of a tile."""
        if evidence is not None:
            add_findings(evidence, block.window, tiling.core_of(tile), *findings)

    def settle(together: Sequence[Tile], made: Future[_Made | _Fused]) -> None:
        counts, finite, *findings = made.result()
        for number, tile in enumerate(together):
            if not finite[number]:
                raise BlockError(
                    "the prediction is not finite", where=f"tile {tile.name}",
                    remedy="look at the scene there, or try --dtype float32",
                )  # fmt: skip
            own = {part: array[number] for part, array in counts.items()}
            share = tiling.share_of(tile).intersection(tile.window)
            here = [TileFindings(*(each[number] for each in part)) for part in findings]
            for each in here:
                note(tile, each)
            if kept is not None and kept.window is not None:
                later = share.intersection(kept.window)
                if later.size:
                    at = (slice(None), *later.relative_to(share).slices)
                    kept.tiles[tile] = {part: array[at].copy() for part, array in own.items()}
                    kept.findings.update((tile, each) for each in here)
            put(tile, own, share)
        on_tiles(len(together))

    for tile, counts in known.items():
        put(tile, counts, tiling.share_of(tile).intersection(tile.window).intersection(block.window))
        if tile in found:
            note(tile, found[tile])
    on_tiles(len(known))
    new = [tile for tile in wanted if tile not in known]
    with ThreadPoolExecutor(1, "predict") as device:
        running: tuple[Sequence[Tile], Future[_Made | _Fused]] | None = None
        count = count_fused if fused else count_tiles
        for together in batches(new, batch or predictor.batch):
            stacked = stack_tiles(together, batch or predictor.batch, predictor.inputs, reading)
            first = together[0]
            cut = tiling.share_of(first).intersection(first.window).relative_to(first.window).slices
            following = device.submit(count, predictor, stacked, samples, layers, cut)
            if running is not None:
                settle(*running)
            running = together, following
        flag_tiles(evidence, wanted, block, reading, tiling, predictor)
        if running is not None:
            settle(*running)
    return Counted(
        pieces, len(predictor.bands), valid, len(new), len(tiles) - len(wanted), len(known), evidence
    )


def count_tiles(
    predictor: Predictor, batch: Batch, samples: int, layers: Sequence[Layer], cut: tuple[slice, slice]
) -> _Made:
    """As of ``CountingPredictor.count``, by itself or, of a predictor that only predicts, here."""
    if isinstance(predictor, CountingPredictor):
        return predictor.count(batch, samples, layers, cut)
    return _count(predictor, predictor.predict(batch, range(samples)), layers, cut)


def count_fused(
    predictor: Predictor, batch: Batch, samples: int, layers: Sequence[Layer], cut: tuple[slice, slice]
) -> _Fused:
    """As of ``CountingFusion.count_fused``, by itself or, of a fusion that only predicts, here."""
    if isinstance(predictor, CountingFusion):
        counts, finite, findings = predictor.count_fused(batch, samples, layers, cut)
        return counts, finite, TileFindings(*findings)
    assert isinstance(predictor, FusingPredictor)
    whole: Moments[NDArray[np.float32]] = Moments()

    def watched() -> Iterator[NDArray[np.float32]]:
        for spectra in predictor.predict(batch, range(samples)):
            whole.add(spectra)
            yield spectra

    counts, finite = _count(predictor, watched(), layers, cut)
    difference, changed = predictor.inspect(batch, whole.mean())
    return counts, finite, TileFindings(difference[(..., *cut)], changed[(..., *cut)])


def _count(
    predictor: Predictor,
    samples: Iterator[NDArray[np.float32]],
    layers: Sequence[Layer],
    cut: tuple[slice, slice],
) -> _Made:
    """The counts of samples (N, B, h, w) in a cut of the tiles."""
    moments: Moments[NDArray[np.float32]] = Moments()
    for spectra in samples:
        moments.add(spectra[(..., *cut)])
    bands = len(predictor.bands)
    counts: dict[Part, NDArray[np.uint16]] = {}
    for part, band, values in stored_parts(moments, layers, predictor.calibration, bands):
        if part not in counts:
            counts[part] = np.empty((len(values), bands, *values.shape[-2:]), dtype=np.uint16)
        with np.errstate(invalid="ignore"):  # what is not finite is told below
            counts[part][:, band] = values
    return counts, np.isfinite(moments.doubt)
