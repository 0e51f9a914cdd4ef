"""The overviews of a cube, each made from the level before: means over two by two pixels.

A shard of an overview is made from up to four shards. Its marker in the ledger holds the checksums of its
bytes and a digest of all that it was made from. So the ledger alone tells what is missing or was made from
blocks that have been made again, and equal cubes have equal overviews.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.errors import CubeError
from spectile.pipeline.cube import ledger
from spectile.pipeline.cube.record import Cube, finished_blocks, writing
from spectile.pipeline.cube.regions import Coarse, Made, Region, encoding_of, put_marker, regions_of
from spectile.pipeline.cube.shards import decode_shard, read_metadata, shard_key
from spectile.pipeline.geometry.levels import Level
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.plan.arrays import spectral_depths
from spectile.pipeline.plan.plan import SHARD
from spectile.pipeline.store.base import Storage

BUDGET = 1_000_000_000
"""Bytes that the regions in work may take together."""
THREADS = 4
"""Regions that are made at once at most."""


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
        encodings = {name: encoding_of(value) for name, value in metadata[level].items()}
        there = _read_markers(storage, finer, level)
        wanted = {
            region: inputs for region in regions_of(finer, level)
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
    """Make a region's shards, one array after the other, from those in the store, and then its marker."""
    checksums = {}
    valid: dict[tuple[int, int], NDArray[np.uint8]] = {}
    for name, spec in sorted(cube.arrays.items(), key=lambda item: item[0] != "valid"):
        coarse = Coarse(cube, region, spec)
        for place in region.sources:
            key = region.finer.key(shard_key(spec, *place))
            value = cube.storage.get(key)
            if value is None or not ledger.is_intact(value, known[key]):
                raise CubeError(
                    "the cube is damaged", where=f"{cube.storage} {key}",
                    remedy="see spectile verify --repair",
                )  # fmt: skip
            for bands, values in decode_shard(metadata[region.finer][name], *place, value):
                if name == "valid":
                    valid[place] = values
                coarse.add(place, values, valid[place], bands)
        checksums.update(coarse.put(metadata[region.level][name]))
    return put_marker(cube, region, wanted[region], checksums)


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
                name: encoding_of(read_metadata(cube.storage, level.key(f"{name}/zarr.json")))
                for name in cube.arrays
            }
        except (FileNotFoundError, ValueError):
            encodings = None
        there = _read_markers(cube.storage, finer, level)
        for region in regions_of(finer, level):
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
        for region in regions_of(finer, level):
            yield region.key
            yield from region.keys(cube)


def _sums(markers: Mapping[Any, Made | ledger.Marker]) -> dict[str, str]:
    """The checksums of the shards of finished blocks or regions, by key."""
    return {key: value for marker in markers.values() for key, value in marker.checksums.items()}


def _read_markers(storage: Storage, finer: Level, level: Level) -> dict[Region, Made]:
    """The readable markers of a level."""
    there = set(storage.keys(ledger.PREFIX))
    regions = [region for region in regions_of(finer, level) if region.key in there]
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
