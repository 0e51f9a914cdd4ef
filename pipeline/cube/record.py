"""The hyperspectral cube, a sharded Zarr v3 group with CF and GeoZarr metadata: its plan, status and blocks.

What arrays it has is in ``spectile.pipeline.plan.arrays``; ``ledger/`` holds a marker for each block.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectile.catalog.errors import CubeError, StoreError, UsageError
from spectile.pipeline.cube import ledger
from spectile.pipeline.cube.arrays import open_arrays, reading_metadata
from spectile.pipeline.cube.layout import ROOT
from spectile.pipeline.cube.shards import shard_key
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.tiling import Block, Tiling
from spectile.pipeline.plan.arrays import ArraySpec, block_arrays, cube_arrays
from spectile.pipeline.plan.counts import decode
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.plan.shares import Share
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage

if TYPE_CHECKING:
    import xarray as xr

RECORD = f"{ledger.PREFIX}/plan.json"
"""The key of the second copy of the plan, with the checksums of all that ``lay_out`` made; written last."""


PAIR = f"{ledger.PREFIX}/pair.safetensors"
"""The key of what was estimated of the pair from which a cube is fused."""


@dataclass(frozen=True)
class Cube:
    """A cube that is being written or checked."""

    storage: Storage
    """Where it is."""
    plan: Plan
    """What it holds."""

    @cached_property
    def arrays(self) -> dict[str, ArraySpec]:
        """The arrays that blocks write, by name."""
        return block_arrays(self.plan)


def put_record(storage: Storage, record: Mapping[str, Any]) -> None:
    """Put what ``read_record`` gives."""
    storage.put(RECORD, _record_bytes(record))


def _record_bytes(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, sort_keys=True)
    whole = {"checksum": ledger.checksum(text.encode()), "record": record}
    return json.dumps(whole, sort_keys=True).encode()


def read_record(storage: Storage) -> dict[str, Any] | None:
    """The second copy of a cube's plan; None where the cube is not laid out, or where it is damaged.

    Beside ``digest``, ``block`` and ``plan`` it has ``objects``, the checksums that each key may have: as it
    was laid out, and for what the end of a run changes after that.
    """
    value = storage.get(RECORD) or b""
    try:
        record: dict[str, Any] = json.loads(value)["record"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return record if _record_bytes(record) == value else None


def is_laid_out(storage: Storage) -> bool:
    """Whether the creation of a cube is complete, so that blocks can be written."""
    return read_record(storage) is not None


def occupied(storage: Storage) -> bool:
    """Whether there is anything at a place beside leases."""
    if not storage.exists():
        return False
    keys = storage.walk()
    first = next(keys, None)
    if first is None:
        return True  # a file in the place of the store, or hidden ones in it
    return any(not ledger.is_lease(key) for key in chain([first], keys))


def read_status(storage: Storage) -> dict[str, Any]:
    """The ``spectile`` attributes of a cube's store.

    Raises
    ------
    CubeError : there is no cube.
    """
    text = storage.get(ROOT)
    try:
        facts = json.loads(text or b"{}").get("attributes", {}).get("spectile")
    except (ValueError, AttributeError, RecursionError):
        facts = None
    if not isinstance(facts, dict) or not {"status", "digest", "block", "plan"} <= facts.keys():
        raise CubeError(
            "no cube of spectile here",
            where=str(storage),
            got="something else" if occupied(storage) else "no such store",
            remedy="check the path",
        )
    return facts


def load_plan(storage: Storage) -> Plan:
    """The plan under which a cube is made, read back from the cube.

    Raises
    ------
    CubeError : there is no cube, or its plan is damaged.
    """
    return plan_of(read_status(storage), storage)


def plan_of(facts: Mapping[str, Any], storage: Storage) -> Plan:
    """The plan that the group's attributes or the record hold.

    Raises
    ------
    CubeError : it is damaged.
    """
    from affine import Affine

    try:
        stored = facts["plan"]
        scene = stored["scene"]
        grid = Grid(tuple(scene["shape"]), Affine(*scene["transform"]), scene["crs"])
        plan = Plan(
            grid, Window(*stored["window"]), _tiling_of(stored, grid.shape),
            facts["block"], stored["bands"], stored["samples"], tuple(stored["layers"]), stored["settings"],
            tuple(map(Share.from_json, stored.get("scenes", ()))), tuple(stored.get("quality", ())),
            Share.from_json(stored["clip"]) if "clip" in stored else None,
        )  # fmt: skip
        digest = plan.digest
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as err:
        raise CubeError("the cube's plan is damaged", where=str(storage), got=repr(err)[:200]) from err
    except UsageError as err:
        raise CubeError(f"the cube's plan is damaged: {err}", where=str(storage)) from err
    if digest != facts["digest"]:
        raise CubeError(
            "the cube's plan is damaged", where=str(storage), got="another digest",
            remedy="see spectile verify --repair",
        )  # fmt: skip
    return plan


def _tiling_of(stored: Mapping[str, Any], shape: tuple[int, int]) -> Tiling:
    return Tiling(shape, stored["tile"], stored["halo"], stored.get("blend"), stored.get("step"))


def shard_keys(cube: Cube, block: Block) -> list[str]:
    """The keys in the store of the shards that a block owns."""
    shards = cube.plan.shards(block)
    return [shard_key(spec, row, col) for spec in cube.arrays.values() for row, col in shards]


def finished_blocks(cube: Cube, blocks: Iterable[Block] | None = None) -> dict[Block, ledger.Marker]:
    """The blocks, of the plan's or of those given, that are done under this plan, with their markers."""
    done = {}
    asked = cube.plan.blocks if blocks is None else blocks
    for block, marker in ledger.read_markers(cube.storage, asked).items():
        digest = cube.plan.digest_of(block)
        if marker.digest == digest and set(marker.checksums) == set(shard_keys(cube, block)):
            done[block] = marker
    return done


