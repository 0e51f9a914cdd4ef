"""A shard of all arrays of an overview, made from up to four shards of each array of the level before.

Its marker in the ledger holds the checksums of its bytes and a digest of all that it was made from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectile.pipeline.cube import ledger
from spectile.pipeline.cube.record import Cube, writing
from spectile.pipeline.cube.reduce import reduce_counts, reduce_flat
from spectile.pipeline.cube.shards import encode_shard, shard_key
from spectile.pipeline.geometry.levels import Level
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.plan.arrays import ArraySpec
from spectile.pipeline.plan.plan import SHARD, Plan
from spectile.pipeline.store.base import Storage

RULE = "1"
"""Version of how values are made; a new version makes all overviews again."""


@dataclass(frozen=True)
class Region:
    """A shard of all arrays of an overview."""

    level: Level
    """The overview."""
    row: int
    """Row of the shard."""
    col: int
    """Column of the shard."""
    finer: Level
    """The level that it is made from."""
    sources: tuple[tuple[int, int], ...]
    """(row, column) of the shards there that hold data."""

    @property
    def name(self) -> str:
        """The region as people read it."""
        return f"{self.level.folder} r{self.row:04d}c{self.col:04d}"

    @property
    def key(self) -> str:
        """The key of its marker."""
        return f"{ledger.PREFIX}/overview-{self.level.factor}-r{self.row:04d}c{self.col:04d}.json"

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of its pixels."""
        rows, cols = self.level.shape
        return min(SHARD, rows - self.row * SHARD), min(SHARD, cols - self.col * SHARD)

    def keys(self, cube: Cube) -> list[str]:
        """The keys of its shards."""
        return [self.level.key(shard_key(spec, self.row, self.col)) for spec in cube.arrays.values()]

    def inputs(self, cube: Cube, known: Mapping[str, str], metadata: Mapping[str, str]) -> str | None:
        """The digest of what it is made from; None where a shard of that is not done.

        Parameters
        ----------
        known : the checksums of the shards of the level before, by key.
        metadata : what decides the bytes of the level's shards, by the array's name.
        """
        keys = [
            self.finer.key(shard_key(spec, *place))
            for place in self.sources for spec in cube.arrays.values()
        ]  # fmt: skip
        if not known.keys() >= set(keys):
            return None
        inputs = [RULE, sorted(metadata.items()), [[key, known[key]] for key in keys]]
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


@dataclass(frozen=True)
class Made:
    """The marker of a region."""

    inputs: str
    """Digest of what it was made from."""
    checksums: Mapping[str, str]
    """Key of each of its shards and the checksum of its bytes."""


class Coarse:
    """An array of a region while it is made."""

    def __init__(self, cube: Cube, region: Region, spec: ArraySpec) -> None:
        lead = (spec.depth(cube.plan),) if spec.is_deep else ()
        self._cube, self._region, self._spec = cube, region, spec
        self.values: NDArray[Any] = np.full((*lead, *region.shape), spec.fill, dtype=spec.dtype)
        """(…, h, w) as it is stored."""

    def add(
        self,
        place: tuple[int, int],
        fine: NDArray[Any],
        valid: NDArray[np.uint8],
        bands: tuple[slice, ...] = (),
    ) -> None:
        """Add a source's stored values (…, h, w), of some bands or of all."""
        deep = self._spec.is_deep
        coarse = reduce_counts(fine, valid) if deep else reduce_flat(self._spec.values, fine)
        top, left = (SHARD // 2 * (at % 2) for at in place)
        rows, cols = slice(top, top + coarse.shape[-2]), slice(left, left + coarse.shape[-1])
        self.values[(*(bands or (...,)), rows, cols)] = coarse

    def put(self, metadata: bytes) -> dict[str, str]:
        """Write it; its key and the checksum of its bytes."""
        region = self._region
        encoded = encode_shard(metadata, region.row, region.col, self.values)
        key = region.level.key(shard_key(self._spec, region.row, region.col))
        with writing(self._cube.storage):
            self._cube.storage.put(key, encoded)
        return {key: ledger.shard_checksum(encoded)}


def put_marker(cube: Cube, region: Region, inputs: str, checksums: Mapping[str, str]) -> Made:
    """Declare a region made."""
    marker = Made(inputs, checksums)
    text = json.dumps({"inputs": inputs, "checksums": dict(checksums)}, sort_keys=True)
    with writing(cube.storage):
        cube.storage.put(region.key, text.encode())
    return marker


def void_made(storage: Storage, regions: Sequence[Region]) -> None:
    """Mark regions as not made, those that are."""
    keys = [region.key for region in regions]
    there = ledger.get_all(storage, keys)
    ledger.void(storage, [key for key, value in zip(keys, there, strict=True) if value not in (None, b"{}")])


def region_at(finer: Level, level: Level, row: int, col: int) -> Region:
    """The region of a level's shard."""
    sources = tuple(place for place in level.finer(row, col) if place in finer.written)
    return Region(level, row, col, finer, sources)


def regions_of(finer: Level, level: Level) -> list[Region]:
    """All regions of a level."""
    return [region_at(finer, level, *place) for place in level.shards]


def inner_regions(plan: Plan, block: Block) -> list[dict[tuple[int, int], Region]]:
    """The regions of each overview that are made of this block alone, by place, the finest level first."""
    inside, found = set(plan.shards(block)), []
    for finer, level in pairwise(plan.levels):
        places = sorted({(row // 2, col // 2) for row, col in inside})
        regions = {place: region_at(finer, level, *place) for place in places}
        inside = {place for place, region in regions.items() if inside.issuperset(region.sources)}
        if not inside:
            break
        found.append({place: regions[place] for place in sorted(inside)})
    return found


@lru_cache(64)
def encoding_of(metadata: bytes) -> str:
    """What decides the bytes of an array's shards: its metadata less the attributes.

    Raises
    ------
    ValueError : they are damaged.
    """
    fields = json.loads(metadata)
    if not isinstance(fields, dict):
        raise ValueError("not the metadata of an array")
    return json.dumps({name: value for name, value in fields.items() if name != "attributes"}, sort_keys=True)
