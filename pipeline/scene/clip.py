"""A polygon from a GeoJSON file, which may come from anybody."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shapely

from spectile.catalog.errors import UsageError
from spectile.catalog.stac.documents import parse_json
from spectile.catalog.urls import locate
from spectile.pipeline.geometry.clip import Area
from spectile.pipeline.store.base import read_bounded
from spectile.pipeline.store.opening import open_storage

MOST_BYTES = 20_000_000
"""Bytes of a file at most."""
MOST_POINTS = 500_000
"""Points of all polygons at most."""
LON_LAT = "OGC:CRS84"
"""Longitude and latitude on WGS 84, the CRS of GeoJSON (RFC 7946)."""

_CRS = re.compile(r"(?:urn:(?:x-)?ogc:def:crs:)?(EPSG|OGC):[0-9.]*:?([A-Za-z0-9]+)", re.IGNORECASE)
"""Names of a CRS in the form of the GeoJSON of 2008. No other: GDAL would open a path or a URL."""

Ring = list[tuple[float, float]]


def read_clip(place: str) -> Area:
    """The area of a GeoJSON file: a Polygon, a MultiPolygon, or features of them, all together.

    Longitude and latitude, unless the file has a member ``crs`` as before RFC 7946.

    Parameters
    ----------
    place : a path, or s3:// or gs://.

    Raises
    ------
    UsageError : the file is missing, too large or no such GeoJSON; a polygon has no area or crosses itself.
    StoreError : the store cannot be read.
    """
    where, name = locate(place), place.rpartition("/")[2]
    try:
        if isinstance(where, Path):
            value: bytes | None = read_bounded(where, MOST_BYTES)
        else:
            storage = open_storage(place)
            value = storage.parent.get_bounded(storage.name, MOST_BYTES)
    except (OSError, ValueError) as err:
        raise UsageError("the polygon cannot be read", where=place,
                         got=getattr(err, "strerror", None) or str(err)) from err  # fmt: skip
    if value is None:
        raise UsageError("the polygon cannot be read", where=place, got="no such file")
    document = parse_json(value, place, what="not GeoJSON")
    crs = _crs_of(document, name)
    polygons = [_rings(rings, name) for rings in _polygons(document, name)]
    if not polygons:
        raise UsageError("the file holds no polygon", where=name)
    points = [point for rings in polygons for ring in rings for point in ring]
    if len(points) > MOST_POINTS:
        raise UsageError("the polygon has too many points", where=name, got=len(points),
                         expected=f"up to {MOST_POINTS}", remedy="simplify it")  # fmt: skip
    if crs == LON_LAT and (far := next((each for each in points if not _on_globe(each)), None)):
        raise UsageError(
            "the polygon is not in longitude and latitude", where=name, got="{:.10g}, {:.10g}".format(*far),
            remedy="write it in EPSG:4326, or with its member crs",
        )  # fmt: skip
    parts = tuple(_sound(rings, name) for rings in polygons)
    digest = hashlib.sha256(json.dumps([crs, polygons]).encode()).hexdigest()
    return Area(parts, crs, digest, name)


def _sound(rings: list[Ring], name: str) -> shapely.Polygon:
    polygon = shapely.Polygon(rings[0], rings[1:])
    if not polygon.envelope.area > 0:
        raise UsageError("the polygon has no area", where=name)
    if not polygon.is_valid:  # to mend one of 300 points at random takes minutes
        raise UsageError("the sides of the polygon cross", where=name, got=shapely.is_valid_reason(polygon),
                         remedy="mend it, e.g. with Fix geometries in QGIS")  # fmt: skip
    return polygon


def _on_globe(point: tuple[float, float]) -> bool:
    return abs(point[0]) <= 360 and abs(point[1]) <= 90


def _crs_of(document: Any, name: str) -> str:
    member = document.get("crs") if isinstance(document, dict) else None
    if member is None:
        return LON_LAT
    properties = member.get("properties") if isinstance(member, dict) else None
    said = properties.get("name") if isinstance(properties, dict) else None
    found = _CRS.fullmatch(said) if isinstance(said, str) else None
    if found is None:
        raise UsageError("the CRS of the polygon is unclear", where=name, got=str(said)[:80],
                         expected="e.g. urn:ogc:def:crs:EPSG::32633")  # fmt: skip
    crs = f"{found[1]}:{found[2]}".upper()
    # Whatever the authority says of its axes, GeoJSON has longitude first.
    return LON_LAT if crs == "EPSG:4326" else crs


def _polygons(document: Any, name: str) -> Iterator[Any]:
    """The rings of each polygon, as they are written."""
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "FeatureCollection" and isinstance(document.get("features"), list):
        for feature in document["features"]:
            if not isinstance(feature, dict) or feature.get("type") != "Feature":
                raise _no_polygon(name, "a collection of what is no feature")
            yield from _polygons(feature, name)
    elif kind == "Feature" and isinstance(document.get("geometry"), dict):
        if document["geometry"].get("type") not in ("Polygon", "MultiPolygon"):
            raise _no_polygon(name, document["geometry"].get("type"))
        yield from _polygons(document["geometry"], name)
    elif kind == "Polygon":
        yield document.get("coordinates")
    elif kind == "MultiPolygon" and isinstance(document.get("coordinates"), list):
        yield from document["coordinates"]
    else:
        raise _no_polygon(name, kind)


def _no_polygon(name: str, kind: object) -> UsageError:
    return UsageError("not a polygon", where=name, got=str(kind)[:80],
                      expected="GeoJSON: Polygon, MultiPolygon, or features of them")  # fmt: skip


def _rings(written: Any, name: str) -> list[Ring]:
    """The closed rings of a polygon, the outer one first."""
    if not isinstance(written, list) or not written:
        raise UsageError("the polygon is empty", where=name)
    return [_ring(ring, name) for ring in written]


def _ring(written: Any, name: str) -> Ring:
    try:
        ring = [(_number(position[0]), _number(position[1])) for position in written]
    except (TypeError, KeyError, IndexError, OverflowError, ValueError) as err:
        raise UsageError("the polygon has a point that is no pair of numbers", where=name) from err
    if len(ring) < 4 or ring[0] != ring[-1]:
        raise UsageError("a ring of the polygon is not closed", where=name, got=f"{len(ring)} points",
                         expected="four or more, the last as the first")  # fmt: skip
    return ring


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number
