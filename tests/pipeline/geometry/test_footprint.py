import json

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import Geod, Proj, Transformer
from rasterio.crs import CRS

from spectile.catalog.errors import SceneError
from spectile.pipeline.geometry.footprint import TOLERANCE, footprints
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.tiling import blocks


def grid_of(crs: str, bounds: tuple[float, float, float, float], pixel: float, degrees: float = 0.0) -> Grid:
    x_min, y_min, x_max, y_max = bounds
    shape = round((y_max - y_min) / pixel), round((x_max - x_min) / pixel)
    affine = Affine.translation(x_min, y_max) @ Affine.rotation(degrees) @ Affine.scale(pixel, -pixel)
    return Grid(shape, affine, CRS.from_user_input(crs).to_wkt())


def read(geometry: dict) -> shapely.Geometry:
    return shapely.from_geojson(json.dumps(geometry))


def on_the_map(geometry: dict, crs: str) -> shapely.Geometry:
    """The polygon in a CRS, by pyproj alone."""
    back = Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform
    return shapely.union_all([
        shapely.transform(part, lambda xy: np.stack(back(*xy.T), axis=1))
        for part in shapely.get_parts(read(geometry))
    ])  # fmt: skip


def there_of(points: np.ndarray, crs: str) -> np.ndarray:
    """Longitude and latitude of points, by pyproj alone."""
    return np.stack(Transformer.from_crs(crs, "OGC:CRS84", always_xy=True).transform(*points.T), axis=1)


def corners(grid: Grid, window: Window) -> np.ndarray:
    """(4, 2) x and y, upper left corner first, down its left side."""
    at = [(0, 0), (0, 1), (1, 1), (1, 0)]
    return np.array([
        grid.transform @ (window.col + right * window.width, window.row + down * window.height)
        for right, down in at
    ])  # fmt: skip


def check_rfc_7946(geometry: dict) -> None:
    assert set(geometry) == {"type", "coordinates"}
    assert geometry["type"] in ("Polygon", "MultiPolygon")
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    assert len(polygons) > (geometry["type"] == "MultiPolygon")
    for polygon in polygons:
        (ring,) = (np.array(each) for each in polygon)
        assert ring.shape[0] >= 4
        assert ring.shape[1] == 2
        assert (ring[0] == ring[-1]).all()
        assert (np.abs(ring) <= (180, 90)).all()
        x, y = ring.T
        assert np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) > 0, "counterclockwise"
    assert read(geometry).is_valid


@pytest.mark.parametrize(
    ("crs", "degrees"),
    [("EPSG:32633", 0.0), ("EPSG:32633", 31.0), ("EPSG:2193", -120.0), ("EPSG:4326", 10.0)],
)
def test_corners_are_where_pyproj_has_them(crs, degrees):
    degrees_wide = (10.0, 50.0, 10.01, 50.02)
    metres_wide = (1_500_000, 4_880_000, 1_500_500, 4_880_300)
    flat = crs == "EPSG:4326"
    grid = grid_of(crs, degrees_wide if flat else metres_wide, 1e-5 if flat else 0.5, degrees)
    windows = [grid.window, Window(7, 100, 400, 333)]
    for window, geometry in zip(windows, footprints(grid, windows), strict=True):
        check_rfc_7946(geometry)
        expected = there_of(corners(grid, window), crs)
        ring = np.array(geometry["coordinates"][0])
        assert len(ring) == 5, "nothing is bent here by a tenth of a pixel"
        distance = np.abs(ring[:-1, None] - expected[None]).max(axis=2).min(axis=0)
        assert distance.max() < 1e-8


def test_a_grid_whose_rows_run_up_the_map_is_the_same_place():
    down = grid_of("EPSG:32633", (5e5, 48e5, 5e5 + 600, 48e5 + 400), 2.0)
    up = Grid(down.shape, Affine(2.0, 0, 5e5, 0, 2.0, 48e5), down.crs_wkt)
    one, other = (footprints(grid, [grid.window])[0] for grid in (down, up))
    check_rfc_7946(other)
    assert read(one).normalize() == read(other).normalize()


@pytest.mark.parametrize("degrees", [0.0, 23.0])
def test_a_bent_side_is_followed_to_a_tenth_of_a_pixel(degrees):
    grid = grid_of("EPSG:32633", (400_000, 6_600_000, 461_440, 6_661_440), 30.0, degrees)
    (geometry,) = footprints(grid, [grid.window])
    check_rfc_7946(geometry)
    drawn = shapely.segmentize(read(geometry), 0.002)  # as a GIS draws it: straight in degrees
    back = Transformer.from_crs("OGC:CRS84", "EPSG:32633", always_xy=True).transform
    points = np.stack(back(*shapely.get_coordinates(drawn).T), axis=1)
    outline = shapely.Polygon(corners(grid, grid.window)).exterior
    off = np.array([outline.distance(shapely.Point(point)) for point in points]) / 30.0
    assert off.max() < 2 * TOLERANCE
    straight = shapely.Polygon(there_of(corners(grid, grid.window), "EPSG:32633"))
    missed = straight.symmetric_difference(read(geometry)).area / straight.area
    assert missed > 1e-3, "straight sides would miss it"


