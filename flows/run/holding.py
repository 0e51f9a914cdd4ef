"""A run holds its cube: the lease, and the observer that writes the run's progress into it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spectile.flows.run.outputs import names_beside
from spectile.pipeline.cube.lease import Lease, hold
from spectile.pipeline.cube.record import occupied, read_record, read_status, writing
from spectile.pipeline.store.opening import open_storage

if TYPE_CHECKING:
    from spectile.flows.run.settings import Settings
    from spectile.flows.run.state import Observer
    from spectile.pipeline.geometry.tiling import Block
    from spectile.pipeline.plan.cost import Estimate
    from spectile.pipeline.plan.plan import Plan


@contextmanager
def holding(settings: Settings) -> Iterator[Lease]:
    """Hold the lease of the cube that a run writes, or of the place where it will be.

    Raises
    ------
    LeaseHeld : another run is writing the cube.
    CubeError : something else is there; nothing is written beside it.
    StoreError : the store cannot be written.
    """
    storage = open_storage(settings.out)
    if occupied(storage) and read_record(storage) is None:
        read_status(storage)
    with (
        writing(storage),
        hold(storage, settings.lease, beside=names_beside(storage.name)) as lease,
    ):
        yield lease


class Beating:
    """An observer that forwards progress to the lease, and then to another observer."""

    def __init__(self, lease: Lease, observer: Observer) -> None:
        self._lease = lease
        self._observer = observer
        self._todo: dict[Block, None] = {}
        self._blocks = 0

    def begin(self, plan: Plan, estimate: Estimate, done: Sequence[Block]) -> None:
        """Note the blocks."""
        self._todo = dict.fromkeys(plan.blocks)
        for block in done:
            self._todo.pop(block, None)
        self._blocks = len(plan.blocks)
        self._tell()
        self._observer.begin(plan, estimate, done)

    def tiles(self, count: int) -> None:
        """Note that the run moves."""
        self._lease.tell()
        self._observer.tiles(count)

    def block(self, block: Block, seconds: float) -> None:
        """Note a block."""
        self._todo.pop(block, None)
        self._tell()
        self._observer.block(block, seconds)

    def _tell(self) -> None:
        first = next(iter(self._todo), None)
        done = self._blocks - len(self._todo)
        self._lease.tell(blocks=self._blocks, done=done, block=first.name if first else "")
