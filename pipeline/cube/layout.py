"""What a cube's store holds beside its blocks: metadata and coordinates, made from the plan in memory.

They are the same bytes whenever they are made, so that what is damaged can be made again.
"""

from __future__ import annotations

import json
import math
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from rasterio.crs import CRS
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore

from spectile.catalog.bands import Bands, good_bands
from spectile.catalog.calibration import Calibration
from spectile.pipeline.cube import ledger
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.levels import FOLDER
from spectile.pipeline.plan.layers import array_name, layer_attributes
from spectile.pipeline.plan.plan import CHUNK, SHARD, Plan, spectral_depths
from spectile.pipeline.plan.quality_layers import FLAGS, quality_attributes
from spectile.pipeline.scene.raster import axis_coordinates

if TYPE_CHECKING:
    from zarr.abc.buffer import Buffer

ROOT = "zarr.json"
"""The key of the group's metadata: status, plan and digest."""
SCALE = 1e-4
"""Reflectance of one stored count."""
NODATA = 65535
"""The stored count of pixels without a spectrum."""

_GEOZARR = {
    "proj": "f17cb550-5864-4468-aeb7-f3180cfb622f",
    "spatial": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
    "multiscales": "d35379db-88df-4056-af3a-620245f8e347",
}


def lay_out(plan: Plan, bands: Bands, calibration: Calibration | None = None) -> dict[str, bytes]:
    """The objects of an empty cube by key: the metadata of group, arrays and ledger, and the coordinates.

    Parameters
    ----------
    calibration : with which the layers will be made, for their attributes.
    """
    own, *overviews = plan.levels
    grid = own.grid(plan.cube_grid)
    attributes: dict[str, Any] = {
        "Conventions": "CF-1.11",
        "title": "Synthetic hyperspectral reflectance estimated from an RGB scene",
        "comment": "Spectra are a model's estimates, not measurements.",
        **_geozarr(grid),
        **(_multiscales(plan) if overviews else {}),
        "spectile": {
            "status": "incomplete",
            "version": software_version(),
            "digest": plan.digest,
            "block": plan.block,
            "plan": json.loads(
                json.dumps(plan.to_json(), sort_keys=True)
            ),  # in one order, wherever it is from
        },
    }
    made: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(made), zarr_format=3, attributes=attributes)
    _create_arrays(group, plan, bands, grid, calibration)
    if overviews:
        group.create_group(FOLDER)
    for level in overviews:
        coarse = level.grid(plan.cube_grid)
        said = {"Conventions": "CF-1.11", **_geozarr(coarse)}
        _create_arrays(group.create_group(level.folder, attributes=said), plan, bands, coarse, calibration)
    group.create_group(ledger.PREFIX)  # a group, so that readers that list the store know it
    return {key: value.to_bytes() for key, value in made.items()}


def software_version() -> str:
    """The version of spectile that runs."""
    try:
        return version("spectile")
    except PackageNotFoundError:
        return "unknown"


