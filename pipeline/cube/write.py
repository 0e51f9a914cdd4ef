"""How a cube is laid out and its blocks are written: every object is made in memory and written whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import Bands
from spectile.catalog.calibration import Calibration
from spectile.catalog.errors import CubeError
from spectile.pipeline.block.mosaic import Mosaic
from spectile.pipeline.cube import ledger
from spectile.pipeline.cube.layout import ROOT, lay_out
from spectile.pipeline.cube.record import RECORD, Cube, occupied, put_record, writing
from spectile.pipeline.cube.shards import encode_shard, read_metadata, shard_key
from spectile.pipeline.cube.statistics import Sums, add_sums, take_sums
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.plan.counts import encode, encode_flat
from spectile.pipeline.plan.layers import ABUNDANCE, summarise
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
    mosaic: Mosaic,
    *,
    source: NDArray[np.uint16] | None = None,
    seconds: float = 0.0,
) -> ledger.Marker:
    """Write a block's shards and then its marker; the marker.

    Shards are made in memory and put whole: nothing of those that are there already (of a run that was
    stopped, or of a cube that is replaced) is read into the new ones.

    Parameters
    ----------
    source : (h, w) uint16, of a flight line's block the scene that each pixel is from; 0 where not valid.

    Raises
    ------
    StoreError : the store cannot be written, e.g. the disk is full.
    """
    checksums, statistics = {}, []
    with writing(cube.storage, block):
        for name, key, value, sums in _shards(cube, block, mosaic, source):
            cube.storage.put(key, value)
            checksums[key] = ledger.checksum(value)
            statistics.append({name: sums} if sums else {})
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


def _shards(
    cube: Cube, block: Block, mosaic: Mosaic, source: NDArray[np.uint16] | None
) -> Iterator[tuple[str, str, bytes, Sums | None]]:
    """The array, key, bytes and statistics of each of a block's shards."""
    at = block.window.relative_to(cube.plan.window)
    # Writers that share a shard lose pixels silently; blocks that are whole shards share none.
    assert at.row % SHARD == 0, at
    assert at.col % SHARD == 0, at
    metadata = {name: read_metadata(cube.storage, f"{name}/zarr.json") for name in cube.arrays}
    for row, col in cube.plan.shards(block):
        shard = Window(row * SHARD, col * SHARD, SHARD, SHARD).intersection(at)
        for name, values in _values(cube, mosaic, source, shard.relative_to(at).slices):
            spec, value = cube.arrays[name], encode_shard(metadata[name], row, col, values)
            yield name, shard_key(spec, row, col), value, take_sums(spec.values, values)


def _values(
    cube: Cube, mosaic: Mosaic, source: NDArray[np.uint16] | None, part: tuple[slice, slice]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """The names of the arrays and what they hold in a part of a block."""
    valid = mosaic.valid[part]
    samples = mosaic.samples[(slice(None), slice(None), *part)]
    evidence, wanted = mosaic.evidence, cube.plan.quality
    for name, layer in summarise(samples, cube.plan.layers, mosaic.calibration):
        if name == "reflectance" and evidence is not None and "rgb_consistency" in wanted:
            yield "rgb_consistency", encode_flat(rgb_consistency(evidence, layer, part), valid)
        yield name, encode(layer, valid)
    if evidence is not None and "quality" in wanted:
        yield "quality", evidence.flags[part]
    if evidence is not None and "overlap_disagreement" in wanted:
        yield "overlap_disagreement", encode_flat(evidence.disagreement[part], valid)
    if evidence is not None and "hsi_consistency" in wanted:
        yield "hsi_consistency", encode_flat(evidence.hsi_difference[part], valid)
    if cube.plan.endmembers:
        assert mosaic.shares is not None
        yield ABUNDANCE, encode(mosaic.shares[(slice(None), *part)], valid)
    yield "valid", valid.astype(np.uint8)
    if source is not None:
        yield "source", source[part]
