"""The end of a run: make overviews, remove objects of other cubes, declare the cube complete."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import zarr
from zarr.buffer import cpu
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore

from spectile.catalog.errors import CubeError
from spectile.pipeline.cube import ledger
from spectile.pipeline.cube.layout import ROOT
from spectile.pipeline.cube.overviews import overview_keys, write_overviews
from spectile.pipeline.cube.record import (
    RECORD,
    Cube,
    finished_blocks,
    put_record,
    read_record,
    read_status,
    shard_keys,
    writing,
)
from spectile.pipeline.cube.shards import read_metadata
from spectile.pipeline.cube.statistics import Sums, add_sums, describe
from spectile.pipeline.geometry.levels import FOLDER
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.plan.arrays import BLOCK_ARRAYS
from spectile.pipeline.plan.layers import ENDMEMBER
from spectile.pipeline.store.base import Storage

_OF_CUBES = re.compile(
    rf"({FOLDER}/\d+/)?\w+/({re.escape(ROOT)}|c(/\d+)+)|{FOLDER}(/\d+)?/{re.escape(ROOT)}"
    rf"|{ledger.PREFIX}/({re.escape(ROOT)}|pair\.safetensors|(overview-\d+-)?r\d+c\d+(\.failed)?\.json)"
)
"""The keys of metadata, shards and markers; other objects in a cube's folders are not ours."""
TOLD = ("channels", "taken", "warnings")
"""The attributes of ``finalise`` that only the run that finishes a cube knows."""


def told_of(storage: Storage) -> dict[str, Any]:
    """The attributes TOLD of a cube, from the copy of the two that is not damaged."""
    record = read_record(storage)
    if record is not None:
        return dict(record.get("told", {}))
    try:
        status = read_status(storage)
    except CubeError:
        return {}
    return {name: status[name] for name in TOLD if name in status}


def strays(cube: Cube) -> list[str]:
    """The keys of objects that look like a cube's but do not belong to this one.

    They are left by one that was replaced: shards of a larger extent, arrays of layers that this one lacks,
    markers of blocks of another size.
    """
    record = read_record(cube.storage) or {"objects": ()}
    known = {RECORD, *record["objects"], *overview_keys(cube)}
    for block in cube.plan.blocks:
        known.update((ledger.key_of(block), ledger.failure_key(block)))
        known.update(shard_keys(cube, block))
    folders = {*BLOCK_ARRAYS, ENDMEMBER, "y", "x", FOLDER, ledger.PREFIX}
    return sorted(
        key
        for key in cube.storage.walk()
        if key.partition("/")[0] in folders
        and _OF_CUBES.fullmatch(key)
        and key not in known
        and not ledger.is_lease(key)
    )


def finalise(
    cube: Cube,
    *,
    attributes: Mapping[str, Any],
    markers: Mapping[Block, ledger.Marker] | None = None,
    on_region: Callable[[], None] = lambda: None,
    draw: Callable[[], None] = lambda: None,
) -> None:
    """Make missing overviews, then declare a cube complete, in one step, with consolidated metadata.

    Parameters
    ----------
    attributes : more of what the cube says of itself under ``spectile``.
    markers : of the finished blocks; None reads them.
    on_region : told when a shard of the overviews has been made.
    draw : called when the overviews are there and the cube is not complete yet.

    Raises
    ------
    CubeError : blocks are missing, or are damaged where overviews are to be made of them.
    StoreError : the store cannot be written.
    """
    storage = cube.storage
    markers = finished_blocks(cube) if markers is None else markers
    missing = set(cube.plan.blocks) - markers.keys()
    if missing:
        raise CubeError("blocks are missing", where=str(storage), got=len(missing))
    record = read_record(storage)
    if record is None:
        raise CubeError(
            "the ledger's plan is damaged", where=str(storage), remedy="see spectile verify --repair"
        )
    write_overviews(cube, markers, on_region=on_region)
    draw()
    with writing(storage):
        for key in strays(cube):
            storage.delete(key)
        changed = _described(storage, add_sums(marker.statistics for marker in markers.values()))
        root = _consolidated(storage, record, changed)
        root["attributes"]["spectile"].update(attributes, status="complete")
        changed[ROOT] = json.dumps(root).encode()
        sums = {key: [record["objects"][key][0], ledger.checksum(value)] for key, value in changed.items()}
        # If the process is killed here, every object matches a noted checksum. The root comes last.
        told = {name: attributes[name] for name in TOLD if name in attributes}
        put_record(storage, {**record, "objects": {**record["objects"], **sums}, "told": told})
        for key, value in changed.items():
            if storage.get(key) != value:  # a cube that is complete is left as it is
                storage.put(key, value)


def _described(storage: Storage, statistics: Mapping[str, Sums]) -> dict[str, bytes]:
    """The metadata of arrays, by key, with their statistics."""
    described = {}
    for name, sums in sorted(statistics.items()):
        key = f"{name}/{ROOT}"
        metadata = json.loads(read_metadata(storage, key))
        metadata["attributes"]["statistics"] = describe(sums)
        described[key] = json.dumps(metadata).encode()
    return described


def _consolidated(
    storage: Storage, record: Mapping[str, Any], changed: Mapping[str, bytes]
) -> dict[str, Any]:
    """The group's metadata with those of its members, which xarray and zarr both read."""
    keys = [key for key in record["objects"] if key.rpartition("/")[2] == ROOT]
    values = {key: changed.get(key) or storage.get(key) or b"" for key in keys}
    objects: dict[str, Any] = {key: cpu.Buffer.from_bytes(value) for key, value in values.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)  # they are an extension
        zarr.consolidate_metadata(MemoryStore(objects))
    root: dict[str, Any] = json.loads(objects[ROOT].to_bytes())
    return root
