"""A run of blocks: while one is predicted, the next is read and the last one written.

One thread reads and one writes, each a block at a time, so at most three blocks are in memory. Blocks
are predicted and written in order; a block's values do not depend on the run that it is in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.errors import BlockError, NetworkError, StoreError
from spectile.pipeline.block.counted import Counted, count_block
from spectile.pipeline.block.mosaic import Kept, Mosaic, Reading, Source, extent, mosaic_block, read_inputs
from spectile.pipeline.block.predict import Predictor, calls_of
from spectile.pipeline.cube.attempts import note_failure
from spectile.pipeline.cube.ledger import Marker
from spectile.pipeline.cube.record import Cube
from spectile.pipeline.cube.write import encoding_threads, write_block
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.plan.quality_layers import Inspection

LOG = logging.getLogger("spectile")

BACK_OFF_SECONDS = 0.5
"""Pause before a block is tried again; it doubles with each try."""

T = TypeVar("T")


class Watch(Protocol):
    """Observes a run; called by the thread that called the run."""

    def tiles(self, count: int) -> None:
        """Told when tiles have been finished or skipped; negative when tiles are recomputed."""
        ...

    def done(self, block: Block, marker: Marker, seconds: float) -> None:
        """Told when a block has been written; ``seconds`` is what its reading and prediction took."""
        ...

    def failed(self, block: Block, error: BlockError) -> None:
        """Told when a block has been given up."""
        ...


class Scene(Source, Protocol):
    """What a run needs of a scene, and of each of a pair."""

    @property
    def ceiling(self) -> NDArray[np.float32] | None:
        """(C,) the greatest reflectance that the scene can hold; None where nothing limits it."""
        ...


def process_run(
    cube: Cube,
    blocks: Sequence[Block],
    *,
    sources: Mapping[str, Scene],
    predictor: Predictor,
    watch: Watch,
    retries: int = 2,
    overlapped: bool = True,
    max_seconds: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Read, predict and write blocks.

    A block that cannot be made is reported to ``watch``, and the others are made. If memory runs out, the
    batch is halved and the block is made again.

    Parameters
    ----------
    sources : the scene by the name of each input of the predictor.
    retries : how often reading, prediction or writing of a block is tried again.
    overlapped : hold three blocks at once, and the tiles that two of them share; else one after the other.
    max_seconds : what the prediction of a block may take, looked at between calls of the network; then the
        try has failed.
    stopped : asked before each block; the run ends where it says so.

    Raises
    ------
    StoreError : the store cannot be written; there is no point in going on.
    """
    with (
        ThreadPoolExecutor(1, "read") as reader,
        ThreadPoolExecutor(1, "write") as writer,
        encoding_threads(cube.plan) as encoders,
        ThreadPoolExecutor(calls_of(predictor), "predict") as device,
        _Run(
            cube,
            sources,
            predictor,
            watch,
            retries,
            overlapped,
            max_seconds,
            reader,
            writer,
            encoders,
            device,
        ) as run,
    ):
        following: Future[_Read] | None = None
        for block, then in zip(blocks, chain(blocks[1:], [None]), strict=False):
            if stopped():
                break
            reading = following or run.read(block)
            following = run.read(then) if then and overlapped else None
            run.make(block, reading, then)
            if not overlapped:
                run.collect()
        run.collect()


class _TooLong(BlockError):
    """A block whose prediction took longer than it may."""


@dataclass(frozen=True)
class _Read:
    """What was read for a block."""

    reading: Reading
    index: NDArray[np.uint16] | None


