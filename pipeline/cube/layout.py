"""What a cube's store holds beside its blocks: metadata and coordinates, made from the plan in memory.

They always have the same bytes, so damaged ones can be made again.
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
from spectile.pipeline.plan.arrays import array_attributes, cube_arrays
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.scene.lazy import axis_coordinates

if TYPE_CHECKING:
    from zarr.abc.buffer import Buffer

ROOT = "zarr.json"
"""The key of the group's metadata: status, plan and digest."""

_OF_A_SCENE = {
    "title": "Synthetic hyperspectral reflectance estimated from a scene of few bands",
    "comment": "Spectra are a model's estimates, not measurements.",
}
_OF_A_PAIR = {
    "title": "Hyperspectral reflectance fused from a hyperspectral scene and a sharper one of few bands",
    "comment": "What is finer than the hyperspectral scene's pixels is estimated, not measured.",
}
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
        **(_OF_A_PAIR if "pair" in plan.settings else _OF_A_SCENE),
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
    objects: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(objects), zarr_format=3, attributes=attributes)
    _create_arrays(group, plan, bands, grid, calibration)
    if overviews:
        group.create_group(FOLDER)
    for level in overviews:
        coarse = level.grid(plan.cube_grid)
        attributes = {"Conventions": "CF-1.11", **_geozarr(coarse)}
        overview = group.create_group(level.folder, attributes=attributes)
        _create_arrays(overview, plan, bands, coarse, calibration)
    group.create_group(ledger.PREFIX)  # a group, so that readers that list the store know it
    return {key: value.to_bytes() for key, value in objects.items()}


def software_version() -> str:
    """The version of spectile that runs."""
    try:
        return version("spectile")
    except PackageNotFoundError:
        return "unknown"


def _create_arrays(
    group: zarr.Group, plan: Plan, bands: Bands, grid: Grid, calibration: Calibration | None
) -> None:
    of_blocks: dict[str, Any] = {
        "compressors": BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
        "config": {"write_empty_chunks": True},
    }
    values: dict[str, Any] = {
        "wavelength": bands.centre_nm, "fwhm": bands.fwhm_nm, "good_wavelengths": good_bands(bands),
        **axis_coordinates(grid),
    }  # fmt: skip
    of_grid = _grid_attributes(grid)
    for spec in cube_arrays(plan).values():
        layout = spec.layout(len(bands), grid.shape)
        array = group.create_array(
            spec.name, shape=layout.shape, chunks=layout.chunks, shards=layout.shards, dtype=spec.dtype,
            fill_value=spec.fill, dimension_names=spec.axes, **(of_blocks if spec.is_written else {}),
            attributes={**array_attributes(spec, plan, calibration), **of_grid.get(spec.name, {})},
        )  # fmt: skip
        if spec.name in values:
            array[:] = np.asarray(values[spec.name], dtype=spec.dtype)


def _grid_attributes(grid: Grid) -> dict[str, dict[str, Any]]:
    """The attributes of a grid's coordinates, by name."""
    reference = _spatial_ref(grid)
    mapping = str(reference.get("grid_mapping_name"))
    axes = {
        axis: {**_axis_attributes(axis, mapping, grid.crs_wkt), "long_name": f"{axis} of the pixel centre"}
        for axis in axis_coordinates(grid)
    }
    return {**axes, "spatial_ref": reference}


def _axis_attributes(axis: str, mapping: str, crs_wkt: str) -> dict[str, str]:
    """How CF calls an axis, ``y`` or ``x``, of a grid mapping, and its unit as UDUNITS writes it.

    ``pyproj.CRS.cs_to_cf`` is not used: it takes grads for degrees, and gives both axes of a local CRS the
    same name.
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
