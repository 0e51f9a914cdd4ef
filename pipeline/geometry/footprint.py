"""Windows of a grid as polygons on the globe, in GeoJSON (RFC 7946)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from spectile.catalog.errors import SceneError
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.placing import to_map, transform_points

TOLERANCE = 0.1
"""Largest distance of a drawn side from the true, curved side, pixels."""
MOST_SEGMENTS = 64
"""Most straight pieces of a side; sides near a pole would need any number."""
DECIMALS = 9
"""Decimals of longitude and latitude, about a tenth of a millimetre."""

Degrees = NDArray[np.float64]


def footprints(grid: Grid, windows: Sequence[Window]) -> list[dict[str, Any]]:
    """The GeoJSON geometry of each window: a Polygon, or a MultiPolygon where the antimeridian cuts it.

    Longitude and latitude in degrees on WGS 84; rings run counterclockwise. Sides that are curved in the CRS
    get points between their corners. All windows get the same number, so that neighbours share the points of
    their common side.

    Raises
    ------
    SceneError : a point of a window has no longitude and latitude, or a window has no area.
    """
    if not windows:
        return []
    pieces = 1
    while True:
        # Twice as many points as are kept: the others measure how far the pieces are from the curve.
        lon, lat = _outlines(grid, windows, 2 * pieces)
        if pieces >= MOST_SEGMENTS or _straight(lon, lat, windows):
            return [_geometry(*ring) for ring in zip(lon[:, ::2], lat[:, ::2], strict=True)]
        pieces *= 2


def _outlines(grid: Grid, windows: Sequence[Window], pieces: int) -> tuple[Degrees, Degrees]:
    """Longitude and latitude, (N, 4·pieces + 1), of closed rings that run counterclockwise in the CRS."""
    ahead = np.arange(pieces) / pieces
    still, back = np.zeros(pieces), 1 - ahead
    down = np.concatenate([ahead, still + 1, back, still, [0.0]])
    right = np.concatenate([still, ahead, still + 1, back, [0.0]])
    if grid.transform.determinant > 0:  # rows run up the map
        down, right = right, down
    at = np.array([(w.row, w.col, w.height, w.width) for w in windows], dtype=np.float64)[:, :, None]
    x, y = to_map(grid, at[:, 0] + at[:, 2] * down, at[:, 1] + at[:, 3] * right)
    try:
        lon, lat = transform_points(x, y, grid.crs_wkt, "OGC:CRS84")
    except RuntimeError as err:  # pyproj's error: no way from this CRS to the globe
        raise _nowhere(str(err).partition("\n")[0]) from err
    if not (np.isfinite(lon) & np.isfinite(lat)).all():
        raise _nowhere("points beyond where the CRS is defined")
    return lon, lat


def _nowhere(got: str) -> SceneError:
    return SceneError(
        "the grid cannot be placed on the globe", got=got, expected="a CRS with longitude and latitude",
        remedy="assign the right CRS, e.g. rio edit-info --crs EPSG:…",
    )  # fmt: skip


def _straight(lon: Degrees, lat: Degrees, windows: Sequence[Window]) -> bool:
    """Whether every other point lies within TOLERANCE of the middle of those beside it."""
    lon = np.unwrap(lon, period=360, axis=1)
    wide = np.diff(lon[:, ::2], axis=1)
    off = [line[:, 1::2] - (line[:, :-2:2] + line[:, 2::2]) / 2 for line in (lon, lat)]
    scale = np.cos(np.radians(lat[:, 1::2]))
    length = np.hypot(wide * scale, np.diff(lat[:, ::2], axis=1))
    pieces = length.shape[1] // 4
    sides = np.array([max(window.shape) for window in windows])[:, None] / pieces  # pixels
    near = np.hypot(off[0] * scale, off[1]) * sides <= TOLERANCE * length
    # Between longitudes half the globe apart, the direction of the side is undefined.
    return bool((near & (np.abs(wide) < 120)).all())


def _geometry(lon: Degrees, lat: Degrees) -> dict[str, Any]:
    """The polygon of a closed ring, cut at the antimeridian."""
    pole = np.flatnonzero(np.abs(lat[:-1]) > 90 - 1e-9)
    if len(pole) == 1:  # a pole has no longitude: begin and end beside it
        lon, lat = (np.roll(line[:-1], -pole[0])[1:] for line in (lon, lat))
    lon = np.unwrap(lon, period=360)
    turn = lon[-1] - lon[0]
    if abs(turn) > 1e-6:
        # The ring runs around a pole (eastward: the north pole), so the polygon includes the pole.
        top = np.copysign(90.0, turn)
        lon, lat = np.append(lon, lon[[-1, 0]]), np.append(lat, [top, top])
    ring = shapely.Polygon(np.stack([lon, lat], axis=1))
    # A side on the antimeridian may differ from it in the last digits.
    first = int(np.floor((lon.min() + 180 + 1e-9) / 360))
    last = int(np.ceil((lon.max() + 180 - 1e-9) / 360))
    parts = []
    for turns in range(first, last):
        part = shapely.intersection(ring, shapely.box(360 * turns - 180, -90, 360 * turns + 180, 90))
        parts += [
            _moved(polygon, turns) for polygon in shapely.get_parts(part) if polygon.geom_type == "Polygon"
        ]
    # Two parts of a ring around the globe may share a side; a MultiPolygon must not have that.
    outline = shapely.orient_polygons(shapely.union_all(parts))
    if outline.is_empty:
        raise _nowhere("an area of nothing")
    geometry: dict[str, Any] = json.loads(shapely.to_geojson(outline))
    return geometry


def _moved(polygon: shapely.Polygon, turns: int) -> shapely.Polygon:
    """The polygon moved west by whole turns of 360°, rounded."""
    moved: shapely.Polygon = shapely.transform(
        polygon, lambda points: np.round(points - (360 * turns, 0), DECIMALS)
    )
    return moved
