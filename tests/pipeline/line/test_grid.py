import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from spectile.catalog.errors import UsageError
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.line.feather import Footprint
from spectile.pipeline.line.grid import choose_grid

UTM = CRS.from_epsg(32619).to_wkt()


def scene(
    x: float, y: float, *, side: float = 0.5, turn: float = 0, wkt: str = UTM
) -> tuple[Grid, Footprint]:
    """A scene of 40 × 60 px, valid everywhere."""
    transform = Affine.translation(x, y) @ Affine.rotation(turn) @ Affine.scale(side, -side)
    valid = np.ones((40, 60), dtype=bool)
    return Grid(valid.shape, transform, wkt), Footprint(valid.shape, 1, valid, valid)


def test_a_line_covers_its_scenes_on_multiples_of_the_finest_pixel():
    grid = choose_grid([scene(320_000.3, 4_881_000), scene(320_020, 4_881_010, side=0.25)])
    assert grid.transform.a == -grid.transform.e == 0.25
    x_min, y_min, x_max, y_max = grid.bounds
    assert x_min <= 320_000.3 < 320_035 <= x_max
    assert y_min <= 4_880_980 < 4_881_010 <= y_max
    assert all((side / 0.25) % 1 == 0 for side in grid.bounds)


def test_lines_of_one_resolution_share_their_pixels():
    one = choose_grid([scene(320_000.3, 4_881_000.1)], resolution=0.5)
    other = choose_grid([scene(320_777.7, 4_881_555.5)], resolution=0.5)
    shift = (other.transform.c - one.transform.c) / 0.5, (other.transform.f - one.transform.f) / 0.5
    assert all(part == round(part) for part in shift)


def test_the_frame_of_a_line_lies_along_it_with_the_north_first():
    turned = scene(320_000, 4_881_000, turn=30)
    grid = choose_grid([turned], frame="line")
    assert sorted(grid.shape) == [40, 60]
    assert grid.shape[0] == 60, "rows run along the line"
    assert grid.transform.determinant < 0, "it is not mirrored"
    assert grid.transform.e < 0, "the first row is the northernmost"
    np.testing.assert_allclose(grid.bounds, turned[0].bounds, atol=1e-6)


def test_scenes_of_two_crss_meet_in_the_zone_of_their_middle():
    degrees = CRS.from_epsg(4326).to_wkt()
    both = [scene(-69.0, 44.0, side=1e-5, wkt=degrees), scene(499_000, 4_871_000)]
    assert CRS.from_wkt(choose_grid(both).crs_wkt).to_epsg() == 32619
    across = [
        scene(179.999, 10, side=1e-5, wkt=degrees),
        scene(800_000, 1_106_000, wkt=CRS.from_epsg(32660).to_wkt()),
    ]
    assert CRS.from_wkt(choose_grid(across).crs_wkt).to_epsg() in (32660, 32601)


def test_an_extent_is_covered_in_place_of_the_footprints():
    extent = (320_001.0, 4_880_990.0, 320_011.0, 4_881_000.0)
    assert choose_grid([scene(320_000, 4_881_000)], extent=extent).bounds == extent


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"crs": "EPSG:0"}, "unknown CRS"),
        ({"resolution": 0.0}, "resolution must be positive"),
        ({"resolution": float("nan")}, "resolution must be positive"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(options, why):
    with pytest.raises(UsageError, match=why):
        choose_grid([scene(320_000, 4_881_000)], **options)
