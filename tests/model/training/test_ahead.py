"""What is made ahead is what would be made in turn."""

from __future__ import annotations

import threading

import pytest

from spectile.model.training.ahead import Ahead


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_come_in_order_from_any_start(threads: int) -> None:
    with Ahead(lambda number: number**2, 20, threads=threads) as made:
        assert [made(number) for number in range(7, 20)] == [number**2 for number in range(7, 20)]


def test_later_ones_are_made_before_they_are_asked_for_and_none_beyond_the_last() -> None:
    seen: list[int] = []
    ready = threading.Event()

    def make(number: int) -> int:
        seen.append(number)
        if number == 3:
            ready.set()
        return number

    with Ahead(make, 4, threads=2) as made:
        made(0)
        assert ready.wait(5.0)
    assert sorted(seen) == [0, 1, 2, 3]


def test_an_error_reaches_who_asks() -> None:
    def make(number: int) -> int:
        raise ValueError(f"number {number}")

    with Ahead(make, 4, threads=2) as made, pytest.raises(ValueError, match="number 1"):
        made(1)
