"""Which blocks are done: a marker for each, written after its shards, with the checksums of their bytes.

The existence of a shard proves nothing (a store may drop empty ones, and a killed writer leaves old
ones); a block is done when its marker says so under the digest of this very plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import xxhash

from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.store.base import Storage

PREFIX = "ledger"
_LEASE = f"{PREFIX}/lease-"
AT_ONCE = 16
"""Number of small objects that are read at the same time."""
SHARDS_AT_ONCE = 4
"""Number of shards that are read at the same time."""

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Marker:
    """What is known of a finished block."""

    digest: str
    """Digest of the plan under which the block was made."""
    window: tuple[int, int, int, int]
    """(row, col, height, width) on the scene's grid."""
    checksums: Mapping[str, str]
    """Key of each shard in the store and the checksum of its bytes."""
    tiles: int
    """Tiles that went through the network."""
    tiles_skipped: int
    """Tiles that were left out because the scene is masked there."""
    valid_pixels: int
    """Pixels of the block that hold a spectrum."""
    seconds: float
    """Time the block took."""
    tiles_kept: int = 0
    """Tiles that had gone through the network for the block before, in the same run."""
    statistics: Mapping[str, dict[str, list[int]]] = field(default_factory=dict)
    """Of arrays, by name, the sums that ``spectile.pipeline.cube.statistics`` takes."""


def write_marker(storage: Storage, block: Block, marker: Marker) -> None:
    """Declare a block done."""
    storage.put(key_of(block), _to_bytes(marker))


def _to_bytes(marker: Marker) -> bytes:
    """The marker and the checksum of all that it says."""
    fields = asdict(marker)
    whole = {**fields, "checksum": checksum(json.dumps(fields, sort_keys=True).encode())}
    return json.dumps(whole, sort_keys=True).encode()


def void(storage: Storage, keys: Iterable[str]) -> None:
    """Mark blocks as not done, by the keys of their markers.

    The markers stay and say nothing: a delete that comes late would hit one that a successor has written.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda key: storage.put(key, b"{}"), keys))


def void_all(storage: Storage) -> None:
    """Mark all blocks as not done, also those of other plans."""
    void(storage, [key for key in storage.keys(PREFIX) if key.startswith(f"{PREFIX}/r")])


def is_lease(key: str) -> bool:
    """Whether the object of this key is a lease."""
    return key.startswith(_LEASE)


def lease_key(epoch: int) -> str:
    """The key of the lease of an epoch; keys are in the order of epochs."""
    return f"{_LEASE}{epoch:08d}.json"


def read_markers(storage: Storage, blocks: Iterable[Block]) -> dict[Block, Marker]:
    """The markers of blocks; blocks without a readable marker are left out."""
    there = set(storage.keys(PREFIX))
    wanted = [block for block in blocks if key_of(block) in there]
    markers = map(_parse, get_all(storage, map(key_of, wanted)))
    return {block: marker for block, marker in zip(wanted, markers, strict=True) if marker}


def _parse(text: bytes | None) -> Marker | None:
    try:
        value = json.loads(text or b"")
        del value["checksum"]
        row, col, height, width = value.pop("window")
        marker = Marker(window=(row, col, height, width), **value)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    whole = isinstance(marker.checksums, dict) and _to_bytes(marker) == text
    return marker if whole else None


def checksum(value: bytes) -> str:
    """The checksum of metadata: BLAKE2b, 128 bits, hexadecimal."""
    return hashlib.blake2b(value, digest_size=16).hexdigest()


_XXH3 = "xxh3:"


def shard_checksum(value: bytes) -> str:
    """The checksum of a shard's bytes: XXH3, 128 bits, which takes a thirtieth of the time of BLAKE2b.

    It tells damage from what was written, and is no proof against somebody who wants to deceive.
    """
    return f"{_XXH3}{xxhash.xxh3_128_hexdigest(value)}"


def is_intact(value: bytes, expected: str) -> bool:
    """Whether a shard's bytes have a checksum; cubes of before hold those of ``checksum``."""
    return (shard_checksum(value) if expected.startswith(_XXH3) else checksum(value)) == expected


def damaged(storage: Storage, wanted: Mapping[T, Mapping[str, str]]) -> dict[T, list[str]]:
    """What is wrong with shards, a line each, by owner; undamaged ones are left out.

    Parameters
    ----------
    wanted : for each owner, such as a block, the checksums of its shards by key.
    """

    def check(item: tuple[T, str, str]) -> str | None:
        _, key, expected = item
        value = storage.get(key)
        if value is None:
            return f"{key} is missing"
        if not is_intact(value, expected):
            return f"{key} is not as it was written ({len(value)} bytes)"
        return None

    objects = [(owner, key, value) for owner, sums in wanted.items() for key, value in sums.items()]
    problems: dict[T, list[str]] = {}
    # A shard may take tens of MB, so fewer at once than markers.
    with ThreadPoolExecutor(SHARDS_AT_ONCE) as pool:
        for (owner, _, _), what in zip(objects, pool.map(check, objects), strict=True):
            if what is not None:
                problems.setdefault(owner, []).append(what)
    return problems


def get_all(storage: Storage, keys: Iterable[str]) -> list[bytes | None]:
    """Small objects, in order; None for those that are not there.

    Far away, an answer takes longer than an object does, so they are asked for together.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(storage.get, keys))


def key_of(block: Block) -> str:
    """The key of a block's marker."""
    return f"{PREFIX}/{block.name}.json"


def failure_key(block: Block) -> str:
    """The key of the note that a block was given up; ``void_all`` removes its content too."""
    return f"{PREFIX}/{block.name}.failed.json"
