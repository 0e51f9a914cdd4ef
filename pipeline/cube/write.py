"""How a cube is laid out and its blocks are written: every object is made in memory and written whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import Bands
from spectile.catalog.calibration import Calibration
from spectile.catalog.errors import CubeError
from spectile.pipeline.block.counted import Counted
from spectile.pipeline.block.mosaic import Mosaic
from spectile.pipeline.cube import ledger
from spectile.pipeline.cube.layout import ROOT, lay_out
from spectile.pipeline.cube.record import RECORD, Cube, occupied, put_record, writing
from spectile.pipeline.cube.regions import Coarse, Region, encoding_of, inner_regions, put_marker, void_made
from spectile.pipeline.cube.shards import encode_shard, read_all_metadata, shard_key
from spectile.pipeline.cube.statistics import Sums, add_sums, take_sums
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.plan.counts import encode_flat
from spectile.pipeline.plan.plan import SHARD, Plan
from spectile.pipeline.plan.quality_layers import rgb_consistency
from spectile.pipeline.store.base import Storage


def create_cube(
    storage: Storage,
    plan: Plan,
    bands: Bands,
    *,
    calibration: Calibration | None = None,
    replace: bool = False,
    kept: Mapping[str, bytes] | None = None,
) -> Cube:
    """A new cube without blocks. Its status is ``incomplete`` until ``finalise`` says otherwise.

    Nothing is removed: a delete cannot be held back once it is on its way, and would hit what a successor
    has written. Objects of an old cube lose their markers first, are put over one by one, and what is left of
    them goes when the cube is finished.

    Parameters
    ----------
    calibration : with which the layers will be made, for their attributes.
    replace : whether a cube that is there is replaced.
    kept : objects by key that the cube keeps beside what its plan decides.

    Raises
    ------
    CubeError : something is there already.
    StoreError : the store cannot be written.
    """
    if not replace and occupied(storage):
        raise CubeError(
            "the output exists",
            where=str(storage),
            remedy="use --resume to go on with it, --overwrite to replace it, or another --out",
        )
    objects = {**(kept or {}), **lay_out(plan, bands, calibration)}
    with writing(storage):
        # Whatever is left by a process that is killed in between says that it is a cube, and that it was not
        # even laid out.
        if storage.get(RECORD) is not None:
            storage.put(RECORD, b"{}")
        storage.put(ROOT, objects[ROOT])
        ledger.void_all(storage)
        _put_layout(storage, plan, objects)
    return Cube(storage, plan)


def put_layout(
    storage: Storage,
    plan: Plan,
    bands: Bands,
    *,
    calibration: Calibration | None = None,
    kept: Mapping[str, bytes] | None = None,
) -> None:
    """Put a cube's metadata again, which is then incomplete; markers stay.

    So damage is repaired, and the cube of a flight line becomes one of more scenes: then blocks that the new
    ones touch are to do again.

    Parameters
    ----------
    plan : the cube's own, or with more scenes after those that it has.
    calibration, kept : as of ``create_cube``.

    Raises
    ------
    StoreError : the store cannot be written.
    """
    with writing(storage):
        _put_layout(storage, plan, {**(kept or {}), **lay_out(plan, bands, calibration)})


def _put_layout(storage: Storage, plan: Plan, objects: Mapping[str, bytes]) -> None:
    for key in sorted(objects, key=lambda key: key == ROOT):
        storage.put(key, objects[key])
    sums = {key: [ledger.checksum(value)] for key, value in objects.items()}
    facts = {"digest": plan.digest, "block": plan.block, "plan": plan.to_json(), "objects": sums}
    put_record(storage, facts)


def write_block(
    cube: Cube,
    block: Block,
    mosaic: Mosaic | Counted,
    *,
    source: NDArray[np.uint16] | None = None,
    seconds: float = 0.0,
    encoders: Executor | None = None,
) -> ledger.Marker:
    """Write a block's shards and then its marker; the marker.

    Shards are made in memory and put whole: nothing of those that are there already (of a run that was
    stopped, or of a cube that is replaced) is read into the new ones.

    Parameters
    ----------
    source : (h, w) uint16, of a flight line's block the scene that each pixel is from; 0 where not valid.

    encoders : threads that make shards; None makes some.

    Raises
    ------
    StoreError : the store cannot be written, e.g. the disk is full.
    """
    with writing(cube.storage, block), ExitStack() as stack:
        pool = encoders or stack.enter_context(encoding_threads(cube.plan))
        checksums, statistics = _Writer(cube, block, mosaic, source).write(pool)
        marker = ledger.Marker(
            digest=cube.plan.digest_of(block),
            window=(block.window.row, block.window.col, block.window.height, block.window.width),
            checksums=checksums,
            tiles=mosaic.tiles,
            tiles_skipped=mosaic.tiles_skipped,
            valid_pixels=int(mosaic.valid.sum()),
            seconds=round(seconds, 3),
            tiles_kept=mosaic.tiles_kept,
            statistics=add_sums(statistics),
        )
        ledger.write_marker(cube.storage, block, marker)
    return marker


MOST_THREADS = 16
"""Shards of a block that are made at once at most: all of the largest block …"""
MOST_BLENDED = 4
"""… or some, where each is rounded from samples in numbers of its own."""


def writing_threads(plan: Plan) -> int:
    """How many shards are made at once: one a core, as far as there are shards or memory for it."""
    most = MOST_BLENDED if plan.tiling.ramp else MOST_THREADS
    return min(most, len(os.sched_getaffinity(0)))


def encoding_threads(plan: Plan) -> ThreadPoolExecutor:
    """Threads that make shards."""
    return ThreadPoolExecutor(writing_threads(plan), "encode")


Place = tuple[int, int]
"""Row and column of a shard."""


class _Writer:
    """Writes a block's shards, and those of the overviews that need no other block, while it is in memory."""

    def __init__(
        self, cube: Cube, block: Block, mosaic: Mosaic | Counted, source: NDArray[np.uint16] | None
    ) -> None:
        self._cube, self._mosaic, self._source = cube, mosaic, source
        self._at = block.window.relative_to(cube.plan.window)
        # Writers that share a shard lose pixels silently; blocks that are whole shards share none.
        assert self._at.row % SHARD == 0, self._at
        assert self._at.col % SHARD == 0, self._at
        self._shards = cube.plan.shards(block)
        self._regions = inner_regions(cube.plan, block)
        levels = cube.plan.levels[: len(self._regions) + 1]
        keys = {(level, name): level.key(f"{name}/{ROOT}") for level in levels for name in cube.arrays}
        self._metadata = dict(zip(keys, read_all_metadata(cube.storage, keys.values()), strict=True))

    def write(self, pool: Executor) -> tuple[dict[str, str], list[dict[str, Sums]]]:
        """The checksums of the block's shards by their keys, and statistics in parts."""
        cube = self._cube
        # A marker must not speak of bytes that are written over. Those of other overviews are found out by
        # the digest of what they were made from.
        void_made(cube.storage, [region for level in self._regions for region in level.values()])
        first = self._regions[0] if self._regions else {}
        own: dict[str, str] = {}
        statistics: list[dict[str, Sums]] = []
        coarse = {
            place: {name: Coarse(cube, region, spec) for name, spec in cube.arrays.items()}
            for place, region in first.items()
        }
        work = partial(self._write_shard, coarse=coarse)
        for sums, parts in pool.map(work, self._shards):
            own.update(sums)
            statistics.append(parts)
        known = own
        for number, regions in enumerate(self._regions):
            if number:
                merged = pool.map(partial(self._merge, coarse), regions.values())
                coarse = dict(zip(regions, merged, strict=True))
            finish = partial(self._finish, known=known, coarse=coarse)
            known = dict(item for sums in pool.map(finish, regions.values()) for item in sums.items())
        return own, statistics

    def _write_shard(
        self, place: Place, *, coarse: Mapping[Place, Mapping[str, Coarse]]
    ) -> tuple[dict[str, str], dict[str, Sums]]:
        """Write a shard of all arrays, and reduce it into the region that it is a source of, if any.

        Each shard has its own part of a region, so that they can be made at once.
        """
        cube, own = self._cube, self._cube.plan.levels[0]
        sums: dict[str, str] = {}
        statistics: dict[str, Sums] = {}
        region = coarse.get((place[0] // 2, place[1] // 2), {})
        shard = Window(place[0] * SHARD, place[1] * SHARD, SHARD, SHARD).intersection(self._at)
        part = shard.relative_to(self._at).slices
        valid = self._mosaic.valid[part].view(np.uint8)
        for name, values in _values(cube, self._mosaic, self._source, part):
            spec, key = cube.arrays[name], shard_key(cube.arrays[name], *place)
            encoded = encode_shard(self._metadata[own, name], *place, values)
            cube.storage.put(key, encoded)
            sums[key] = ledger.shard_checksum(encoded)
            if taken := take_sums(spec.values, values):
                statistics[name] = taken
            if region:
                region[name].add(place, values, valid)
        return sums, statistics

    def _finish(
        self, region: Region, *, known: Mapping[str, str], coarse: Mapping[Place, Mapping[str, Coarse]]
    ) -> dict[str, str]:
        """Write a region; the checksums of its shards by their keys."""
        cube, metadata = self._cube, {n: self._metadata[region.level, n] for n in self._cube.arrays}
        sums: dict[str, str] = {}
        for name, array in coarse[region.row, region.col].items():
            sums.update(array.put(metadata[name]))
        inputs = region.inputs(cube, known, {name: encoding_of(value) for name, value in metadata.items()})
        assert inputs is not None
        put_marker(cube, region, inputs, sums)
        return sums

    def _merge(self, coarse: Mapping[Place, Mapping[str, Coarse]], region: Region) -> dict[str, Coarse]:
        """The arrays of a region, from those of the level before."""
        made = {}
        for name, spec in self._cube.arrays.items():
            made[name] = Coarse(self._cube, region, spec)
            for place in region.sources:
                made[name].add(place, coarse[place][name].values, coarse[place]["valid"].values)
        return made


def _values(
    cube: Cube, mosaic: Mosaic | Counted, source: NDArray[np.uint16] | None, part: tuple[slice, slice]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """The names of the arrays and what they hold in a part of a block."""
    valid = mosaic.valid[part]
    evidence, wanted = mosaic.evidence, cube.plan.quality
    for name, counts in mosaic.counts(cube.plan.layers, part):
        if name == "reflectance" and evidence is not None and "rgb_consistency" in wanted:
            yield "rgb_consistency", encode_flat(rgb_consistency(evidence, counts, part), valid)
        yield name, counts
    if evidence is not None and "quality" in wanted:
        yield "quality", evidence.flags[part]
    if evidence is not None and "overlap_disagreement" in wanted:
        yield "overlap_disagreement", encode_flat(evidence.disagreement[part], valid)
    if evidence is not None and "hsi_consistency" in wanted:
        yield "hsi_consistency", encode_flat(evidence.hsi_difference[part], valid)
    yield "valid", valid.astype(np.uint8)
    if source is not None:
        yield "source", source[part]
