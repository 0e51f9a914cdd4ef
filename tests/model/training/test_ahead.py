"""Batches that are made ahead are those of their steps, in whatever order the steps come."""

from __future__ import annotations

import threading

import pytest

from spectile.model.training.ahead import Ahead


def test_each_step_has_its_own_batch_and_the_next_is_made_by_another_thread() -> None:
    made: list[tuple[int, bool]] = []

    def make(step: int) -> int:
        made.append((step, threading.current_thread() is threading.main_thread()))
        return step

    batches = Ahead(make)  # type: ignore[arg-type]
    assert [batches(step) for step in (0, 1, 2, 7, 0)] == [0, 1, 2, 7, 0]
    by_main = [step for step, main in made if main]
    assert by_main == [0, 7, 0]
    assert {step for step, main in made if not main} >= {1, 2}


def test_a_batch_that_cannot_be_made_fails_at_its_own_step() -> None:
    def make(step: int) -> int:
        return 1 // (2 - step)

    batches = Ahead(make)  # type: ignore[arg-type]
    assert batches(1) == 1
    with pytest.raises(ZeroDivisionError):
        batches(2)
