"""One block of a cube: its tiles, what the network makes of them, and their blended sum."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.calibration import Calibration
from spectile.catalog.choices import Layer
from spectile.catalog.counts import NODATA, Moments, stored_parts
from spectile.catalog.errors import BlockError
from spectile.catalog.inputs import Batch, InputSpec, Raster
from spectile.pipeline.block.predict import FusingPredictor, Predictor, TileFindings
from spectile.pipeline.geometry.blend import tile_weights
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Block, Tile, Tiling
from spectile.pipeline.plan.layers import part_name
from spectile.pipeline.plan.quality_layers import (
    Inspection,
    Overlap,
    OverlapComparison,
    QualityEvidence,
    add_findings,
    begin,
    flag_tile,
    response_of,
)


class Source(Protocol):
    """A raster that can be read by window: a scene, or a flight line."""

    def read(self, window: Window) -> Raster:
        """Reflectance (C, h, w) float32 and validity (h, w) bool of a window, mirrored outside."""
        ...


@runtime_checkable
class IndexedSource(Source, Protocol):
    """A source of several scenes, which knows the scene that a pixel is from."""

    def read_with_index(self, window: Window) -> tuple[Raster, NDArray[np.uint16]]:
        """As ``read``, and the number of the scene (h, w), from 1, 0 for none."""
        ...


@dataclass(frozen=True)
class Reading:
    """What a block needs of the scene."""

    window: Window
    """The pixels of all tiles that contribute to the block, on the cube's grid."""
    rasters: Mapping[str, Raster]
    """The inputs by name, each on its own grid; NaN where not valid."""
    valid: NDArray[np.bool_]
    """(h, w) bool, where every input is valid."""
    index: NDArray[np.uint16] | None = None
    """(h, w) which scene of a flight line a pixel is from, from 1, 0 for none; None of a single scene."""


def read_inputs(sources: Mapping[str, Source], inputs: Sequence[InputSpec], window: Window) -> Reading:
    """Read every input of a window of the cube's grid.

    Raises
    ------
    BlockError : a file cannot be read there.
    """
    rasters, index = {}, None
    valid = np.ones(window.shape, dtype=bool)
    for spec in inputs:
        source, at = sources[spec.name], window.coarser(spec.ratio)
        if isinstance(source, IndexedSource):
            rasters[spec.name], index = source.read_with_index(at)
        else:
            rasters[spec.name] = source.read(at)
        valid &= rasters[spec.name].valid.repeat(spec.ratio, axis=0).repeat(spec.ratio, axis=1)
    return Reading(window, rasters, valid, index)


@dataclass(frozen=True)
class Mosaic:
    """The blended samples of one block."""

    samples: NDArray[np.float32]
    """(K, B, h, w) float32, reflectance; values of masked pixels have no meaning."""
    valid: NDArray[np.bool_]
    """(h, w) bool, where the scene is valid."""
    tiles: int
    """Tiles that went through the network."""
    tiles_skipped: int
    """Tiles left out because the scene is masked all over them."""
    calibration: Calibration | None = None
    """What the samples' spread is worth; the predictor's."""
    tiles_kept: int = 0
    """Tiles that had gone through the network for the block before."""
    evidence: QualityEvidence | None = None
    """The evidence for its quality layers, if they were asked for."""

    def counts(
        self, layers: Sequence[Layer], part: tuple[slice, slice]
    ) -> Iterator[tuple[str, NDArray[np.uint16]]]:
        """The name and the (B, h, w) counts of the mean and of each layer in a part of the block."""
        moments: Moments[NDArray[np.float32]] = Moments()
        for sample in self.samples:
            moments.add(sample[(slice(None), *part)])
        bands, masked = self.samples.shape[1], ~self.valid[part]
        arrays: dict[str, NDArray[np.uint16]] = {}
        for name, band, values in stored_parts(moments, layers, self.calibration, bands):
            array = arrays.setdefault(part_name(name), np.empty((bands, *values.shape), dtype=np.uint16))
            values[masked] = NODATA
            array[band] = values
        yield from arrays.items()


@dataclass
class Kept:
    """Tiles that the next block of a run shares."""

    window: Window | None = None
    """The pixels of that block; None where nothing is kept."""
    tiles: dict[Tile, Any] = field(default_factory=dict)
    """What a block is made of, cut to ``window``: their samples (K, B, h, w), or their counts by part."""
    findings: dict[Tile, TileFindings] = field(default_factory=dict)
    """What was found in them, if a pair is fused: (h, w) of their cores."""

    def take(self, window: Window) -> tuple[dict[Tile, Any], dict[Tile, TileFindings]]:
        """Take the tiles out, and what was found in them; none where they were cut to another window."""
        taken = (self.tiles, self.findings) if window == self.window else ({}, {})
        self.window, self.tiles, self.findings = None, {}, {}
        return taken


