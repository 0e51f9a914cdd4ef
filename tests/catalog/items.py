"""Facts of cubes that were never made, for tests of the catalog."""

from __future__ import annotations

from typing import Any

from spectile.catalog.stac.items import COG_TYPE, ZARR_TYPE, Facts
from spectile.catalog.times import parse_span


def made_up(
    name: str = "scene",
    *,
    bbox: tuple[float, float, float, float] = (10.0, 50.0, 10.1, 50.1),
    taken: str | None = "2024-06-01T10:30:00Z",
    model: str = "vnir48",
    status: str = "complete",
    wavelength: tuple[float, float] = (380.0, 1050.0),
    geometry: dict[str, Any] | None = None,
) -> Facts:
    west, south, east, north = bbox
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return Facts(
        name=name,
        geometry=geometry or {"type": "Polygon", "coordinates": [ring]},
        bbox=bbox,
        properties={
            "proj:code": "EPSG:32632",
            "gsd": 0.5,
            "spectile:status": status,
            "spectile:model": model,
            "spectile:model_digest": "0" * 64,
            "spectile:digest": "1" * 64,
            "spectile:samples": 1,
            "spectile:layers": [],
            "spectile:bands": 48,
            "spectile:wavelength_min": wavelength[0],
            "spectile:wavelength_max": wavelength[1],
        },
        assets={
            "cube": {"href": f"{name}.zarr", "type": ZARR_TYPE, "title": "cube", "roles": ["data"]},
            "true_colour": {"href": f"{name}.tif", "type": COG_TYPE, "title": "COG", "roles": ["visual"]},
        },
        links=[{"rel": "derived_from", "href": "urn:spectile:scene:2222", "title": "scene.tif"}],
        taken=None if taken is None else parse_span(taken),
    )