def _create_arrays(
    group: zarr.Group, plan: Plan, bands: Bands, grid: Grid, calibration: Calibration | None
) -> None:
    rows, cols = grid.shape
    chunk, shard = spectral_depths(len(bands))
    compressor = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
    spectral: dict[str, Any] = {
        "shape": (len(bands), rows, cols),
        "chunks": (chunk, CHUNK, CHUNK),
        "shards": (shard, SHARD, SHARD),
        "dtype": "uint16",
        "fill_value": NODATA,
        "dimension_names": ("wavelength", "y", "x"),
        "compressors": compressor,
        "config": {"write_empty_chunks": True},
    }
    placed: dict[str, Any] = {
        "grid_mapping": "spatial_ref",
        "coordinates": "fwhm good_wavelengths spatial_ref",
    }
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
    for layer in plan.quality:
        flags = layer == "quality"
        storage: dict[str, Any] = {
            "dtype": "uint8" if flags else "uint16", "fill_value": FLAGS["nodata"] if flags else NODATA,
        }  # fmt: skip
        group.create_array(
            layer, shape=(rows, cols), chunks=(CHUNK, CHUNK), shards=(SHARD, SHARD), **storage,
            dimension_names=("y", "x"), compressors=compressor, config={"write_empty_chunks": True},
            attributes={
                **quality_attributes(layer), **({} if flags else scaled),
                "grid_mapping": "spatial_ref", "coordinates": "spatial_ref",
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
    reference = _spatial_ref(grid)
    for axis, values in axis_coordinates(grid).items():
        said = _axis_attributes(axis, str(reference.get("grid_mapping_name")), grid.crs_wkt)
        lines[axis] = (tuple(values), axis, {**said, "long_name": f"{axis} of the pixel centre"})
    good = group.create_array(
        "good_wavelengths", shape=(len(bands),), chunks=(len(bands),), dtype="uint8",
        dimension_names=("wavelength",),
        attributes={
            "long_name": "whether light reaches the ground and the sensor", "flag_values": [0, 1],
            "flag_meanings": "water_vapour good",
        },
    )  # fmt: skip
    good[:] = good_bands(bands)
    for name, (numbers, dimension, attributes) in lines.items():
        line = np.asarray(numbers, dtype=np.float64)
        array = group.create_array(
            name, shape=line.shape, chunks=line.shape, dtype="float64", dimension_names=(dimension,),
            attributes=attributes,
        )  # fmt: skip
        array[:] = line
    group.create_array("spatial_ref", shape=(), dtype="int64", attributes=reference)


def _axis_attributes(axis: str, mapping: str, crs_wkt: str) -> dict[str, str]:
    """How CF calls an axis, ``y`` or ``x``, of a grid mapping, and its unit as UDUNITS writes it.

    ``pyproj.CRS.cs_to_cf`` is not asked: it takes grads for degrees, and the axes of a site's own CRS for two
    of one name.
    """
    crs = CRS.from_wkt(crs_wkt)
    factor = crs.units_factor[1]
    if not crs.is_geographic:
        units = "m" if factor == 1 else f"{factor:.15g} m"
        return {"standard_name": f"projection_{axis}_coordinate", "units": units}
    name, degrees = {"y": ("latitude", "degrees_north"), "x": ("longitude", "degrees_east")}[axis]
    if mapping != "latitude_longitude":  # the pole is elsewhere
        name, degrees = f"grid_{name}", "degrees"
    in_degrees = math.isclose(factor, math.radians(1), rel_tol=1e-9)
    return {"standard_name": name, "units": degrees if in_degrees else f"{factor:.15g} rad"}


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


def _spatial_ref(grid: Grid) -> dict[str, Any]:
    import rioxarray  # noqa: F401  (adds the .rio accessor)
    import xarray as xr

    placed = xr.Dataset().rio.write_crs(grid.crs_wkt).rio.write_transform(grid.transform)
    return dict(placed.spatial_ref.attrs)


def _geozarr(grid: Grid) -> dict[str, Any]:
    return {
        "zarr_conventions": [_convention(name) for name in ("proj", "spatial")],
        "proj:wkt2": grid.crs_wkt,
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": list(grid.shape),
        "spatial:transform": list(grid.transform)[:6],
        "spatial:bbox": list(grid.bounds),
        "spatial:registration": "pixel",
    }


def _convention(name: str) -> dict[str, str]:
    repository = f"zarr-conventions/{name}"
    return {
        "uuid": _GEOZARR[name],
        "name": name,
        "schema_url": f"https://raw.githubusercontent.com/{repository}/refs/tags/v0.1/schema.json",
        "spec_url": f"https://github.com/{repository}/blob/v0.1/README.md",
    }


def _multiscales(plan: Plan) -> dict[str, Any]:
    """Which groups hold the overviews; the conventions of ``_geozarr`` with this one."""
    layout: list[dict[str, Any]] = []
    for level in plan.levels:
        step = 1.0 if level.factor == 1 else 2.0
        grid = level.grid(plan.cube_grid)
        layout.append({
            "asset": level.folder or ".",
            **({"derived_from": layout[-1]["asset"]} if layout else {}),
            # Corners stay where they are.
            "transform": {"scale": [step, step], "translation": [0.0, 0.0]},
            "spatial:shape": list(grid.shape),
            "spatial:transform": list(grid.transform)[:6],
        })  # fmt: skip
    return {
        "zarr_conventions": [_convention(name) for name in _GEOZARR],
        "multiscales": {"layout": layout, "resampling_method": "average"},
    }
