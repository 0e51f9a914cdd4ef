"""The common grid of a flight line: its CRS, resolution, frame and extent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from spectile.catalog.choices import Frame
from spectile.catalog.errors import UsageError
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.placing import Placement, to_map, transform_points
from spectile.pipeline.line.feather import Footprint

Bounds = tuple[float, float, float, float]

PIXEL_TOLERANCE = 1e-3
"""Part of a pixel by which a footprint may exceed the grid, because of rounding."""


def choose_grid(
    scenes: Sequence[tuple[Grid, Footprint]],
    *,
    crs: str | None = None,
    resolution: float | None = None,
    frame: Frame = "north-up",
    extent: Bounds | None = None,
) -> Grid:
    """The grid of a line.

    Parameters
    ----------
    crs : any name of a CRS; by default the scenes' common CRS, or the UTM zone of their centre.
    resolution : side of a pixel in units of the CRS; by default the finest of the scenes.
    frame : ``north-up`` has its edges at multiples of the resolution, so that the pixels of lines of one
        resolution coincide; ``line`` is the smallest rectangle around the footprints, rows along the line.
    extent : (x_min, y_min, x_max, y_max) in the CRS to cover instead of the footprints.

    Raises
    ------
    UsageError : unknown CRS, resolution not positive, or a scene without coordinates in the CRS.
    """
    wkt = _named(crs) if crs is not None else _common(scenes)
    points = [_outline(grid, footprint, wkt) for grid, footprint in scenes]
    if not np.isfinite(np.concatenate(points)).all():
        raise UsageError(
            "a scene has no coordinates in this CRS", got=f"--crs {crs}", remedy="choose another --crs"
        )
    side = resolution if resolution is not None else min(_side(grid, wkt) for grid, _ in scenes)
    if not (np.isfinite(side) and side > 0):
        raise UsageError("the resolution must be positive", got=f"--resolution {resolution}")
    corners = None if extent is None else np.array([(x, y) for x in extent[0::2] for y in extent[1::2]])
    if frame == "north-up":
        return _north_up(np.concatenate(points) if corners is None else corners, side, wkt)
    return _along(np.concatenate(points), corners, side, wkt)


def _named(crs: str) -> str:
    try:
        return str(CRS.from_user_input(crs).to_wkt())
    except CRSError as err:
        raise UsageError("unknown CRS", got=f"--crs {crs}", expected="e.g. EPSG:32633") from err


def _common(scenes: Sequence[tuple[Grid, Footprint]]) -> str:
    own = [CRS.from_wkt(grid.crs_wkt) for grid, _ in scenes]
    if all(crs == own[0] for crs in own):
        return scenes[0][0].crs_wkt
    from odc.geo.crs import CRS as MapCRS

    places = np.concatenate([_outline(grid, footprint, "EPSG:4326") for grid, footprint in scenes])
    places[:, 0] = _together(places[:, 0])
    longitude, latitude = (places.min(axis=0) + places.max(axis=0)) / 2
    longitude = (longitude + 180) % 360 - 180
    return str(CRS.from_epsg(MapCRS.utm(float(longitude), float(latitude)).epsg).to_wkt())


def _together(longitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitudes shifted by whole turns, so that both sides of the antimeridian are neighbours."""
    first = float(longitudes[0])
    return np.asarray(first + (longitudes - first + 180) % 360 - 180)


def _outline(grid: Grid, footprint: Footprint, wkt: str) -> NDArray[np.float64]:
    """(N, 2) x and y, in a CRS, of points around the valid area of a scene."""
    x, y = to_map(grid, *footprint.outline())
    if CRS.from_user_input(wkt) != CRS.from_wkt(grid.crs_wkt):
        try:
            x, y = transform_points(x, y, grid.crs_wkt, wkt)
        except RuntimeError as err:  # pyproj's errors have this class
            raise UsageError(
                "no transformation from a scene's CRS to the line's", got=str(err).partition("\n")[0],
                remedy="choose another --crs, or scenes of one CRS",
            ) from err  # fmt: skip
    return np.stack([x, y], axis=1)


def _side(grid: Grid, wkt: str) -> float:
    """Side of a square with the area of a scene's pixel, in units of a CRS."""
    transform = grid.transform
    if CRS.from_wkt(wkt) == CRS.from_wkt(grid.crs_wkt):
        if transform.b == transform.d == 0 and abs(transform.a) == abs(transform.e):
            return abs(transform.a)
        # Rotation changes the last digits; that must not make one scene finer than another.
        return float(f"{np.sqrt(abs(transform.determinant)):.12g}")
    height, width = Placement(Grid((1, 1), Affine.identity(), wkt), grid).pixel
    return float(f"{np.sqrt(height * width):.6g}")


def _north_up(points: NDArray[np.float64], side: float, wkt: str) -> Grid:
    from odc.geo.geobox import GeoBox

    (x_min, y_min), (x_max, y_max) = points.min(axis=0), points.max(axis=0)
    box = GeoBox.from_bbox(
        (float(x_min), float(y_min), float(x_max), float(y_max)), wkt, resolution=side, tol=PIXEL_TOLERANCE
    )
    return Grid((box.shape.y, box.shape.x), box.affine, wkt)


def _along(points: NDArray[np.float64], corners: NDArray[np.float64] | None, side: float, wkt: str) -> Grid:
    from odc.geo.geom import multipoint

    rectangle = multipoint([(float(x), float(y)) for x, y in points], crs=wkt).geom.minimum_rotated_rectangle
    ring = np.array(rectangle.exterior.coords)
    one, other = ring[1] - ring[0], ring[2] - ring[1]
    down = one if np.hypot(*one) >= np.hypot(*other) else other
    down = down / np.hypot(*down)
    if (down[1], -down[0]) > (0, 0):  # the first row is the northernmost; of a line due east, the westernmost
        down = -down
    right = np.array([-down[1], down[0]])
    covered = points if corners is None else corners
    across, along = covered @ right, covered @ down
    origin = across.min() * right + along.min() * down
    shape = tuple(max(1, int(np.ceil(np.ptp(reach) / side - PIXEL_TOLERANCE))) for reach in (along, across))
    affine = Affine(side * right[0], side * down[0], origin[0], side * right[1], side * down[1], origin[1])
    return Grid((shape[0], shape[1]), affine, wkt)
