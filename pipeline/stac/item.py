"""The facts of a cube's STAC item, read from its store. The cube may be unfinished; no spectrum is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from urllib.parse import quote

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from spectile.catalog.counts import NODATA, SCALE
from spectile.catalog.errors import SceneError
from spectile.catalog.redaction import redact_url
from spectile.catalog.stac.items import COG_TYPE, ZARR_TYPE, Facts
from spectile.catalog.times import Span, parse_span
from spectile.pipeline.cube.arrays import open_arrays, reading_metadata
from spectile.pipeline.cube.record import load_plan, read_status
from spectile.pipeline.geometry.footprint import footprints
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.plan.arrays import ArraySpec, block_arrays
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.product.quicklook import quicklook_names
from spectile.pipeline.product.report import report_name
from spectile.pipeline.product.report_pair import PAIR_FIGURES
from spectile.pipeline.store.base import Storage, stem

TAKEN = "taken"
"""The attribute of a cube with the acquisition time of its scene: first and last moment."""

_CELLS = 64
"""Rows and columns of the cells that outline the valid pixels."""
_LINEAGE = (
    "Spectra were estimated from a scene of few bands, tile by tile, by the model that is named; "
    "they are the model's estimates, not measurements."
)
_LINEAGE_OF_PAIRS = (
    "A hyperspectral scene and a sharper one of few bands were fused, tile by tile; what is finer than the "
    "hyperspectral scene's pixels is estimated, not measured."
)


def cube_facts(storage: Storage, *, taken: Span | None = None) -> Facts:
    """The facts for a cube's item.

    Parameters
    ----------
    taken : acquisition time of the scene; it takes precedence over the cube's own.

    Raises
    ------
    CubeError : there is no cube, or it is damaged.
    StoreError : the store cannot be read.
    """
    with reading_metadata(storage):
        return _cube_facts(storage, taken)


def _cube_facts(storage: Storage, taken: Span | None) -> Facts:
    status, plan = read_status(storage), load_plan(storage)
    complete = status["status"] == "complete"
    span = taken or (parse_span("/".join(status[TAKEN])) if status.get(TAKEN) else None)
    centre_nm, fwhm_nm = _bands(storage, plan)
    pictures, valid = _pictures(storage) if complete else ({}, None)
    geometry: dict[str, Any] | None
    try:
        geometry = _footprint(plan.cube_grid, valid)
    except SceneError:  # the user got the notice when the scene was opened
        geometry = None
    model: Mapping[str, Any] = plan.settings.get("model") or {}  # type: ignore[assignment]
    pair: Any = plan.settings.get("pair")
    properties: dict[str, Any] = {
        **_place(plan.cube_grid),
        **_dimensions(plan, centre_nm),
        "processing:software": {"spectile": str(status.get("version", "unknown"))},
        "processing:version": str(status.get("version", "unknown")),
        "processing:lineage": _LINEAGE_OF_PAIRS if pair else _LINEAGE,
        "spectile:status": status["status"],
        "spectile:digest": plan.digest,
        "spectile:model": str(model.get("name", "unknown")),
        **({"spectile:model_digest": str(model["digest"])} if model.get("digest") else {}),
        "spectile:samples": plan.samples,
        "spectile:layers": [*plan.layers, *plan.quality],
        "spectile:bands": len(centre_nm),
        "spectile:wavelength_min": min(centre_nm),
        "spectile:wavelength_max": max(centre_nm),
    }
    if pair:
        estimates = pair.get("estimates", {})
        properties["spectile:ratio"] = pair.get("ratio")
        properties["spectile:shift"] = pair.get("shift")
        properties["spectile:wald"] = estimates.get("wald", {})
        properties |= {f"spectile:{name}": estimates[name] for name in PAIR_FIGURES if name in estimates}
    if "valid_pixels" in status:
        properties["spectile:valid_pixels"] = status["valid_pixels"]
    cube = {
        "href": quote(storage.name),
        "type": ZARR_TYPE,
        "title": "Hyperspectral reflectance, Zarr",
        "roles": ["data", "reflectance"],
        "zarr:zarr_format": 3,
        "zarr:node_type": "group",
        "zarr:consolidated": complete,
        "bands": [
            {
                "name": f"B{number:03d}",
                "eo:center_wavelength": round(centre / 1000, 6),
                "eo:full_width_half_max": round(width / 1000, 6),
                "data_type": "uint16",
                "nodata": NODATA,
                "unit": "1",
                "raster:scale": SCALE,
                "raster:offset": 0,
            }
            for number, (centre, width) in enumerate(zip(centre_nm, fwhm_nm, strict=True), 1)
        ],
    }
    return Facts(
        name=stem(storage.name),
        geometry=geometry,
        bbox=None if geometry is None else _bbox(geometry),
        properties=properties,
        assets={"cube": cube, **pictures},
        links=_sources(plan, model),
        taken=span,
    )


def _bands(storage: Storage, plan: Plan) -> tuple[list[float], list[float]]:
    group = open_arrays(storage, plan, consolidated=False)
    return group["wavelength"][:].tolist(), group["fwhm"][:].tolist()


def _place(grid: Grid) -> dict[str, Any]:
    crs = CRS.from_wkt(grid.crs_wkt)
    authority = crs.to_authority()
    properties: dict[str, Any] = {
        "proj:code": ":".join(authority) if authority else None,
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.transform)[:6],
        "proj:bbox": list(grid.bounds),
    }
    if authority is None:
        properties["proj:wkt2"] = crs.to_wkt(version="WKT2_2019")
    if crs.is_projected:
        side = abs(grid.transform.determinant) ** 0.5 * crs.linear_units_factor[1]
        properties["gsd"] = round(side, 6)
    return properties


def _dimensions(plan: Plan, centre_nm: list[float]) -> dict[str, Any]:
    grid = plan.cube_grid
    crs = CRS.from_wkt(grid.crs_wkt)
    x_min, y_min, x_max, y_max = grid.bounds
    reference = crs.to_epsg() or crs.to_wkt(version="WKT2_2019")
    axes: dict[str, dict[str, Any]] = {
        "y": {"type": "spatial", "axis": "y", "extent": [y_min, y_max], "reference_system": reference},
        "x": {"type": "spatial", "axis": "x", "extent": [x_min, x_max], "reference_system": reference},
    }
    if grid.is_axis_aligned:
        axes["y"]["step"], axes["x"]["step"] = grid.transform.e, grid.transform.a
    return {
        "cube:dimensions": {
            "wavelength": {
                "type": "spectral",
                "description": "band centre",
                "values": centre_nm,
                "unit": "nm",
            },
            **axes,
        },
        "cube:variables": {
            **{name: _variable(spec) for name, spec in block_arrays(plan).items()},
            "fwhm": {"type": "auxiliary", "dimensions": ["wavelength"], "unit": "nm"},
        },
    }


def _variable(spec: ArraySpec) -> dict[str, Any]:
    unit = {"unit": "1"} if spec.values == "reflectance" else {}
    nodata = {"nodata": spec.fill} if spec.values in ("reflectance", "scene") else {}
    return {"type": "data", "dimensions": list(spec.axes), **unit, "data_type": spec.dtype, **nodata}


def _sources(plan: Plan, model: Mapping[str, Any]) -> list[dict[str, str]]:
    """Links to the scenes and the model. Scenes without a URL are named by checksum, never by folder."""
    scene: Any = plan.settings.get("scene", {})
    scenes: list[Mapping[str, Any]] = [share.facts for share in plan.scenes] or [scene]
    links = []
    files = [{"name": each.get("name"), **file} for each in scenes for file in each.get("files", [each])]
    for each in files:
        known = {"sha256": str(each["sha256"])} if "sha256" in each else {"etag": str(each.get("etag"))}
        href = redact_url(str(each["url"])) if "url" in each else f"urn:spectile:scene:{each.get('sha256')}"
        said = {f"spectile:{name}": value for name, value in known.items()}
        links.append({"rel": "derived_from", "href": href, "title": str(each.get("name", "scene")), **said})
    title = str(model.get("name", "unknown"))
    digest = str(model.get("digest") or quote(title))
    links.append({"rel": "model", "href": f"urn:spectile:model:{digest}", "title": title})
    return links


def _pictures(storage: Storage) -> tuple[dict[str, dict[str, Any]], NDArray[np.bool_] | None]:
    """The assets beside a finished cube, and the valid pixels of the decimated cube."""
    assets: dict[str, dict[str, Any]] = {}
    valid = None
    png, cog = quicklook_names(storage.name)
    if (value := storage.parent.get(png)) is not None:
        # The picture is a figure with spectra, not a map.
        width, height = (int.from_bytes(value[at : at + 4], "big") for at in (16, 20))
        assets["quicklook"] = {
            **_file(png, value), "type": "image/png", "roles": ["overview"],
            "title": "True colour, colour infrared and six spectra",
            "proj:code": None, "proj:shape": [height, width],
        }  # fmt: skip
    if (value := storage.parent.get(cog)) is not None:
        with rasterio.open(BytesIO(value)) as dataset:
            valid = dataset.dataset_mask() > 0
            place = {"proj:shape": list(dataset.shape), "proj:transform": list(dataset.transform)[:6]}
        assets["true_colour"] = {
            **_file(cog, value), "type": COG_TYPE, "roles": ["visual"], "title": "True colour", **place,
        }  # fmt: skip
    name = report_name(storage.name)
    if (value := storage.parent.get(name)) is not None:
        assets["report"] = {
            **_file(name, value), "type": "text/html", "roles": ["metadata"],
            "title": "How it was made, and its quality",
        }  # fmt: skip
    return assets, valid


def _file(name: str, value: bytes) -> dict[str, Any]:
    # 1220 is the multihash prefix of a SHA-256.
    digest = hashlib.sha256(value).hexdigest()
    return {"href": quote(name), "file:size": len(value), "file:checksum": f"1220{digest}"}


def _footprint(grid: Grid, valid: NDArray[np.bool_] | None) -> dict[str, Any]:
    """The convex hull of the cells with valid pixels; the whole grid if they are unknown or all valid.

    Raises
    ------
    SceneError : the grid is not on the globe.
    """
    if valid is None or valid.all() or not valid.any():
        return footprints(grid, [grid.window])[0]
    step = max(1, -(-max(valid.shape) // _CELLS))
    rows, cols = (-(-size // step) for size in valid.shape)
    padded = np.zeros((rows * step, cols * step), dtype=bool)
    padded[: valid.shape[0], : valid.shape[1]] = valid
    cells: NDArray[np.bool_] = np.any(padded.reshape(rows, step, cols, step), axis=(1, 3))
    side = step * 2 ** round(np.log2(max(grid.shape) / max(valid.shape)))  # the cube's pixels along a cell
    windows = []
    for row in np.flatnonzero(cells.any(axis=1)):
        filled = np.flatnonzero(cells[row])
        for col in {filled[0], filled[-1]}:  # the hull needs only the first and the last cell of a row
            window = Window(int(row) * side, int(col) * side, side, side)
            windows.append(window.intersection(grid.window))
    parts = shapely.from_geojson([json.dumps(each) for each in footprints(grid, windows)])
    # The hull is computed separately on each side of the antimeridian.
    hulls = [
        shapely.convex_hull(shapely.union_all(half))
        for half in (shapely.intersection(parts, shapely.box(-180, -90, 0, 90)),
                     shapely.intersection(parts, shapely.box(0, -90, 180, 90)))
    ]  # fmt: skip
    pieces = [hull for hull in hulls if hull.geom_type == "Polygon"]
    if len(pieces) == 2 and not _split(parts):
        pieces = [shapely.convex_hull(shapely.union_all(parts))]
    drawn = shapely.orient_polygons(pieces[0] if len(pieces) == 1 else shapely.MultiPolygon(pieces))
    geometry: dict[str, Any] = json.loads(shapely.to_geojson(drawn))
    return geometry


def _split(parts: NDArray[Any]) -> bool:
    """Whether the parts meet at the antimeridian rather than at Greenwich."""
    west, _, east, _ = shapely.total_bounds(parts)
    return bool(east - west > 180)


def _bbox(geometry: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """(west, south, east, north) as in RFC 7946; west > east across the antimeridian."""
    shape = shapely.from_geojson(json.dumps(geometry))
    west, south, east, north = (float(side) for side in shapely.bounds(shape))
    parts = shapely.bounds(shapely.get_parts(shape))
    left, right = parts[parts[:, 2] < 180], parts[parts[:, 0] > -180]
    if west == -180 and east == 180 and len(parts) > 1 and len(left) and len(right):
        # Parts west of the antimeridian give the box its western edge, parts east of it the eastern edge.
        return float(right[:, 0].min()), south, float(left[:, 2].max()), north
    return west, south, east, north
