"""Blocks that were given up are noted, and a note of another plan or a damaged one says nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spectile.pipeline.cube import ledger
from spectile.pipeline.cube.attempts import note_failure, read_failures
from spectile.pipeline.cube.record import Cube, finished_blocks


def test_runs_that_give_a_block_up_are_counted_and_the_last_reason_stays(cube: Cube) -> None:
    first, second, *_ = cube.plan.blocks
    note_failure(cube, first, "the scene cannot be read")
    note_failure(cube, first, MemoryError("no memory"))
    note_failure(cube, second, "no memory")
    found = read_failures(cube, cube.plan.blocks)
    assert {block: (each.attempts, each.error) for block, each in found.items()} == {
        first: (2, "no memory"), second: (1, "no memory")
    }  # fmt: skip
    assert first in finished_blocks(cube), "a note decides nothing"
    assert read_failures(cube, [second]).keys() == {second}


def test_a_note_of_another_plan_is_left_out_and_counted_anew(cube: Cube) -> None:
    block = cube.plan.blocks[0]
    other = Cube(cube.storage, replace(cube.plan, settings={"seed": 1}))
    note_failure(other, block, "before")
    assert read_failures(cube, [block]) == {}
    note_failure(cube, block, "now")
    assert read_failures(cube, [block])[block].attempts == 1


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"{}", b'{"attempts": 1}', b"\xff"])
def test_a_damaged_note_is_none(cube: Cube, value: bytes) -> None:
    block = cube.plan.blocks[0]
    cube.storage.put(ledger.failure_key(block), value)
    assert read_failures(cube, [block]) == {}
