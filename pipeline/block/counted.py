"""One block where tiles need no blending: each is reduced to stored counts where it is predicted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

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
    calls_of,
    endmembers_of,
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
    shares: int
    """G, the number of endmembers."""
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
        """The name and the (B, h, w) counts of the mean and of each layer in a part of the block.

        Of shares (G, h, w).
        """
        rows, cols = part
        asked = Window(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start)
        met = {at: asked.intersection(at) for at in self.pieces}
        met = {at: shared for at, shared in met.items() if shared.size}
        wanted: tuple[Part, ...] = ("mean", *layers, *(("abundance",) if self.shares else ()))
        for name in wanted:
            if [*met.values()] == [asked]:
                ((at, _),) = met.items()
                array = self.pieces[at][name][(slice(None), *asked.relative_to(at).slices)]
            else:
                depth = self.shares if name == "abundance" else self.bands
                array = np.full((depth, *asked.shape), NODATA, dtype=np.uint16)
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
    device: Executor | None = None,
) -> Counted:
    """The block as it is stored; every pixel is of the one tile in whose core it lies.

    While the predictor has as many batches in work as it takes at once, the next waits for it already, and
    the last one is put in its place.

    Parameters
    ----------
    reading : the inputs in the block's ``extent``.
    layers : to take of the samples beside their mean.
    batch, on_tiles, kept, then, inspection : as of ``mosaic_block``.
    device : threads for the predictor's calls, as many as it takes at once; None makes some.

    Raises
    ------
    BlockError : the network gave NaN or infinity, in which tile.
    MemoryError : there is not enough memory. ``kept`` has lost its tiles; the block can be made again.
    """
    assert tiling.ramp == 0
    making = _Making(block, reading, tiling, kept, then)
    on_tiles(making.skipped + len(making.known))
    size = batch or predictor.batch
    calls = calls_of(predictor)
    flight: deque[tuple[Sequence[Tile], Future[_Made | _Fused]]] = deque()
    count = count_fused if inspection is not None and inspection.pair else count_tiles
    evidence = None

    def settle() -> None:
        together, made = flight.popleft()
        making.add(together, *made.result())
        on_tiles(len(together))

    with ExitStack() as stack:
        device = device or stack.enter_context(ThreadPoolExecutor(calls, "predict"))
        stack.callback(_end, flight)
        for number, together in enumerate(batches(making.new, size)):
            stacked = stack_tiles(together, size, predictor.inputs, reading)
            cut = making.whole_share(together[0]).relative_to(together[0].window).slices
            flight.append((together, device.submit(count, predictor, stacked, samples, layers, cut)))
            if number == 0:
                evidence = begin_evidence(block, reading, predictor, inspection)
            if len(flight) > calls:
                settle()
        if not making.new:
            evidence = begin_evidence(block, reading, predictor, inspection)
        flag_tiles(evidence, making.wanted, block, reading, tiling, predictor)
        while flight:
            settle()
    if evidence is not None:
        for tile, found in making.found.items():
            add_findings(evidence, block.window, tiling.core_of(tile), *found)
    return Counted(
        making.pieces, len(predictor.bands), len(endmembers_of(predictor)), making.valid, len(making.new),
        making.skipped, len(making.known), evidence,
    )  # fmt: skip


def _end(flight: Iterable[tuple[Sequence[Tile], Future[Any]]]) -> None:
    """Wait for what is still in work if the block was given up; a new try must not run beside it."""
    for _, made in flight:
        made.cancel()
    wait([made for _, made in flight])


class _Making:
    """A block while it is made: what of each tile goes where."""

    def __init__(
        self, block: Block, reading: Reading, tiling: Tiling, kept: Kept | None, then: Window | None
    ) -> None:
        self._block, self._tiling, self._kept = block.window, tiling, kept
        self.valid = reading.valid[block.window.relative_to(reading.window).slices].copy()
        self.pieces: dict[Window, Counts] = {}
        tiles = list(tiling.tiles(block.window))
        self._shares = {tile: tiling.share_of(tile).intersection(block.window) for tile in tiles}
        self.wanted = [tile for tile in tiles if self.valid[self._at(tile).slices].any()]
        self.skipped = len(tiles) - len(self.wanted)
        self.known: dict[Tile, Counts] = {}
        self.found: dict[Tile, TileFindings] = {}
        """What was found in the cores of tiles, if a pair is fused."""
        if kept is not None:
            there, self.found = kept.take(block.window)
            self.known = {tile: there[tile] for tile in self.wanted if tile in there}
            kept.window = then
        for tile, counts in self.known.items():
            self._put(tile, counts, self._shares[tile])
        self.new = [tile for tile in self.wanted if tile not in self.known]

    def whole_share(self, tile: Tile) -> Window:
        """The pixels in which a tile counts, in this block and in others."""
        return self._tiling.share_of(tile).intersection(tile.window)

    def _at(self, tile: Tile) -> Window:
        return self._shares[tile].relative_to(self._block)

    def add(
        self,
        tiles: Sequence[Tile],
        counts: Counts,
        finite: NDArray[np.bool_],
        found: TileFindings | None = None,
    ) -> None:
        """Put new tiles, whose counts (N, B, h, w) are of their whole shares, where they belong."""
        for number, tile in enumerate(tiles):
            if not finite[number]:
                raise BlockError(
                    "the prediction is not finite", where=f"tile {tile.name}",
                    remedy="look at the scene there, or try --dtype float32",
                )  # fmt: skip
            own = {part: array[number] for part, array in counts.items()}
            share = self.whole_share(tile)
            if found is not None:
                self.found[tile] = TileFindings(*(each[number] for each in found))
            if self._kept is not None and self._kept.window is not None:
                later = share.intersection(self._kept.window)
                if later.size:
                    self._kept.tiles[tile] = {part: cut.copy() for part, cut in _cut(own, later, share)}
                    if found is not None:
                        self._kept.findings[tile] = self.found[tile]
            self._put(tile, own, share)

    def _put(self, tile: Tile, counts: Counts, of: Window) -> None:
        """Put the counts of a window of a tile where they belong."""
        at, piece = self._at(tile), dict(_cut(counts, self._shares[tile], of))
        masked = ~self.valid[at.slices]
        if masked.any():
            for array in piece.values():
                for band in array:
                    band[masked] = NODATA
        self.pieces[at] = piece


def _cut(counts: Counts, window: Window, of: Window) -> Iterator[tuple[Part, NDArray[np.uint16]]]:
    """The counts of a window, from those of a larger one."""
    inside = (slice(None), *window.relative_to(of).slices)
    return ((part, array[inside]) for part, array in counts.items())


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
    bands, shares = len(predictor.bands), len(endmembers_of(predictor))
    counts: dict[Part, NDArray[np.uint16]] = {}
    for part, band, values in stored_parts(moments, layers, predictor.calibration, bands, shares):
        if part not in counts:
            shape = len(values), shares if part == "abundance" else bands, *values.shape[-2:]
            counts[part] = np.empty(shape, dtype=np.uint16)
        with np.errstate(invalid="ignore"):  # what is not finite is told below
            counts[part][:, band] = values
    return counts, np.isfinite(moments.doubt)