def mosaic_block(
    block: Block,
    *,
    reading: Reading,
    tiling: Tiling,
    predictor: Predictor,
    samples: int,
    batch: int | None = None,
    on_tiles: Callable[[int], None] = lambda done: None,
    kept: Kept | None = None,
    then: Window | None = None,
    inspection: Inspection | None = None,
) -> Mosaic:
    """The blended block. Tiles are summed in the lattice's order, whatever the block, batch or run.

    A tile that is masked all over is left out. Every tile that touches a valid pixel holds one, so the
    weights of a valid pixel add up to one without being renormalised.

    Parameters
    ----------
    reading : the inputs in the block's ``extent``.
    batch : tiles that go through the network together at most; None takes the predictor's own number.
    on_tiles : told how many tiles have been finished since the last call.
    kept : tiles that were predicted for the block before; they are taken out, and those put in that
        have a share in ``then``. Changes the time, never a value.
    then : the window of the block that is made next.
    inspection : what to look at for the quality layers.

    Raises
    ------
    BlockError : the network gave NaN or infinity, in which tile.
    MemoryError : there is not enough memory. ``kept`` has lost its tiles; the block can be made again.
    """
    shape = block.window.shape
    window, valid = reading.window, reading.valid
    inner = block.window.relative_to(window).slices
    overlap = None
    evidence = begin_evidence(block, reading, predictor, inspection)
    if evidence is not None and inspection is not None and "overlap_disagreement" in inspection.layers:
        overlap = Overlap(evidence, tiling, block.window)
    size = batch or predictor.batch
    summed = np.zeros((samples, len(predictor.bands), *shape), dtype=np.float32)
    tiles = list(tiling.tiles(block.window))
    wanted = [tile for tile in tiles if valid[tile.window.relative_to(window).slices].any()]
    on_tiles(len(tiles) - len(wanted))
    known: dict[Tile, NDArray[np.float32]] = {}
    findings: dict[Tile, TileFindings] = {}
    if kept is not None:
        there, findings = kept.take(block.window)
        known = {tile: there[tile] for tile in wanted if tile in there}
        kept.window = then
    taken = len(known)
    for together in batches(wanted, size, known):
        new = [tile for tile in together if tile not in known]
        comparisons: dict[Tile, list[OverlapComparison]] = {}
        flag_tiles(evidence, together, block, reading, tiling, predictor)
        for tile in together if overlap is not None else ():
            shared = tiling.share_of(tile).intersection(block.window)
            assert overlap is not None
            comparisons[tile] = overlap.compare_with(shared, tile, tile_weights(tiling, tile, shared))
        mean = _Mean(samples) if evidence is not None and inspection is not None and inspection.pair else None
        stacked = stack_tiles(new, size, predictor.inputs, reading) if new else None
        for sample, spectra in enumerate(_predict(stacked, predictor, samples)):
            predicted = iter(spectra)
            if mean is not None:
                mean.add(spectra)
            for tile in together:
                shared = tiling.share_of(tile).intersection(block.window)
                if tile in known:
                    inside = known[tile][sample]
                else:
                    spectrum = next(predicted)
                    _check_finite(spectrum, tile)
                    inside = spectrum[(slice(None), *shared.relative_to(tile.window).slices)]
                    if kept is not None:
                        _keep(kept, tile, tiling.share_of(tile), spectrum, sample, samples)
                target = summed[(sample, slice(None), *shared.relative_to(block.window).slices)]
                for comparison in comparisons.get(tile, ()):
                    comparison.compare(inside, target, shared)
                target += inside * tile_weights(tiling, tile, shared)
        if mean is not None:
            assert evidence is not None
            assert isinstance(predictor, FusingPredictor)
            if stacked is not None:
                whole = TileFindings(*predictor.inspect(stacked, mean.values))
                for tile, found in _cores(new, whole, tiling):
                    findings[tile] = found
                    if kept is not None and tile in kept.tiles:
                        kept.findings[tile] = found
            for tile in together:
                add_findings(evidence, block.window, tiling.core_of(tile), *findings.pop(tile))
        for tile in together:
            known.pop(tile, None)
            if overlap is not None:
                overlap.note(comparisons[tile], samples)
        on_tiles(len(together))
    return Mosaic(
        summed, valid[inner].copy(), len(wanted) - taken, len(tiles) - len(wanted), predictor.calibration,
        taken, evidence,
    )  # fmt: skip


def begin_evidence(
    block: Block, reading: Reading, predictor: Predictor, inspection: Inspection | None
) -> QualityEvidence | None:
    """The evidence for a block's quality layers, from its colours alone; None if none is wanted."""
    if inspection is None:
        return None
    inner, first = block.window.relative_to(reading.window).slices, predictor.inputs[0]
    colours = reading.rasters[first.name].values[(slice(None), *inner)].copy()
    if inspection.pair:
        assert isinstance(predictor, FusingPredictor)
        response = predictor.response
    else:
        response = response_of(predictor.bands, first.bands)
    return begin(inspection, colours, reading.valid[inner], response)


