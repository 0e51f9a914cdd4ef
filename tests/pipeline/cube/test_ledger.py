"""What the ledger says is believed only as it was written."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from typing import ClassVar

import pytest

from spectile.pipeline.cube.ledger import (
    Marker,
    checksum,
    damaged,
    key_of,
    read_markers,
    shard_checksum,
    write_marker,
)
from spectile.pipeline.cube.record import RECORD, put_record, read_record
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.store.local import LocalStorage

BLOCK = Block(0, 1, Window(0, 512, 512, 88))
MARKER = Marker("d1", (0, 512, 512, 88), {"valid/c/0/1": "9f"}, 9, 0, 45056, 0.25, 3)


def flipped(value: bytes) -> list[bytes]:
    """All values that differ in one bit."""
    return [bytes(byte ^ (1 << bit if place == at else 0) for place, byte in enumerate(value))
            for at in range(len(value)) for bit in range(8)]  # fmt: skip


def test_a_marker_is_read_as_it_was_written(tmp_path):
    write_marker(LocalStorage(tmp_path), BLOCK, MARKER)
    assert read_markers(LocalStorage(tmp_path), [BLOCK]) == {BLOCK: MARKER}


def test_any_flipped_bit_of_a_marker_makes_its_block_undone(tmp_path):
    storage = LocalStorage(tmp_path)
    write_marker(storage, BLOCK, MARKER)
    values = flipped((tmp_path / key_of(BLOCK)).read_bytes())
    # Each under a block of its own, so that all are read at once.
    flips = [Block(0, 2 + at, BLOCK.window) for at in range(len(values))]
    for block, value in zip(flips, values, strict=True):
        (tmp_path / key_of(block)).write_bytes(value)
    assert read_markers(storage, [BLOCK, *flips]) == {BLOCK: MARKER}


def test_a_marker_without_its_checksum_is_none(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.put(key_of(BLOCK), json.dumps(asdict(MARKER)).encode())
    assert read_markers(storage, [BLOCK]) == {}


class Together(LocalStorage):
    """A folder that answers when three objects are asked for at once, and not before."""

    waiting: ClassVar[threading.Barrier] = threading.Barrier(3)

    def get(self, key: str) -> bytes | None:
        self.waiting.wait(timeout=5)
        return super().get(key)


def test_shards_are_checked_several_at_once(tmp_path):
    values = {f"valid/c/0/{at}": bytes([at]) for at in range(6)}
    for key, value in values.items():
        LocalStorage(tmp_path).put(key, value)
    sums = {key: shard_checksum(value) for key, value in values.items()}
    sums["valid/c/0/1"] = sums["valid/c/0/0"]
    (tmp_path / "valid/c/0/4").unlink()
    first, second = dict(list(sums.items())[:1]), dict(list(sums.items())[1:])
    assert damaged(Together(tmp_path), {"a": first, "b": second}) == {
        "b": ["valid/c/0/1 is not as it was written (1 bytes)", "valid/c/0/4 is missing"]
    }


def test_shards_of_older_cubes_are_checked_by_their_kind_of_checksum(tmp_path):
    values = {f"valid/c/0/{at}": bytes([at]) for at in range(4)}
    for key, value in values.items():
        LocalStorage(tmp_path).put(key, value)
    sums = {key: checksum(value) for key, value in values.items()}
    assert damaged(LocalStorage(tmp_path), {"a": sums}) == {}
    sums["valid/c/0/2"] = sums["valid/c/0/3"]
    assert damaged(LocalStorage(tmp_path), {"a": sums}) == {
        "a": ["valid/c/0/2 is not as it was written (1 bytes)"]
    }


def test_any_flipped_bit_of_the_plans_copy_is_found(tmp_path):
    storage = LocalStorage(tmp_path)
    record = {"digest": "d1", "plan": {"name": "sc\u00e8ne.tif", "scale": 1e-05}}
    put_record(storage, record)
    assert read_record(storage) == record
    path = tmp_path / RECORD
    for value in flipped(path.read_bytes()):
        path.write_bytes(value)
        assert read_record(storage) is None, value


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b"null", b"\xff"])
def test_what_is_no_record_is_none(tmp_path, value):
    storage = LocalStorage(tmp_path)
    storage.put(RECORD, value)
    assert read_record(storage) is None
