"""The next step's batch, made by a thread while a step is trained: no accelerator waits for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from spectile.model.data.crops import Batch


class Ahead:
    """Batches by step; a batch is a function of its step alone, so making it early changes nothing."""

    def __init__(self, make: Callable[[int], Batch]) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1, "crops")
        self._next: tuple[int, Future[Batch]] | None = None

    def __call__(self, step: int) -> Batch:
        """The batch of a step; that of the step after it is begun."""
        known, self._next = self._next, None
        batch = known[1].result() if known is not None and known[0] == step else self._make(step)
        self._next = step + 1, self._pool.submit(self._make, step + 1)
        return batch