def flag_tiles(
    evidence: QualityEvidence | None,
    tiles: Sequence[Tile],
    block: Block,
    reading: Reading,
    tiling: Tiling,
    predictor: Predictor,
) -> None:
    """Add to the evidence, if there is any, what is known of tiles that have a share in the block."""
    for tile in tiles if evidence is not None else ():
        assert evidence is not None
        flag_tile(
            evidence, tile.window, block.window, scene=Window(0, 0, *tiling.shape),
            valid=reading.valid[tile.window.relative_to(reading.window).slices], reach=predictor.reach,
        )  # fmt: skip


def extent(tiling: Tiling, window: Window) -> Window:
    """The pixels to read for a window: those of all tiles that contribute to it."""
    tiles = [tile.window for tile in tiling.tiles(window)]
    return tiles[0].union(tiles[-1])


def _predict(batch: Batch | None, predictor: Predictor, samples: int) -> Iterator[NDArray[np.float32]]:
    """One (N, B, h, w) array of spectra for each sample; of no tiles where there is no batch."""
    if batch is None:
        return repeat(np.empty((0, 0, 0, 0), dtype=np.float32), samples)
    return predictor.predict(batch, range(samples))


@dataclass
class _Mean:
    """The mean of samples that come one after another."""

    samples: int
    values: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, dtype=np.float32))

    def add(self, sample: NDArray[np.float32]) -> None:
        share = sample / np.float32(self.samples) if self.samples > 1 else sample
        self.values = share if not self.values.size else self.values + share


def _cores(tiles: Sequence[Tile], found: TileFindings, tiling: Tiling) -> Iterator[tuple[Tile, TileFindings]]:
    """What was found in the core of each tile: at its border it does not know the whole PSF."""
    for at, tile in enumerate(tiles):
        core = tiling.core_of(tile).relative_to(tile.window).slices
        yield tile, TileFindings(found.hsi_difference[at][core].copy(), found.changed[at][core].copy())


def stack_tiles(tiles: Sequence[Tile], size: int, inputs: Sequence[InputSpec], reading: Reading) -> Batch:
    """Tiles of every input as a batch, cut from what was read; masked pixels hold the inputs' fill."""
    rasters = {}
    for spec in inputs:
        raster, whole = reading.rasters[spec.name], reading.window.coarser(spec.ratio)
        cuts = [tile.window.coarser(spec.ratio).relative_to(whole).slices for tile in tiles]
        # The order in memory decides the order of sums, and with it the last bit: it must not hang on how
        # many tiles are stacked, as it does where the input's channels lie side by side.
        values = np.ascontiguousarray(np.stack([raster.values[(slice(None), *cut)] for cut in cuts]))
        rasters[spec.name] = spec.filled(Raster(values, np.stack([raster.valid[cut] for cut in cuts])))
    origins = np.array([(tile.window.row, tile.window.col) for tile in tiles], dtype=np.int64)
    return Batch(rasters, origins, size)


def _check_finite(spectrum: NDArray[np.float32], tile: Tile) -> None:
    """Refuse NaN and infinity, which would be stored as a reflectance of 0 or as the largest count."""
    finite = np.isfinite(spectrum)
    if not finite.all():
        raise BlockError(
            "the prediction is not finite", where=f"tile {tile.name}",
            got=f"{finite.size - np.count_nonzero(finite)} of {finite.size} values NaN or infinite",
            remedy="look at the scene there, or try --dtype float32",
        )  # fmt: skip


def _keep(
    kept: Kept, tile: Tile, share: Window, spectrum: NDArray[np.float32], sample: int, samples: int
) -> None:
    share = Window(0, 0, 0, 0) if kept.window is None else share.intersection(kept.window)
    if share.size:
        if tile not in kept.tiles:
            kept.tiles[tile] = np.empty((samples, len(spectrum), *share.shape), dtype=np.float32)
        kept.tiles[tile][sample] = spectrum[(slice(None), *share.relative_to(tile.window).slices)]


def batches(tiles: Sequence[Tile], size: int, known: Container[Tile] = ()) -> Iterator[list[Tile]]:
    """The tiles in order, cut where more than ``size`` of one shape would have to be predicted."""
    batch: list[Tile] = []
    new: list[Tile] = []
    for tile in tiles:
        if tile not in known:
            if len(new) == size or (new and new[0].window.shape != tile.window.shape):
                yield batch
                batch, new = [], []
            new.append(tile)
        batch.append(tile)
    if batch:
        yield batch
