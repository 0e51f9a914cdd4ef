import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.placing import Placement, reduce_scene, resample, valid_at

UTM = CRS.from_epsg(32619).to_wkt()
NORTH_UP = Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000)
LINE = Grid((40, 50), NORTH_UP, UTM)
POINTS = np.array([0.5, 3.25, 39.5]), np.array([0.5, 7.75, 49.5])


@pytest.mark.parametrize("crs", [32619, 32618], ids=["one CRS", "two CRSs"])
def test_points_come_back_from_the_scene_to_the_line(crs):
    scene = Grid((30, 30), NORTH_UP @ Affine.rotation(20) @ Affine.scale(2), CRS.from_epsg(crs).to_wkt())
    placement = Placement(LINE, scene)
    assert placement.same_crs == (crs == 32619)
    back = placement.to_line(*placement.to_scene(*POINTS))
    np.testing.assert_allclose(back, POINTS, atol=1e-5)


def test_grids_that_are_one_differ_by_whole_pixels_to_the_bit():
    shifted = Grid((40, 50), NORTH_UP @ Affine.translation(-7, -3), UTM)
    rows, cols = Placement(LINE, shifted).to_scene(*POINTS)
    assert (rows == POINTS[0] + 3).all()
    assert (cols == POINTS[1] + 7).all()


def test_a_pixel_of_the_scene_is_measured_in_pixels_of_the_line():
    scene = Grid((30, 30), NORTH_UP @ Affine.scale(4, 2), UTM)
    assert Placement(LINE, scene).pixel == pytest.approx((2, 4))


def test_a_placement_travels_between_processes_without_what_it_has_worked_out():
    placement = Placement(LINE, LINE)
    assert placement.same_crs
    assert set(vars(Placement(LINE, LINE))) == set(placement.__getstate__())


def test_means_are_of_valid_pixels_and_need_half_of_them():
    rgb = np.arange(8, dtype=np.float32).reshape(1, 2, 4)
    mean, valid = reduce_scene(rgb, np.array([[1, 1, 0, 0], [1, 0, 0, 1]], dtype=bool), 2)
    assert mean[0].tolist() == [[pytest.approx(5 / 3), 7]]
    assert valid.tolist() == [[True, False]]


def test_a_point_is_valid_where_the_pixel_that_holds_it_is():
    valid = np.array([[True, False]])
    rows, cols = np.array([[0.5, 0.5, 0.5, -0.1]]), np.array([[0.9, 1.0, 2.0, 0.5]])
    assert valid_at(valid, rows, cols).tolist() == [[True, False, False, False]]


@pytest.mark.parametrize("method", ["bilinear", "cubic"])
def test_a_plane_is_resampled_exactly_and_masked_pixels_have_no_say(method):
    rows, cols = np.indices((9, 9), dtype=np.float32) + np.float32(0.5)
    plane = (2 * rows + 3 * cols)[None]
    valid = np.ones((9, 9), dtype=bool)
    at = np.array([[4.3, 4.9]]), np.array([[4.1, 4.6]])
    np.testing.assert_allclose(resample(plane, valid, *at, method)[0], 2 * at[0] + 3 * at[1], rtol=1e-6)
    flat = np.where(np.eye(9, dtype=bool), np.float32(np.nan), np.float32(7))[None]
    np.testing.assert_allclose(resample(flat, ~np.eye(9, dtype=bool), *at, method)[0], 7, rtol=1e-6)
