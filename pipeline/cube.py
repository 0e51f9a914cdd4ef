"""The hyperspectral cube: a sharded Zarr v3 group with CF and GeoZarr metadata, written block by block.

Layout: ``reflectance(wavelength, y, x)`` as scaled uint16, ``valid(y, x)``, the coordinates
``wavelength`` and ``fwhm`` in nm, ``spatial_ref``, and ``ledger/`` with a marker for each block.
"""

from __future__ import annotations

import errno
import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec
from zarr.errors import ZarrUserWarning

from catalog.bands import Bands
from catalog.calibration import Calibration
from catalog.errors import CubeError, StoreError
from pipeline import ledger
from pipeline.grid import Grid, Window
from pipeline.layers import LAYERS, array_name, layer_attributes, summarise
from pipeline.mosaic import Mosaic
from pipeline.plan import CHUNK, SHARD, Plan
from pipeline.shares import Share
from pipeline.source import axis_coordinates
from pipeline.storage import Storage, open_storage
from pipeline.tiling import Block, Tiling

if TYPE_CHECKING:
    import xarray as xr

SCALE = 1e-4
"""Reflectance of one stored count."""
NODATA = 65535
"""The stored count of pixels without a spectrum."""

_GEOZARR = (
    ("f17cb550-5864-4468-aeb7-f3180cfb622f", "proj:", "zarr-experimental/geo-proj"),
    ("689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "spatial:", "zarr-conventions/spatial"),
)


@dataclass(frozen=True)
class Cube:
    """A cube that is being written or checked."""

    storage: Storage
    """Where it is."""
    plan: Plan
    """What it holds."""

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arrays that blocks write."""
        flat = ("valid", "source") if self.plan.scenes else ("valid",)
        return ("reflectance", *map(array_name, self.plan.layers), *flat)


def create_cube(
    storage: Storage, plan: Plan, bands: Bands, *, calibration: Calibration | None = None
) -> Cube:
    """A new, empty cube. Its status is ``incomplete`` until ``finalise`` says otherwise.

    Parameters
    ----------
    calibration : with which the layers will be made, for their attributes.

    Raises
    ------
    CubeError : something is there already, or the place cannot be written.
    """
    if storage.exists():
        raise CubeError(
            "the output exists",
            where=str(storage),
            remedy="use --resume to go on with it, --overwrite to replace it, or another --out",
        )
    grid = plan.cube_grid
    facts: dict[str, Any] = {
        "status": "incomplete",
        "version": software_version(),
        "digest": plan.digest,
        "block": plan.block,
        "plan": plan.to_json(),
    }
    attributes: dict[str, Any] = {
        "Conventions": "CF-1.11",
        "title": "Synthetic hyperspectral reflectance estimated from an RGB scene",
        "comment": "Spectra are a model's estimates, not measurements.",
        **_geozarr(grid),
        "spectile": facts,
    }
    try:
        # The attributes come first and the ledger last: whatever is left by a process that is killed in
        # between says that it is a cube, and that it was not even laid out.
        group = zarr.create_group(storage.zarr(), zarr_format=3, attributes=attributes)
        _create_arrays(group, plan, bands, grid, calibration)
        group.create_group(ledger.PREFIX)  # a group, so that readers that list the store know it
    except OSError as err:
        raise _write_error(storage, err) from err
    return Cube(storage, plan)


def _create_arrays(
    group: zarr.Group, plan: Plan, bands: Bands, grid: Grid, calibration: Calibration | None
) -> None:
    rows, cols = grid.shape
    depth = max(size for size in range(1, 18) if len(bands) % size == 0)
    compressor = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
    spectral: dict[str, Any] = {
        "shape": (len(bands), rows, cols),
        "chunks": (depth, CHUNK, CHUNK),
        "shards": (len(bands), SHARD, SHARD),
        "dtype": "uint16",
        "fill_value": NODATA,
        "dimension_names": ("wavelength", "y", "x"),
        "compressors": compressor,
        "config": {"write_empty_chunks": True},
    }
    placed: dict[str, Any] = {"grid_mapping": "spatial_ref", "coordinates": "fwhm spatial_ref"}
    scaled: dict[str, Any] = {
        "scale_factor": SCALE, "_FillValue": NODATA, "valid_range": [0, NODATA - 1], "units": "1", **placed,
    }  # fmt: skip
    described = {"reflectance": {"long_name": "estimated surface reflectance"}} | {
        array_name(layer): layer_attributes(layer, samples=plan.samples, calibration=calibration)
        for layer in plan.layers
    }
    if plan.layers:
        described["reflectance"]["ancillary_variables"] = " ".join(map(array_name, plan.layers))
    for name, attributes in described.items():
        group.create_array(name, **spectral, attributes={**attributes, **scaled})
    group.create_array(
        "valid", shape=(rows, cols), chunks=(CHUNK, CHUNK), shards=(SHARD, SHARD), dtype="uint8",
        fill_value=0, dimension_names=("y", "x"), compressors=compressor,
        config={"write_empty_chunks": True},
        attributes={
            "long_name": "whether the scene is valid", "flag_values": [0, 1],
            "flag_meanings": "masked valid", "grid_mapping": "spatial_ref", "coordinates": "spatial_ref",
        },
    )  # fmt: skip
    if plan.scenes:
        group.create_array(
            "source", shape=(rows, cols), chunks=(CHUNK, CHUNK), shards=(SHARD, SHARD), dtype="uint16",
            fill_value=0, dimension_names=("y", "x"), compressors=compressor,
            config={"write_empty_chunks": True}, attributes=_source_attributes(plan),
        )  # fmt: skip
    lines: dict[str, tuple[tuple[float, ...], str, dict[str, Any]]] = {
        "wavelength": (bands.centre_nm, "wavelength",
                       {"standard_name": "radiation_wavelength", "units": "nm", "long_name": "band centre"}),
        "fwhm": (bands.fwhm_nm, "wavelength", {"units": "nm", "long_name": "full width at half maximum"}),
    }  # fmt: skip
    for axis, values in axis_coordinates(grid).items():
        lines[axis] = (tuple(values), axis, {"standard_name": f"projection_{axis}_coordinate", "units": "m",
                                             "long_name": f"{axis} of the pixel centre"})  # fmt: skip
    reference = _spatial_ref(grid)
    if "grid_mapping_name" in reference and reference["grid_mapping_name"] == "latitude_longitude":
        for axis, name, units in (("y", "latitude", "degrees_north"), ("x", "longitude", "degrees_east")):
            if axis in lines:
                lines[axis][2].update(standard_name=name, units=units)
    for name, (numbers, dimension, attributes) in lines.items():
        line = np.asarray(numbers, dtype=np.float64)
        array = group.create_array(
            name, shape=line.shape, chunks=line.shape, dtype="float64", dimension_names=(dimension,),
            attributes=attributes,
        )  # fmt: skip
        array[:] = line
    group.create_array("spatial_ref", shape=(), dtype="int64", attributes=reference)


def _source_attributes(plan: Plan) -> dict[str, Any]:
    line: Any = plan.settings.get("line", {})
    shared = {
        "feather": "the scene that weighs most; RGB is the weighted mean of all scenes that are valid",
        "first": "the first scene that is valid; RGB is its own",
        "nadir": "the valid scene whose centre line is nearest; RGB is its own",
    }
    return {
        "long_name": "number of the scene, from 1; 0 for none",
        "comment": shared.get(line.get("combine"), ""),
        "scenes": [share.facts["name"] for share in plan.scenes],
        "grid_mapping": "spatial_ref", "coordinates": "spatial_ref",
    }  # fmt: skip


def extend_cube(storage: Storage, plan: Plan) -> None:
    """Let a cube of a flight line be one of more scenes: blocks that the new ones touch are to do again.

    Parameters
    ----------
    plan : the cube's own, with more scenes after those that it has.

    Raises
    ------
    StoreError : the store cannot be written.
    """
    try:
        group = zarr.open_group(storage.zarr(), mode="r+", use_consolidated=False)
        _array(group, "source").attrs.update(_source_attributes(plan))
        root = json.loads(storage.get("zarr.json") or b"{}")
        root.pop("consolidated_metadata", None)
        root["attributes"]["spectile"].update(status="incomplete", digest=plan.digest, plan=plan.to_json())
        storage.put("zarr.json", json.dumps(root).encode())
    except OSError as err:
        raise _write_error(storage, err) from err


def _spatial_ref(grid: Grid) -> dict[str, Any]:
    import rioxarray  # noqa: F401  (adds the .rio accessor)
    import xarray as xr

    placed = xr.Dataset().rio.write_crs(grid.crs_wkt).rio.write_transform(grid.transform)
    return dict(placed.spatial_ref.attrs)


def _geozarr(grid: Grid) -> dict[str, Any]:
    return {
        "zarr_conventions": [
            {
                "uuid": uuid,
                "name": name,
                "schema_url": f"https://raw.githubusercontent.com/{repository}/refs/tags/v1/schema.json",
                "spec_url": f"https://github.com/{repository}/blob/v1/README.md",
            }
            for uuid, name, repository in _GEOZARR
        ],
        "proj:wkt2": grid.crs_wkt,
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": list(grid.shape),
        "spatial:transform": list(grid.transform)[:6],
        "spatial:bbox": list(grid.bounds),
        "spatial:registration": "pixel",
    }


def remove_cube(storage: Storage) -> None:
    """Remove a cube, so that what is left by a process that is killed on the way can be removed again."""
    storage.clear(first=ledger.PREFIX, last="zarr.json")


def is_laid_out(storage: Storage) -> bool:
    """Whether the creation of a cube came to its end, so that blocks can be written."""
    return storage.get(f"{ledger.PREFIX}/zarr.json") is not None


def read_status(storage: Storage) -> dict[str, Any]:
    """What a cube says of itself: the ``spectile`` attributes of the store.

    Raises
    ------
    CubeError : there is no cube.
    """
    text = storage.get("zarr.json")
    try:
        facts = json.loads(text or b"{}").get("attributes", {}).get("spectile")
    except (ValueError, AttributeError):
        facts = None
    if not isinstance(facts, dict) or not {"status", "digest", "block", "plan"} <= facts.keys():
        raise CubeError(
            "no cube of spectile here",
            where=str(storage),
            got="no such store" if not storage.exists() else "something else",
            remedy="check the path",
        )
    return facts


def load_plan(storage: Storage) -> Plan:
    """The plan under which a cube is made, read back from the cube."""
    from affine import Affine

    facts = read_status(storage)
    try:
        said = facts["plan"]
        scene = said["scene"]
        grid = Grid(tuple(scene["shape"]), Affine(*scene["transform"]), scene["crs"])
        plan = Plan(
            grid, Window(*said["window"]), Tiling(grid.shape, said["tile"], said["halo"]), facts["block"],
            said["bands"], said["samples"], tuple(said["layers"]), said["settings"],
            tuple(Share.from_json(each) for each in said.get("scenes", ())),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as err:
        raise CubeError("the cube's plan is damaged", where=str(storage), got=repr(err)) from err
    if plan.digest != facts["digest"]:
        raise CubeError("the cube's plan is damaged", where=str(storage), got="another digest")
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

    Whatever shards are there already (of a run that was stopped) are removed first, so that none of
    their bytes is read back into the new ones.

    Parameters
    ----------
    source : (h, w) uint16, of a flight line's block the scene that each pixel is from; 0 where not valid.

    Raises
    ------
    StoreError : the store cannot be written, e.g. the disk is full.
    """
    at = block.window.relative_to(cube.plan.window)
    # Writers that share a shard lose pixels silently; blocks that are whole shards share none.
    assert at.row % SHARD == 0, at
    assert at.col % SHARD == 0, at
    keys = shard_keys(cube, block)
    try:
        for key in keys:
            cube.storage.delete(key)
        group = zarr.open_group(cube.storage.zarr(), mode="r+", use_consolidated=False)
        for row, col in cube.plan.shards(block):
            shard = Window(row * SHARD, col * SHARD, SHARD, SHARD).intersection(at)
            part = shard.relative_to(at).slices
            valid = mosaic.valid[part]
            samples = mosaic.samples[(slice(None), slice(None), *part)]
            for name, layer in summarise(samples, cube.plan.layers, mosaic.calibration):
                _array(group, name)[(slice(None), *shard.slices)] = encode(layer, valid)
            _array(group, "valid")[shard.slices] = valid.astype(np.uint8)
            if source is not None:
                _array(group, "source")[shard.slices] = source[part]
        marker = ledger.Marker(
            digest=cube.plan.digest_of(block),
            window=(block.window.row, block.window.col, block.window.height, block.window.width),
            checksums={key: ledger.checksum(_stored(cube.storage, key)) for key in keys},
            tiles=mosaic.tiles,
            tiles_skipped=mosaic.tiles_skipped,
            valid_pixels=int(mosaic.valid.sum()),
            seconds=round(seconds, 3),
            tiles_kept=mosaic.tiles_kept,
        )
        ledger.write_marker(cube.storage, block, marker)
    except OSError as err:
        raise _write_error(cube.storage, err, block) from err
    return marker


def encode(reflectance: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Stored counts (B, h, w) uint16 of reflectance; NODATA where ``valid`` (h, w) is False."""
    counts = np.rint(reflectance * np.float32(1 / SCALE))
    np.clip(counts, 0, NODATA - 1, out=counts)
    counts[:, ~valid] = NODATA
    stored: NDArray[np.uint16] = counts.astype(np.uint16)
    return stored


def shard_keys(cube: Cube, block: Block) -> list[str]:
    """The keys in the store of the shards that a block owns."""
    return [
        f"{name}/c/{row}/{col}" if name in ("valid", "source") else f"{name}/c/0/{row}/{col}"
        for name in cube.arrays
        for row, col in cube.plan.shards(block)
    ]


def finished_blocks(cube: Cube, blocks: Iterable[Block] | None = None) -> dict[Block, ledger.Marker]:
    """The blocks, of the plan's or of those given, that are done under this plan, with their markers."""
    done = {}
    asked = cube.plan.blocks if blocks is None else blocks
    for block, marker in ledger.read_markers(cube.storage, asked).items():
        digest = cube.plan.digest_of(block)
        if marker.digest == digest and set(marker.checksums) == set(shard_keys(cube, block)):
            done[block] = marker
    return done


def verify_cube(storage: Storage) -> list[str]:
    """What is wrong with a cube, a line each; empty where every block is there as it was written.

    Raises
    ------
    CubeError : there is no cube.
    """
    cube = Cube(storage, load_plan(storage))
    done = finished_blocks(cube)
    problems = [f"block {block.name} is not done" for block in cube.plan.blocks if block not in done]
    for block, marker in done.items():
        problems += [f"block {block.name}: {what}" for what in ledger.damage(storage, marker)]
    if not problems and read_status(storage)["status"] != "complete":
        problems.append("every block is done, but the cube was never finished; run again with --resume")
    return problems


def finalise(cube: Cube, *, attributes: Mapping[str, Any]) -> None:
    """Declare a cube complete, in one step, with its metadata consolidated.

    Raises
    ------
    CubeError : blocks are missing.
    """
    missing = set(cube.plan.blocks) - finished_blocks(cube).keys()
    if missing:
        raise CubeError("blocks are missing", where=str(cube.storage), got=len(missing))
    cube.storage.sweep()
    try:
        with warnings.catch_warnings():
            # Consolidated metadata are an extension that xarray and zarr both read.
            warnings.simplefilter("ignore", ZarrUserWarning)
            zarr.consolidate_metadata(cube.storage.zarr())
        root = json.loads(cube.storage.get("zarr.json") or b"{}")
        root["attributes"]["spectile"].update(attributes, status="complete")
        cube.storage.put("zarr.json", json.dumps(root).encode())
    except OSError as err:
        raise _write_error(cube.storage, err) from err


def open_cube(path: str | Path) -> xr.Dataset:
    """The cube as a lazy xarray Dataset, float32 reflectance with NaN where there is none.

    Raises
    ------
    CubeError : there is no cube, or it is incomplete.
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
    raw: xr.Dataset = xr.open_zarr(storage.zarr(read_only=True), mask_and_scale=False, decode_coords="all")
    for name in ("reflectance", *map(array_name, LAYERS)):
        if name in raw:
            counts = raw[name]
            # xarray would decode to float64, twice the memory for nothing.
            decoded = counts.where(counts != NODATA).astype(np.float32) * np.float32(SCALE)
            packed = ("scale_factor", "_FillValue", "valid_range")
            kept = {k: v for k, v in counts.attrs.items() if k not in packed}
            decoded.attrs = kept
            decoded.encoding = {"grid_mapping": "spatial_ref"}  # copies in files keep their place
            raw[name] = decoded
    return raw.assign_coords(fwhm=raw["fwhm"].compute())  # at hand, as wavelength is


def software_version() -> str:
    """The version of spectile that runs."""
    try:
        return version("spectile")
    except PackageNotFoundError:
        return "unknown"


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def _stored(storage: Storage, key: str) -> bytes:
    value = storage.get(key)
    if value is None:
        raise OSError(f"{key} was written but is not there")
    return value


def _write_error(storage: Storage, err: OSError, block: Block | None = None) -> StoreError:
    full = err.errno in (errno.ENOSPC, errno.EDQUOT)
    where = f"{storage} block {block.name}" if block else str(storage)
    return StoreError(
        "no space left on the device" if full else "the store cannot be written",
        where=where,
        got=None if full else (err.strerror or str(err)),
        remedy="free some space, then run again with --resume"
        if full
        else "check the place, then use --resume",
    )
