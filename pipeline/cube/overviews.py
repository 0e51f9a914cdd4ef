"""The overviews of a cube, each made from the level before: means over two by two pixels.

A shard of an overview is made from up to four shards. Its marker in the ledger holds the checksums of its
bytes and a digest of all that it was made from. So the ledger alone tells what is missing or was made from
blocks that have been made again, and equal cubes have equal overviews.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.errors import CubeError
from spectile.pipeline.cube import ledger
from spectile.pipeline.cube.record import Cube, finished_blocks, writing
from spectile.pipeline.cube.reduce import reduce_counts, reduce_flat
from spectile.pipeline.cube.shards import Shard, encode_shard, read_metadata, shard_key
from spectile.pipeline.geometry.levels import Level
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.plan.arrays import spectral_depths
from spectile.pipeline.plan.plan import SHARD
from spectile.pipeline.store.base import Storage

BUDGET = 1_000_000_000
"""Bytes that the regions in work may take together."""
THREADS = 4
"""Regions that are made at once at most."""
_RULE = "1"
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
        inputs = [_RULE, sorted(metadata.items()), [[key, known[key]] for key in keys]]
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


@dataclass(frozen=True)
class Made:
    """The marker of a region."""

    inputs: str
    """Digest of what it was made from."""
    checksums: Mapping[str, str]
    """Key of each of its shards and the checksum of its bytes."""


def write_overviews(
    cube: Cube,
    markers: Mapping[Block, ledger.Marker] | None = None,
    *,
    on_region: Callable[[], None] = lambda: None,
) -> int:
    """Make the regions that are missing or were made from other bytes; how many.

    Parameters
    ----------
    markers : of the finished blocks; None reads them.
    on_region : told when one has been made.

    Raises
    ------
    CubeError : a shard that is to be read is damaged.
    StoreError : the store cannot be written.
    """
    made = 0
    storage, known = cube.storage, _sums(finished_blocks(cube) if markers is None else markers)
    for finer, level in pairwise(cube.plan.levels):
        with writing(storage):
            metadata = {at: {name: read_metadata(storage, at.key(f"{name}/zarr.json"))
                             for name in cube.arrays} for at in (finer, level)}  # fmt: skip
        encodings = {name: _encoding(value) for name, value in metadata[level].items()}
        there = _read_markers(storage, finer, level)
        wanted = {
            region: inputs for region in _regions(finer, level)
            if (inputs := region.inputs(cube, known, encodings)) is not None
        }  # fmt: skip
        todo = [region for region in wanted if region not in there or there[region].inputs != wanted[region]]
        # Void stale markers first, before a shard is put.
        void_regions(storage, [region for region in todo if region in there])
        work = partial(_make, cube, known=known, metadata=metadata, wanted=wanted)
        with ThreadPoolExecutor(_threads(cube)) as pool:
            for region, marker in zip(todo, pool.map(work, todo), strict=True):
                there[region] = marker
                on_region()
        made += len(todo)
        known = _sums(there)
    return made


def _make(
    cube: Cube,
    region: Region,
    *,
    known: Mapping[str, str],
    metadata: Mapping[Level, Mapping[str, bytes]],
    wanted: Mapping[Region, str],
) -> Made:
    """Make a region's shards, one array after the other, and then its marker."""
    checksums = {}
    valid: dict[tuple[int, int], NDArray[np.uint8]] = {}
    for name, spec in sorted(cube.arrays.items(), key=lambda item: item[0] != "valid"):
        values = None
        for place in region.sources:
            key = region.finer.key(shard_key(spec, *place))
            value = cube.storage.get(key)
            if value is None or ledger.checksum(value) != known[key]:
                raise CubeError(
                    "the cube is damaged", where=f"{cube.storage} {key}",
                    remedy="see spectile verify --repair",
                )  # fmt: skip
            shard = Shard(metadata[region.finer][name], *place, value)
            if name == "valid":
                valid[place] = shard.read()
            if values is None:
                values = np.full((*shard.lead, *region.shape), shard.fill, dtype=shard.dtype)
            top, left = (SHARD // 2 * (at % 2) for at in place)
            for part in shard.parts:
                fine = shard.read(part)
                if spec.is_deep:
                    coarse = reduce_counts(fine, valid[place])
                else:
                    coarse = reduce_flat(spec.values, fine)
                rows, cols = slice(top, top + coarse.shape[-2]), slice(left, left + coarse.shape[-1])
                values[(*part, rows, cols)] = coarse
        assert values is not None
        encoded = encode_shard(metadata[region.level][name], region.row, region.col, values)
        key = region.level.key(shard_key(spec, region.row, region.col))
        with writing(cube.storage):
            cube.storage.put(key, encoded)
        checksums[key] = ledger.checksum(encoded)
    marker = Made(wanted[region], checksums)
    text = json.dumps({"inputs": marker.inputs, "checksums": checksums}, sort_keys=True)
    with writing(cube.storage):
        cube.storage.put(region.key, text.encode())
    return marker


def inspect_overviews(
    cube: Cube, markers: Mapping[Block, ledger.Marker]
) -> tuple[list[Region], dict[Region, list[str]]]:
    """Regions to make, and those whose shards are not as they were written, with what is wrong with each.

    Whether a region is to be made is not known where blocks under it are not done or metadata are damaged.

    Parameters
    ----------
    markers : of the finished blocks.

    Raises
    ------
    StoreError : the store cannot be read.
    """
    missing: list[Region] = []
    written: dict[Region, Mapping[str, str]] = {}
    known = _sums(markers)
    for finer, level in pairwise(cube.plan.levels):
        try:
            encodings = {
                name: _encoding(read_metadata(cube.storage, level.key(f"{name}/zarr.json")))
                for name in cube.arrays
            }
        except (FileNotFoundError, ValueError):
            encodings = None
        there = _read_markers(cube.storage, finer, level)
        for region in _regions(finer, level):
            inputs = None if encodings is None else region.inputs(cube, known, encodings)
            if region in there and inputs in (None, there[region].inputs):
                written[region] = there[region].checksums
            elif inputs is not None:
                missing.append(region)
        known = _sums(there)
    return missing, ledger.damaged(cube.storage, written)


def void_regions(storage: Storage, regions: Iterable[Region]) -> None:
    """Mark regions as not made."""
    ledger.void(storage, [region.key for region in regions])


def overview_keys(cube: Cube) -> Iterator[str]:
    """The keys in the store of all shards of overviews, and of their markers."""
    for finer, level in pairwise(cube.plan.levels):
        for region in _regions(finer, level):
            yield region.key
            yield from region.keys(cube)


def _regions(finer: Level, level: Level) -> list[Region]:
    written = set(finer.shards)
    return [
        Region(level, row, col, finer, tuple(place for place in level.finer(row, col) if place in written))
        for row, col in level.shards
    ]


def _encoding(metadata: bytes) -> str:
    """What decides the bytes of an array's shards: its metadata less the attributes.

    Raises
    ------
    ValueError : they are damaged.
    """
    fields = json.loads(metadata)
    if not isinstance(fields, dict):
        raise ValueError("not the metadata of an array")
    return json.dumps({name: value for name, value in fields.items() if name != "attributes"}, sort_keys=True)


def _sums(markers: Mapping[Any, Made | ledger.Marker]) -> dict[str, str]:
    """The checksums of the shards of finished blocks or regions, by key."""
    return {key: value for marker in markers.values() for key, value in marker.checksums.items()}


def _read_markers(storage: Storage, finer: Level, level: Level) -> dict[Region, Made]:
    """The readable markers of a level."""
    there = set(storage.keys(ledger.PREFIX))
    regions = [region for region in _regions(finer, level) if region.key in there]
    markers = {}
    values = ledger.get_all(storage, [region.key for region in regions])
    for region, value in zip(regions, values, strict=True):
        try:
            marker = json.loads(value or b"{}")
            markers[region] = Made(str(marker["inputs"]), dict(marker["checksums"]))
        except (ValueError, TypeError, KeyError):
            continue
    return markers


def _threads(cube: Cube) -> int:
    # A region holds its shard decoded, padded to whole chunks and encoded, and an encoded one of the level
    # before.
    deepest = max(cube.plan.bands, len(cube.plan.endmembers))
    region_bytes = 4 * spectral_depths(deepest)[1] * SHARD**2 * 2
    return max(1, min(THREADS, len(os.sched_getaffinity(0)), BUDGET // region_bytes))
