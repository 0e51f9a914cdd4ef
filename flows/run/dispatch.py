"""Groups of blocks for a dask cluster, a few for each worker at a time; the ledger says what is done."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

from distributed import Client, Future, KilledWorker, wait

from spectile.catalog.errors import SpectileError
from spectile.flows.run.state import Observer, Tally
from spectile.pipeline.cube.attempts import note_failure
from spectile.pipeline.cube.record import Cube, finished_blocks
from spectile.pipeline.geometry.tiling import Block

LOG = logging.getLogger("spectile")

RUN_SECONDS = 120.0
"""Longest time of a group of blocks, if one block does not take longer; a lost worker costs no more."""
RUNS_A_WORKER = 2
"""Groups that a worker has: one in work, one waiting."""
DESERTED_SECONDS = 300.0
"""Longest time without any worker: enough for one to start again."""
POLL_SECONDS = 2.0
"""Shortest time between two reads of the ledger."""


class Dispatch:
    """The blocks of a job that are still to do, and the workers that have them."""

    def __init__(
        self,
        client: Client,
        make: Callable[[str, Sequence[str]], dict[str, Any]],
        job: str,
        cube: Cube,
        blocks: Sequence[Block],
        resources: Mapping[str, int] | None,
        *,
        retries: int,
        tally: Tally,
        observer: Observer,
    ) -> None:
        self._client, self._make, self._job, self._resources = client, make, job, resources
        self._cube, self._tally, self._observer = cube, tally, observer
        self._retries = retries
        self._waiting = deque(blocks)
        self._alone: deque[Block] = deque()
        """Blocks whose group lost its workers; each is now a group of its own."""
        self._running: dict[Future[Any], list[Block]] = {}
        self._open = dict.fromkeys(blocks)
        """Blocks that are neither done nor given up."""
        self._lost: Counter[Block] = Counter()
        self._seconds: list[float] = []
        """Seconds of the latest blocks."""
        self._batch: int | None = None
        self._next_poll = 0.0
        self._deserted: float | None = None
        """When the last worker was lost; None while there is one."""

    def run(self) -> None:
        """Have all blocks made; return when each is done or given up.

        Raises
        ------
        SpectileError : no more blocks can be made, e.g. because the store cannot be written, or because no
            worker was there for DESERTED_SECONDS.
        """
        try:
            while self._waiting or self._alone or self._running:
                self._submit()
                for future in self._finished():
                    self._settle(self._running.pop(future), future)
                self._poll()
            self._poll(now=True)
        finally:
            self._client.cancel(list(self._running))
        for block in self._open:
            self._tally.fail(block, "it was made, but is not there; run again with --resume")

    def _submit(self) -> None:
        workers = len(self._client.nthreads())
        self._check_deserted(workers)
        workers = max(workers, 1)
        while (self._waiting or self._alone) and len(self._running) < RUNS_A_WORKER * workers:
            blocks = self._next_run(workers)
            names = [block.name for block in blocks]
            future = self._client.submit(
                self._make, self._job, names,
                key=f"{self._job}-{names[0]}-{time.monotonic_ns()}", pure=False, resources=self._resources,
            )  # fmt: skip
            self._running[future] = blocks

    def _check_deserted(self, workers: int) -> None:
        now = time.monotonic()
        if workers:
            self._deserted = None
        elif self._deserted is None:
            LOG.warning("no worker is left; waiting for one")
            self._deserted = now
        elif now - self._deserted > DESERTED_SECONDS:
            raise SpectileError(
                "no worker is left", got=f"none for {DESERTED_SECONDS:g} s",
                remedy="start workers, then use --resume",
            )  # fmt: skip

    def _next_run(self, workers: int) -> list[Block]:
        """Contiguous blocks: one until the time of a block is known, and fewer towards the end."""
        if self._alone:
            return [self._alone.popleft()]
        count = 1
        if self._seconds:
            fair = -(-len(self._waiting) // (RUNS_A_WORKER * workers))
            count = max(1, min(int(RUN_SECONDS / max(self._seconds)), fair))
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def _finished(self) -> list[Future[Any]]:
        try:
            with self._client.as_current():
                done = wait(list(self._running), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            return []
        return [future for future in self._running if future in done]

    def _settle(self, blocks: list[Block], future: Future[Any]) -> None:
        try:
            facts = future.result()
        except KilledWorker:
            self._settle_lost(blocks)
            return
        except CancelledError as err:
            raise SpectileError(
                "the dask cluster was lost", remedy="start it again, then use --resume"
            ) from err
        for block in blocks:
            if (why := facts["failures"].get(block.name)) is not None:
                self._give_up(block, why)
        self._tally.peak_memory_bytes = max(self._tally.peak_memory_bytes, facts["peak_memory_bytes"])
        if self._batch is not None and facts["batch"] < self._batch:
            LOG.warning("not enough memory on a worker; its batch is now %d tile(s)", facts["batch"])
        self._batch = min(facts["batch"], self._batch or facts["batch"])

    def _settle_lost(self, blocks: list[Block]) -> None:
        """Try the rest of a group block by block: one of them may kill its workers."""
        done = finished_blocks(self._cube, blocks)
        left = [block for block in blocks if block not in done]
        for block in left:
            self._lost[block] += len(blocks) == 1
            if self._lost[block] > self._retries:
                why = "every worker that made it died, for lack of memory perhaps"
                note_failure(self._cube, block, why)  # the worker does it for other failures
                self._give_up(block, why)
            else:
                self._alone.append(block)

    def _give_up(self, block: Block, why: str) -> None:
        self._open.pop(block, None)
        self._tally.fail(block, why)

    def _poll(self, *, now: bool = False) -> None:
        """Count the blocks that the ledger says are done since it was last read."""
        started = time.monotonic()
        if started < self._next_poll and not now:
            return
        for block, marker in finished_blocks(self._cube, list(self._open)).items():
            del self._open[block]
            self._seconds = [*self._seconds[-31:], marker.seconds]
            self._tally.add(self._cube.plan, block, marker)
            self._observer.tiles(self._cube.plan.tiling.count(block.window))
            self._observer.block(block, marker.seconds)
        # A slow store, or a ledger of many blocks, is read less often.
        ended = time.monotonic()
        self._next_poll = ended + max(POLL_SECONDS, 10 * (ended - started))
