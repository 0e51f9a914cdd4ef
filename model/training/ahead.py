"""Batches that are made while the device computes: what is random in one depends on its number alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")

AHEAD = 2
"""Results that each thread may be ahead."""
MOST_THREADS = 16
"""That make crops for a CUDA device."""


def crop_threads(device: str) -> int:
    """How many threads should make crops: none where the processor trains, which has enough to do."""
    return min(MOST_THREADS, os.cpu_count() or 1) if device.startswith("cuda") else 0


class Ahead(Generic[T]):
    """Calls ``make`` for the next numbers in threads; used with ``with``.

    Parameters
    ----------
    make : a function of the number alone.
    last : numbers are asked for up to here, exclusive.
    threads : 0 makes each when it is asked for.
    """

    def __init__(self, make: Callable[[int], T], last: int, *, threads: int) -> None:
        self._make = make
        self._last = last
        self._most = threads * AHEAD
        self._pool = ThreadPoolExecutor(threads) if threads else None
        self._begun: dict[int, Future[T]] = {}

    def __call__(self, number: int) -> T:
        """The result of a number; an error of ``make`` is raised here."""
        if self._pool is None:
            return self._make(number)
        for later in range(number, min(number + self._most + 1, self._last)):
            if later not in self._begun:
                self._begun[later] = self._pool.submit(self._make, later)
        return self._begun.pop(number).result()

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
