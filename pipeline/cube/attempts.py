"""Blocks that could not be made: a note for each in the ledger, to show to the user.

A note decides nothing: a block that has one is done as soon as its marker says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from spectile.pipeline.cube import ledger
from spectile.pipeline.cube.record import Cube
from spectile.pipeline.geometry.tiling import Block


@dataclass(frozen=True)
class Failure:
    """What is known of a block that was given up."""

    digest: str
    """Digest of the block's plan."""
    attempts: int
    """How many runs have given it up."""
    error: str
    """Why the last one did."""


def note_failure(cube: Cube, block: Block, error: object) -> None:
    """Note that a run has given a block up.

    Raises
    ------
    StoreError, OSError : the store cannot be written.
    """
    digest = cube.plan.digest_of(block)
    before = _parse(cube.storage.get(ledger.failure_key(block)), digest)
    failure = Failure(digest, before.attempts + 1 if before else 1, str(error))
    cube.storage.put(ledger.failure_key(block), json.dumps(asdict(failure), sort_keys=True).encode())


def read_failures(cube: Cube, blocks: Iterable[Block]) -> dict[Block, Failure]:
    """The notes of blocks that were given up under this plan, also of blocks that are done now."""
    there = set(cube.storage.keys(ledger.PREFIX))
    noted = [block for block in blocks if ledger.failure_key(block) in there]
    with ThreadPoolExecutor(16) as pool:
        values = pool.map(lambda block: cube.storage.get(ledger.failure_key(block)), noted)
        failures = {
            block: _parse(value, cube.plan.digest_of(block))
            for block, value in zip(noted, values, strict=True)
        }
    return {block: failure for block, failure in failures.items() if failure}


def _parse(value: bytes | None, digest: str) -> Failure | None:
    try:
        failure = Failure(**json.loads(value or b"{}"))
    except (ValueError, TypeError):
        return None
    return failure if failure.digest == digest else None