@pytest.mark.parametrize("degrees", [0.0, -37.0])
@pytest.mark.parametrize("pixel", [0.5, 30.0])
def test_blocks_tile_the_window_without_gap_or_overlap(pixel, degrees):
    grid = grid_of("EPSG:32633", (4e5, 66e5, 4e5 + 2500 * pixel, 66e5 + 1700 * pixel), pixel, degrees)
    window = Window(100, 200, 1500, 2100)
    found = footprints(grid, [block.window for block in blocks(window, 512)])
    assert len(found) == 15
    for polygons in ([on_the_map(each, "EPSG:32633") for each in found], [read(each) for each in found]):
        total = sum(each.area for each in polygons)
        assert shapely.union_all(polygons).area == pytest.approx(total, rel=1e-7)
        if polygons[0].area > 1e3:  # in metres
            assert total == pytest.approx(window.size * pixel**2, rel=1e-6)
            outline = shapely.Polygon(corners(grid, window))
            assert outline.symmetric_difference(shapely.union_all(polygons)).area < 1e-6 * total


@pytest.mark.parametrize(
    ("crs", "bounds", "pixel"),
    [
        ("EPSG:32601", (250_000, 6e6, 350_000, 6.1e6), 50.0),
        ("EPSG:32660", (640_000, 6e6, 740_000, 6.1e6), 50.0),
        ("EPSG:32760", (640_000, 4e6, 740_000, 4.1e6), 50.0),
        ("EPSG:3832", (3e6, -1e6, 4e6, 1e6), 1000.0),
        ("EPSG:4326", (179.0, 10.0, 181.0, 11.0), 0.01),
        ("EPSG:4326", (-181.0, 10.0, -179.0, 11.0), 0.01),
    ],
)
def test_the_antimeridian_cuts(crs, bounds, pixel):
    grid = grid_of(crs, bounds, pixel)
    (geometry,) = footprints(grid, [grid.window])
    check_rfc_7946(geometry)
    assert geometry["type"] == "MultiPolygon"
    spans = [part.bounds[2] - part.bounds[0] for part in shapely.get_parts(read(geometry))]
    assert max(spans) < 60
    if crs == "EPSG:4326":
        assert read(geometry).area == pytest.approx(2.0)
    else:
        assert on_the_map(geometry, crs).area == pytest.approx(grid.window.size * pixel**2, rel=1e-5)


@pytest.mark.parametrize("bounds", [(170.0, 10.0, 180.0, 11.0), (-180.0, 10.0, -170.0, 11.0)])
def test_a_side_on_the_antimeridian_leaves_no_sliver(bounds):
    (geometry,) = footprints(grid_of("EPSG:4326", bounds, 0.1), [Window(0, 0, 10, 100)])
    check_rfc_7946(geometry)
    assert geometry["type"] == "Polygon"
    assert read(geometry).bounds == bounds


def test_a_projected_side_on_the_antimeridian_leaves_no_sliver():
    half = 20037508.342789244
    grid = grid_of("EPSG:3857", (0, 0, half, half), half / 1000)
    (geometry,) = footprints(grid, [Window(900, 500, 100, 500)])
    check_rfc_7946(geometry)
    assert geometry["type"] == "Polygon"
    assert read(geometry).bounds[::2] == (pytest.approx(90), 180)


@pytest.mark.parametrize("first", [-180.0, 0.0, 100.0])
def test_the_whole_globe_is_the_whole_globe(first):
    grid = grid_of("EPSG:4326", (first, -90.0, first + 360, 90.0), 0.5)
    (geometry,) = footprints(grid, [grid.window])
    check_rfc_7946(geometry)
    assert read(geometry).area == pytest.approx(360 * 180)
    found = footprints(grid, [block.window for block in blocks(grid.window, 512)])
    assert sum(read(each).area for each in found) == pytest.approx(360 * 180)


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3031"])
@pytest.mark.parametrize("bounds", [(-1e5, -1e5, 1e5, 1e5), (0, 0, 1e5, 1e5), (-1e5, -2e5, 1e5, 0)])
def test_a_pole_is_held(crs, bounds):
    pole = 90.0 if crs == "EPSG:3413" else -90.0
    grid = grid_of(crs, bounds, 100.0)
    (geometry,) = footprints(grid, [grid.window])
    check_rfc_7946(geometry)
    shape = read(geometry)
    assert abs(shape.bounds[3 if pole > 0 else 1]) == 90
    scale = Proj(crs).get_factors(0.0, pole * 0.999).areal_scale
    area = sum(Geod(ellps="WGS84").geometry_area_perimeter(part)[0] for part in shapely.get_parts(shape))
    assert area == pytest.approx(grid.window.size * 100.0**2 / scale, rel=2e-3)


def test_a_grid_that_is_nowhere_is_refused():
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    with pytest.raises(SceneError, match="cannot be placed on the globe"):
        footprints(Grid((10, 10), Affine.identity(), local), [Window(0, 0, 10, 10)])
    beyond = grid_of("EPSG:3035", (1e9, 1e9, 1e9 + 100, 1e9 + 100), 1.0)
    with pytest.raises(SceneError, match="beyond where the CRS is defined"):
        footprints(beyond, [beyond.window])


def test_no_window_has_no_footprint():
    assert footprints(grid_of("EPSG:32633", (0, 0, 10, 10), 1.0), []) == []
