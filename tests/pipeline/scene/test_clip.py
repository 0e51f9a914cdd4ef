"""Polygons from GeoJSON: placed to the pixel, and refused in one line where they are none."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform

from spectile.catalog.errors import UsageError
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.scene import clip as clips
from spectile.pipeline.scene.clip import read_clip

UTM = CRS.from_epsg(32619)
TURNED = Affine.translation(320_000, 4_881_000) @ Affine.rotation(20) @ Affine.scale(0.5, -0.5)
NORTH_UP = Affine.translation(320_000, 4_881_000) @ Affine.scale(0.5, -0.5)


def degrees(*points: tuple[float, float]) -> list[list[float]]:
    """A closed ring in longitude and latitude."""
    lon, lat = transform(UTM, "EPSG:4326", *zip(*points, points[0], strict=True))
    return [list(pair) for pair in zip(lon, lat, strict=True)]


RING = degrees((320_010, 4_880_990), (320_300, 4_880_900), (320_200, 4_880_500), (320_050, 4_880_700))
HOLE = degrees((320_100.1, 4_880_850), (320_150, 4_880_850), (320_150, 4_880_811))
POLYGON = {"type": "Polygon", "coordinates": [RING, HOLE]}


def written(folder: Path, document: object, name: str = "clip.geojson") -> str:
    (folder / name).write_text(document if isinstance(document, str) else json.dumps(document))
    return str(folder / name)


@pytest.mark.parametrize("affine", [NORTH_UP, TURNED])
def test_a_pixel_is_inside_where_its_centre_is_whatever_the_window(tmp_path, affine):
    grid = Grid((1300, 900), affine, UTM.to_wkt())
    clip = read_clip(written(tmp_path, POLYGON)).on(grid)
    whole = clip.inside(grid.window)
    rows, cols = np.indices(grid.shape) + 0.5
    x, y = affine @ (cols.ravel(), rows.ravel())
    lon, lat = transform(UTM, "EPSG:4326", x, y)
    expected = shapely.contains_xy(shapely.Polygon(RING, [HOLE]), lon, lat).reshape(grid.shape)
    # Pixels whose centre is a hundredth of a pixel from a side may go either way.
    assert (whole != expected).sum() < 20
    assert 0.05 < expected.mean() < 0.5
    assert (whole | ~expected).mean() > 0.9999
    for window in (Window(100, 37, 512, 600), Window(511, 511, 3, 2), clip.window):
        np.testing.assert_array_equal(clip.inside(window), whole[window.slices])
    for side in (16, 64, 512):
        met = clip.squares(grid.window, side).repeat(side, axis=0).repeat(side, axis=1)[:1300, :900]
        assert (met | ~whole).all(), "no pixel lies in a square that is left out"
        assert met.mean() < whole.mean() + 0.7 * side / 100
    held = np.argwhere(whole)
    assert clip.window.contains(Window(*held.min(axis=0), *(np.ptp(held, axis=0) + 1)))
    again = pickle.loads(pickle.dumps(clip))
    np.testing.assert_array_equal(again.inside(clip.window), whole[clip.window.slices])


def test_long_sides_are_straight_in_their_own_crs(tmp_path):
    grid = Grid((40_000, 40_000), Affine(10, 0, 300_000, 0, -10, 5_400_000), UTM.to_wkt())
    ring = [[-71, 46], [-67, 46], [-67, 48], [-71, 48], [-71, 46]]
    clip = read_clip(written(tmp_path, {"type": "Polygon", "coordinates": [ring]})).on(grid)
    for lon in (-70.5, -69, -67.7):  # the parallel bends by kilometres
        (x,), (y,) = transform("EPSG:4326", UTM, [lon], [46.0])
        col, row = ~grid.transform @ (x, y)
        column = clip.inside(Window(int(row) - 3, int(col), 7, 1))[:, 0]
        assert column.tolist()[:3] == [True] * 3
        assert column.tolist()[4:] == [False] * 3


def test_the_same_area_has_one_digest_however_it_is_written(tmp_path):
    feature = {"type": "Feature", "properties": {"a": None}, "geometry": POLYGON}
    multi = {"type": "MultiPolygon", "coordinates": [[RING, HOLE]], "bbox": [1, 2, 3, 4]}
    high = {"type": "Polygon", "coordinates": [[[*point, 12.5] for point in ring] for ring in (RING, HOLE)]}
    named = {**POLYGON, "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}}
    same = [POLYGON, feature, {"type": "FeatureCollection", "features": [feature]}, multi, high, named,
            json.dumps(POLYGON, indent=7)]  # fmt: skip
    found = [read_clip(written(tmp_path, each, f"{at}.json")) for at, each in enumerate(same)]
    assert len({each.digest for each in found}) == 1
    other = read_clip(written(tmp_path, {"type": "Polygon", "coordinates": [RING]}))
    assert other.digest != found[0].digest


def test_the_whole_earth_holds_every_pixel(tmp_path):
    ring = [[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]
    grid = Grid((600, 500), TURNED, UTM.to_wkt())
    clip = read_clip(written(tmp_path, {"type": "Polygon", "coordinates": [ring]})).on(grid)
    assert clip.window == grid.window
    assert clip.inside(grid.window).all()


def test_an_old_file_names_its_crs_and_overlaps_are_one_area(tmp_path):
    grid = Grid((100, 100), NORTH_UP, UTM.to_wkt())

    def square(x: float, y: float) -> list[list[list[float]]]:
        return [[[x, y], [x + 20, y], [x + 20, y - 20], [x, y - 20], [x, y]]]

    document = {
        "type": "MultiPolygon", "coordinates": [square(320_010, 4_880_990), square(320_020, 4_880_980)],
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32619"}},
    }  # fmt: skip
    inside = read_clip(written(tmp_path, document)).on(grid).inside(grid.window)
    expected = np.zeros((100, 100), dtype=bool)
    expected[20:60, 20:60] = expected[40:80, 40:80] = True
    np.testing.assert_array_equal(inside, expected)


TWIST = [[0, 0], [2, 1], [1, 0], [0, 1], [0, 0]]
SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ("", "not GeoJSON"),
        ("{", "not GeoJSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"type": "Polygon", "coordinates": ' + "[" * 50_000 + "]" * 50_000 + "}", "nested too deep"),
        ([], "not a polygon"),
        ({"type": "Point", "coordinates": [1, 2]}, "not a polygon (got Point"),
        ({"type": "Feature", "geometry": None}, "not a polygon"),
        ({"type": "Feature", "geometry": {"type": "Feature", "geometry": POLYGON}}, "not a polygon"),
        ({"type": "FeatureCollection", "features": []}, "holds no polygon"),
        ({"type": "FeatureCollection", "features": [POLYGON]}, "not a polygon"),
        ({"type": "Polygon"}, "the polygon is empty"),
        ({"type": "Polygon", "coordinates": []}, "the polygon is empty"),
        ({"type": "MultiPolygon", "coordinates": [[]]}, "the polygon is empty"),
        ({"type": "MultiPolygon", "coordinates": []}, "holds no polygon"),
        ({"type": "Polygon", "coordinates": [[]]}, "not closed"),
        ({"type": "Polygon", "coordinates": [RING[:-1]]}, "not closed (got 4 points"),
        ({"type": "Polygon", "coordinates": [RING[:2]]}, "not closed"),
        ({"type": "Polygon", "coordinates": [["ab", "cd"]]}, "no pair of numbers"),
        ({"type": "Polygon", "coordinates": [[[True, 1]] * 4]}, "no pair of numbers"),
        ({"type": "Polygon", "coordinates": [[[10**400, 1]] * 4]}, "no pair of numbers"),
        ({"type": "Polygon", "coordinates": [5]}, "no pair of numbers"),
        ('{"type": "Polygon", "coordinates": [[[NaN, 1]]]}', "not GeoJSON"),
        ('{"type": "Polygon", "coordinates": [[[1e999, 1]]]}', "not GeoJSON"),
        ({"type": "Polygon", "coordinates": [[[1, 2]] * 4]}, "no area"),
        ({"type": "Polygon", "coordinates": [[[320000, 4881000]] * 4]}, "not in longitude and latitude"),
        ({**POLYGON, "crs": {"type": "link", "properties": {"href": "http://a"}}}, "CRS of the polygon is"),
        ({**POLYGON, "crs": {"properties": {"name": "/etc/passwd"}}}, "CRS of the polygon is unclear"),
        ({**POLYGON, "crs": {"properties": {"name": "EPSG:999999"}}}, "not a CRS that can be used"),
        ({"type": "Polygon", "coordinates": [TWIST]}, "the sides of the polygon cross (got Self-"),
        ({"type": "Polygon", "coordinates": [SQUARE]}, "does not meet the scene"),
    ],
)  # fmt: skip
def test_what_is_no_polygon_is_refused_in_one_line(tmp_path, document, line):
    grid = Grid((1300, 900), NORTH_UP, UTM.to_wkt())
    with pytest.raises(UsageError) as refused:
        read_clip(written(tmp_path, document)).on(grid)
    assert line in str(refused.value)
    assert len(str(refused.value)) < 400


def test_files_that_are_none_or_too_large_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="cannot be read"):
        read_clip(str(tmp_path / "none.geojson"))
    with pytest.raises(UsageError, match="not a file"):
        read_clip(str(tmp_path))
    place = written(tmp_path, POLYGON)
    monkeypatch.setattr(clips, "MOST_POINTS", 5)
    with pytest.raises(UsageError, match="too many points"):
        read_clip(place)
    monkeypatch.setattr(clips, "MOST_BYTES", 50)
    with pytest.raises(UsageError, match="too large"):
        read_clip(place)
