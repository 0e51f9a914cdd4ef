"""Cost of the pipeline beside the network: times of a run's parts, and of writing with zarr alone."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import zarr
from rasterio.windows import Window as At

from spectile.catalog.errors import BlockError
from spectile.catalog.inputs import Batch
from spectile.pipeline import run
from spectile.pipeline.block import counted
from spectile.pipeline.block.counted import count_tiles
from spectile.pipeline.block.mosaic import Source, batches, read_inputs, stack_tiles
from spectile.pipeline.block.predict import Predictor, calls_of
from spectile.pipeline.cube import ledger, regions, write
from spectile.pipeline.cube.ledger import Marker
from spectile.pipeline.cube.record import Cube
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Block, Tiling
from spectile.pipeline.simulate.scene import Simulator

SQUARE = 1024
"""Rows and columns of the simulated landscape that scenes repeat, px."""


def write_scene(path: Path, shape: tuple[int, int]) -> None:
    """A GeoTIFF of uint8 display values: one simulated landscape, repeated side by side to fill the scene.

    The landscape is written beside it, for the next one.
    """
    first = path.with_name("landscape.tif")
    if not first.exists():
        Simulator(seed=5, shape=(SQUARE, SQUARE)).write_rgb(first, kind="display")
    with rasterio.open(first) as dataset:
        landscape, profile = dataset.read(), dataset.profile
    rows, cols = shape
    strip = np.tile(landscape, (1, 1, -(-cols // SQUARE)))[:, :, :cols]
    with rasterio.open(path, "w", **{**profile, "height": rows, "width": cols}) as dataset:
        for row in range(0, rows, SQUARE):
            height = min(SQUARE, rows - row)
            dataset.write(strip[:, :height], window=At(0, row, cols, height))


@dataclass(frozen=True)
class Bare:
    """A network without a pipeline: batches of tiles in memory that it predicts again and again."""

    predictor: Predictor
    """The network."""
    batches: Sequence[Batch]
    """What each call takes."""

    tiles: float
    """Whole tiles of a pass; one that is cut at the scene's border counts as far as it goes."""

    def run(self) -> Clocked:
        """What a pass over the tiles, one sample each, takes: as counts, if it reduces them itself."""
        clock = Clock()
        whole = slice(None), slice(None)
        with ThreadPoolExecutor(calls_of(self.predictor)) as device:
            list(device.map(lambda batch: count_tiles(self.predictor, batch, 1, (), whole), self.batches))
        return clock.read(self.tiles)


@dataclass(frozen=True)
class Clocked:
    """What some tiles took."""

    tiles: float
    """How many whole ones."""
    seconds: float
    """Wall time."""
    cpu_seconds: float
    """CPU time of all threads of this process: the time on an otherwise idle machine."""

    @property
    def speed(self) -> float:
        """Tiles a second."""
        return self.tiles / self.seconds


class Clock:
    """Counts from when it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self, tiles: float) -> Clocked:
        """What has passed, for some tiles."""
        return Clocked(tiles, time.perf_counter() - self._wall, time.process_time() - self._cpu)


def bare(predictor: Predictor, sources: Mapping[str, Source], tiling: Tiling, *, tiles: int) -> Bare:
    """The network with the first ``tiles`` tiles of a scene, or all, in calls of its batch."""
    chosen = [tile for tile, _ in zip(tiling.tiles(), range(tiles), strict=False)]
    stacked = []
    for together in batches(chosen, predictor.batch):
        # A batch may have tiles of two rows of the lattice.
        window = reduce(Window.union, (tile.window for tile in together))
        reading = read_inputs(sources, predictor.inputs, window)
        stacked.append(stack_tiles(together, predictor.batch, predictor.inputs, reading))
    return Bare(predictor, stacked, sum(tile.window.size for tile in chosen) / tiling.tile**2)


@contextmanager
def metered(
    *calls: tuple[object, str], clock: Callable[[], float] = time.perf_counter
) -> Iterator[dict[str, float]]:
    """Let calls of functions or methods count their time inside; the seconds of each by its name.

    Parameters
    ----------
    calls : the module or class that holds each, and its name there.
    clock : ``time.perf_counter``, or ``time.process_time`` for the CPU time of all threads.
    """
    seconds = {name: 0.0 for _, name in calls}
    with ExitStack() as stack:
        for owner, name in calls:
            call = getattr(owner, name)
            stack.callback(setattr, owner, name, call)
            wrap = _generating if inspect.isgeneratorfunction(call) else _calling
            setattr(owner, name, wrap(call, name, seconds, clock))
        yield seconds


def _calling(
    call: Callable[..., Any], name: str, seconds: dict[str, float], clock: Callable[[], float]
) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        start = clock()
        try:
            return call(*arguments, **named)
        finally:
            seconds[name] += clock() - start

    return run


def _generating(
    call: Callable[..., Any], name: str, seconds: dict[str, float], clock: Callable[[], float]
) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Iterator[Any]:
        made = call(*arguments, **named)
        while True:
            start = clock()
            try:
                item = next(made)
            except StopIteration:
                return
            finally:
                seconds[name] += clock() - start
            yield item

    return run


class Unwatched:
    """A run's ``Watch`` that looks at nothing; a block that fails ends the run."""

    def tiles(self, count: int) -> None:
        """Nothing."""

    def done(self, block: Block, marker: Marker, seconds: float) -> None:
        """Nothing."""

    def failed(self, block: Block, error: BlockError) -> None:
        """The error."""
        raise error