def open_cube(path: str | Path, *, overview: int = 1) -> xr.Dataset:
    """The cube as a lazy xarray Dataset, float32 reflectance with NaN where there is none.

    Parameters
    ----------
    overview : rows and columns of the cube along one of what is opened, a power of two; 1 is the cube itself.

    Raises
    ------
    CubeError : there is no cube, or it is incomplete.
    UsageError : there is no such overview.
    StoreError : the store cannot be read.
    """
    import rioxarray  # noqa: F401  (adds the .rio accessor)
    import xarray as xr

    storage = open_storage(path)
    status = read_status(storage)["status"]
    if status != "complete":
        raise CubeError(
            "the cube is not finished", where=str(storage), got=status, remedy="run again with --resume"
        )
    plan = load_plan(storage)
    levels = {level.factor: level for level in plan.levels}
    if overview not in levels:
        raise UsageError(
            "there is no such overview", where=str(storage), got=overview,
            expected=f"one of {', '.join(map(str, levels))}",
        )  # fmt: skip
    level = levels[overview]
    group = open_arrays(storage, plan, consolidated=True, levels=[level])
    specs = cube_arrays(plan)
    with reading_metadata(storage):
        inside = group[level.folder] if level.folder else group
        dataset: xr.Dataset = xr.open_zarr(
            storage.zarr(read_only=True), group=level.folder or None, mask_and_scale=False,
            consolidated=None if group.metadata.consolidated_metadata else False,
            decode_coords="all", drop_variables=[name for name in inside if name not in specs],
        )  # fmt: skip
        for spec in specs.values():
            if spec.values == "reflectance":
                dataset[spec.name] = _decoded(dataset[spec.name])
        at_hand = {name: dataset[name].compute() for name in ("fwhm", "good_wavelengths")}
        return dataset.assign_coords(at_hand)  # as wavelength is


def _decoded(counts: xr.DataArray) -> xr.DataArray:
    """Counts as reflectance, lazy. Xarray itself would decode to float64, which takes twice the memory."""
    import xarray as xr

    reflectance: xr.DataArray = xr.apply_ufunc(
        decode, counts, dask="parallelized", output_dtypes=[np.float32]
    )
    packed = ("scale_factor", "_FillValue", "valid_range")
    reflectance.attrs = {name: value for name, value in counts.attrs.items() if name not in packed}
    reflectance.encoding = {"grid_mapping": "spatial_ref"}  # copies in files keep their place
    return reflectance


@contextmanager
def writing(storage: Storage, block: Block | None = None) -> Iterator[None]:
    """Turn errors of the disk into a StoreError.

    Raises
    ------
    StoreError : whatever failed.
    """
    try:
        yield
    except OSError as err:
        full = err.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StoreError(
            "no space left on the device" if full else "the store cannot be written",
            where=f"{storage} block {block.name}" if block else str(storage),
            got=None if full else (err.strerror or str(err)),
            remedy="free some space, then run again with --resume"
            if full
            else "check the place, then use --resume",
        ) from err