@dataclass
class _Run:
    cube: Cube
    sources: Mapping[str, Scene]
    predictor: Predictor
    watch: Watch
    retries: int
    overlapped: bool
    max_seconds: float | None
    reader: ThreadPoolExecutor
    writer: ThreadPoolExecutor
    encoders: ThreadPoolExecutor
    device: ThreadPoolExecutor
    # Threads live as long as the run: each has an arena of memory of its own, which new ones would fill anew.
    _writing: tuple[Block, float, Future[Marker]] | None = None

    def __post_init__(self) -> None:
        self._kept = Kept()
        self._batch = self.predictor.batch
        self._first = self.sources[self.predictor.inputs[0].name]
        wanted = self.cube.plan.quality
        pair = "pair" in self.cube.plan.settings
        self._inspection = Inspection(wanted, self._first.ceiling, pair) if wanted else None

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *failure: object) -> None:
        self.reader.shutdown(cancel_futures=True)
        self.writer.shutdown()
        # The last write has finished, and counts, even if the run is stopped.
        if self._writing is not None and self._writing[2].exception() is None:
            self.collect()

    def read(self, block: Block) -> Future[_Read]:
        """Let a block be read."""
        return self.reader.submit(self._tried, lambda: self._read(block), (BlockError,))

    def make(self, block: Block, reading: Future[_Read], then: Block | None) -> None:
        """Predict a block and let it be written."""
        started = time.perf_counter()
        try:
            mosaic, index = self._predict(block, reading, then)
        except BlockError as err:
            self.collect()
            self._give_up(block, err)
            return
        seconds = time.perf_counter() - started
        self.collect()
        write = self.writer.submit(self._write, block, mosaic, index, seconds)
        self._writing = block, seconds, write

    def collect(self) -> None:
        """Wait for the block that is being written."""
        if self._writing is None:
            return
        (block, seconds, write), self._writing = self._writing, None
        try:
            marker = write.result()
        except MemoryError:
            self._give_up(block, _no_memory())
        else:
            self.watch.done(block, marker, seconds)

    def _give_up(self, block: Block, error: BlockError) -> None:
        # The note is only to show; if the store does not work, the next block will tell.
        with suppress(StoreError, OSError):
            note_failure(self.cube, block, error)
        self.watch.failed(block, error)

    def _read(self, block: Block) -> _Read:
        window = extent(self.cube.plan.tiling, block.window)
        reading = read_inputs(self.sources, self.predictor.inputs, window)
        index = reading.index
        return _Read(reading, None if index is None else index[block.window.relative_to(window).slices])

    def _predict(
        self, block: Block, reading: Future[_Read], then: Block | None
    ) -> tuple[Mosaic | Counted, NDArray[np.uint16] | None]:
        tried = 0
        while True:
            told: list[int] = []
            try:
                found = reading.result()
                return self._mosaic(block, found.reading, then, told), found.index
            except MemoryError:
                failure: BlockError | None = None
            except _TooLong as err:
                failure = err
            except NetworkError as err:
                failure = BlockError(str(err))
            except BlockError:  # made again, it would be the same
                self._kept = Kept()
                self.watch.tiles(-sum(told))
                raise
            # Here the memory of the failed try is free again.
            self._kept = Kept()
            self.watch.tiles(-sum(told))
            if failure is None:
                if self._batch == 1:
                    raise _no_memory()
                self._batch //= 2
                LOG.warning("not enough memory; the batch is now %d tile(s)", self._batch)
                if reading.exception() is not None:
                    reading = self.read(block)
            elif tried == self.retries:
                raise failure
            else:
                time.sleep(BACK_OFF_SECONDS * 2**tried)
                tried += 1

    def _mosaic(
        self, block: Block, reading: Reading, then: Block | None, told: list[int]
    ) -> Mosaic | Counted:
        started = time.perf_counter()

        def tell(count: int) -> None:
            told.append(count)
            self.watch.tiles(count)
            if self.max_seconds is not None and time.perf_counter() - started > self.max_seconds:
                raise _TooLong("the block takes too long", expected=f"at most {self.max_seconds:g} s")

        plan = self.cube.plan
        options: dict[str, Any] = {
            "reading": reading, "tiling": plan.tiling, "predictor": self.predictor, "samples": plan.samples,
            "batch": self._batch, "on_tiles": tell, "kept": self._kept if self.overlapped else None,
            "then": None if then is None else then.window, "inspection": self._inspection,
        }  # fmt: skip
        if plan.tiling.ramp == 0:
            return count_block(block, layers=plan.layers, device=self.device, **options)
        return mosaic_block(block, **options)

    def _write(
        self, block: Block, mosaic: Mosaic | Counted, index: NDArray[np.uint16] | None, seconds: float
    ) -> Marker:
        return self._tried(
            lambda: write_block(
                self.cube, block, mosaic, source=index, seconds=seconds, encoders=self.encoders
            ),
            (StoreError, MemoryError),
        )

    def _tried(self, work: Callable[[], T], errors: tuple[type[Exception], ...]) -> T:
        """The result of the work, retried after some errors."""
        for tried in range(self.retries):
            try:
                return work()
            except errors:
                pass
            time.sleep(BACK_OFF_SECONDS * 2**tried)
        return work()


def _no_memory() -> BlockError:
    return BlockError("not enough memory", remedy="lower --memory, --samples or --block, then use --resume")