def time_block(
    cube: Cube,
    block: Block,
    *,
    sources: Mapping[str, run.Scene],
    predictor: Predictor,
    clock: Callable[[], float],
) -> dict[str, float]:
    """Seconds of a block's parts, made alone, in one thread, in the order of the work.

    They are read, network (with rounding to counts where nothing is blended), blend (with cutting the tiles
    out), encode, reduce (for the overviews that the block holds), statistics, checksums, store (writing the
    bytes), ledger, and the rest; and ``block``, their sum.

    Parameters
    ----------
    clock : as of ``metered``.
    """
    making: list[tuple[object, str]] = [(run, "count_block"), (counted, "count_tiles")]
    if cube.plan.tiling.ramp:
        making = [(run, "mosaic_block"), (type(predictor), "predict")]
    with one_thread(), metered(
        (run, "read_inputs"), *making, (write, "encode_shard"), (regions, "encode_shard"),
        (regions.Coarse, "add"), (write, "take_sums"), (ledger, "shard_checksum"),
        (type(cube.storage), "put"), (ledger, "write_marker"),
        clock=clock,
    ) as spent:  # fmt: skip
        start = clock()
        run.process_run(
            cube, [block], sources=sources, predictor=predictor, watch=Unwatched(), overlapped=False
        )
        whole = clock() - start
    (_, block_call), (_, network_call) = making
    parts = {
        "read": spent["read_inputs"],
        "network": spent[network_call],
        "blend": spent[block_call] - spent[network_call],
        "encode": spent["encode_shard"],
        "reduce": spent["add"],
        "statistics": spent["take_sums"],
        "checksums": spent["shard_checksum"],
        "store": spent["put"],
        "ledger": spent["write_marker"],
    }
    return {**parts, "rest": whole - sum(parts.values()), "block": whole}


@contextmanager
def one_thread() -> Iterator[None]:
    """Let blocks be written by one thread, so that times of parts add up."""
    before, write.MOST_THREADS, write.MOST_BLENDED = (write.MOST_THREADS, write.MOST_BLENDED), 1, 1
    try:
        yield
    finally:
        write.MOST_THREADS, write.MOST_BLENDED = before


def time_raw_write(cube: Path, place: Path, block: int) -> float:
    """Seconds that zarr takes to write a cube's reflectance elsewhere, block by block, encoded as it is.

    What is written lies in memory; reading it does not count.
    """
    # Any: zarr types an item of a group as everything that it could be.
    source: Any = zarr.open_group(cube, mode="r")["reflectance"]
    target = zarr.create_array(
        place, shape=source.shape, chunks=source.chunks, shards=source.shards, dtype=source.dtype,
        compressors=source.compressors, fill_value=source.fill_value, config={"write_empty_chunks": True},
    )  # fmt: skip
    seconds = 0.0
    for row in range(0, source.shape[1], block):
        for col in range(0, source.shape[2], block):
            at = slice(None), slice(row, row + block), slice(col, col + block)
            counts = source[at]
            start = time.perf_counter()
            target[at] = counts
            seconds += time.perf_counter() - start
    return seconds
