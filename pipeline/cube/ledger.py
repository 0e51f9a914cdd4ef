"""Which blocks are done: a marker for each, written after its shards, with the checksums of their bytes.

The existence of a shard proves nothing (a store may drop empty ones, and a killed writer leaves old
ones); a block is done when its marker says so under the digest of this very plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.store.base import Storage

PREFIX = "ledger"
_LEASE = f"{PREFIX}/lease-"


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
    said = asdict(marker)
    whole = {**said, "checksum": checksum(json.dumps(said, sort_keys=True).encode())}
    return json.dumps(whole, sort_keys=True).encode()


def void(storage: Storage, keys: Iterable[str]) -> None:
    """Take back that blocks are done, whose markers have these keys.

    The markers stay and say nothing: a delete that comes late would hit one that a successor has written.
    """
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: storage.put(key, b"{}"), keys))


def void_all(storage: Storage) -> None:
    """Take back that any block is done, those of other plans included."""
    void(storage, [key for key in storage.keys(PREFIX) if key.startswith(f"{PREFIX}/r")])


def is_lease(key: str) -> bool:
    """Whether the object of this key is a lease."""
    return key.startswith(_LEASE)


def lease_key(epoch: int) -> str:
    """The key of the lease of an epoch; keys are in the order of epochs."""
    return f"{_LEASE}{epoch:08d}.json"


def read_markers(storage: Storage, blocks: Iterable[Block]) -> dict[Block, Marker]:
    """The markers of blocks; those that have none, or none that can be read, are left out."""
    there = set(storage.keys(PREFIX))
    wanted = [block for block in blocks if key_of(block) in there]
    # Far away, an answer takes longer than a marker; so they are asked for together.
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda block: read_marker(storage, block), wanted)
        return {block: marker for block, marker in zip(wanted, found, strict=True) if marker}


def read_marker(storage: Storage, block: Block) -> Marker | None:
    """The marker of a block; None where there is none, or where it is damaged."""
    text = storage.get(key_of(block))
    if text is None:
        return None
    try:
        value = json.loads(text)
        summed = value.pop("checksum", None)  # markers of cubes that were made before have none
        row, col, height, width = value.pop("window")
        marker = Marker(window=(row, col, height, width), **value)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return marker if summed is None or _to_bytes(marker) == text else None


def checksum(value: bytes) -> str:
    """The checksum of an object's bytes: BLAKE2b, 128 bits, hexadecimal."""
    return hashlib.blake2b(value, digest_size=16).hexdigest()


def damage(storage: Storage, checksums: Mapping[str, str]) -> list[str]:
    """What is wrong with objects whose checksums are known by key; empty where their bytes are as written."""
    found = []
    for key, expected in checksums.items():
        value = storage.get(key)
        if value is None:
            found.append(f"{key} is missing")
        elif checksum(value) != expected:
            found.append(f"{key} is not as it was written ({len(value)} bytes)")
    return found


def key_of(block: Block) -> str:
    """The key of a block's marker."""
    return f"{PREFIX}/{block.name}.json"


def failure_key(block: Block) -> str:
    """The key of the note that a block was given up; ``void_all`` takes it back too."""
    return f"{PREFIX}/{block.name}.failed.json"
