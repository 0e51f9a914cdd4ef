"""The hyperspectral cube: a sharded Zarr v3 group with CF and GeoZarr metadata, written block by block.

Layout: ``reflectance(wavelength, y, x)`` as scaled uint16, ``valid(y, x)``, the coordinates
``wavelength`` and ``fwhm`` in nm, ``spatial_ref``, and ``ledger/`` with a marker for each block.
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
from numpy.typing import NDArray

from spectile.catalog.bands import Bands
from spectile.catalog.calibration import Calibration
from spectile.catalog.errors import CubeError, StoreError, UsageError
from spectile.pipeline.block.mosaic import Mosaic
from spectile.pipeline.cube import ledger
from spectile.pipeline.cube.arrays import open_arrays, reading_metadata
from spectile.pipeline.cube.layout import ROOT, lay_out
from spectile.pipeline.cube.shards import encode_shard, read_metadata, shard_key
from spectile.pipeline.cube.statistics import Sums, add_sums, take_sums
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.tiling import Block, Tiling
from spectile.pipeline.plan.arrays import ArraySpec, block_arrays, cube_arrays
from spectile.pipeline.plan.counts import decode, encode, encode_flat
from spectile.pipeline.plan.layers import summarise
from spectile.pipeline.plan.plan import SHARD, Plan
from spectile.pipeline.plan.quality_layers import rgb_consistency
from spectile.pipeline.plan.shares import Share
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage

if TYPE_CHECKING:
    import xarray as xr

RECORD = f"{ledger.PREFIX}/plan.json"
"""The key of the second copy of the plan, with the checksums of all that ``lay_out`` made. It is put last."""


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


def create_cube(
    storage: Storage,
    plan: Plan,
    bands: Bands,
    *,
    calibration: Calibration | None = None,
    replace: bool = False,
) -> Cube:
    """A new cube without blocks. Its status is ``incomplete`` until ``finalise`` says otherwise.

    Nothing is removed: a delete cannot be held back once it is on its way, and would hit what a successor
    has written. Objects of an old cube lose their markers first, are put over one by one, and what is left of
    them goes when the cube is finished.

    Parameters
    ----------
    calibration : with which the layers will be made, for their attributes.
    replace : whether a cube that is there is replaced.

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
    objects = lay_out(plan, bands, calibration)
    with writing(storage):
        # Whatever is left by a process that is killed in between says that it is a cube, and that it was not
        # even laid out.
        if storage.get(RECORD) is not None:
            storage.put(RECORD, b"{}")
        storage.put(ROOT, objects[ROOT])
        ledger.void_all(storage)
        _put_layout(storage, plan, objects)
    return Cube(storage, plan)


def put_layout(storage: Storage, plan: Plan, bands: Bands, *, calibration: Calibration | None = None) -> None:
    """Put a cube's metadata again, which is then incomplete; markers stay.

    So damage is repaired, and the cube of a flight line becomes one of more scenes: then blocks that the new
    ones touch are to do again.

    Parameters
    ----------
    plan : the cube's own, or with more scenes after those that it has.
    calibration : as of ``create_cube``.

    Raises
    ------
    StoreError : the store cannot be written.
    """
    with writing(storage):
        _put_layout(storage, plan, lay_out(plan, bands, calibration))


def _put_layout(storage: Storage, plan: Plan, objects: Mapping[str, bytes]) -> None:
    for key in sorted(objects, key=lambda key: key == ROOT):
        storage.put(key, objects[key])
    sums = {key: [ledger.checksum(value)] for key, value in objects.items()}
    facts = {"digest": plan.digest, "block": plan.block, "plan": plan.to_json(), "objects": sums}
    put_record(storage, facts)


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
    """Whether the creation of a cube came to its end, so that blocks can be written."""
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
    """What a cube says of itself: the ``spectile`` attributes of the store.

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
            grid, Window(*stored["window"]), Tiling(grid.shape, stored["tile"], stored["halo"]),
            facts["block"], stored["bands"], stored["samples"], tuple(stored["layers"]), stored["settings"],
            tuple(map(Share.from_json, stored.get("scenes", ()))), tuple(stored.get("quality", ())),
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
    yield "valid", valid.astype(np.uint8)
    if source is not None:
        yield "source", source[part]


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
    """Counts as reflectance, lazy. Xarray itself would decode to float64, twice the memory for nothing."""
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
    """Tell what a disk refuses as one of our errors.

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
