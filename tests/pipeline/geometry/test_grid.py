import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from spectile.pipeline.geometry.grid import Grid, Window

ROTATED = Affine.translation(500_000, 4_100_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)


def test_a_slice_of_a_grid_keeps_its_place_on_a_rotated_map():
    grid = Grid((100, 80), ROTATED, "EPSG:32619")
    part = grid[Window(10, 20, 30, 40)]
    assert part.shape == (30, 40)
    assert part.transform @ (3, 4) == pytest.approx(grid.transform @ (23, 14))
    assert not grid.is_axis_aligned


@given(
    st.integers(0, 60), st.integers(0, 60), st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, -1])
)
def test_the_bounds_of_a_window_lead_back_to_the_window(row, col, height, width, up):
    grid = Grid((100, 100), Affine(0.1, 0, 320_000, 0, -0.1 * up, 4_881_000), "EPSG:32619")
    window = Window(row, col, height, width)
    assert grid.window_of(grid[window].bounds) == window


def test_bounds_outside_the_grid_give_an_empty_window():
    grid = Grid((10, 10), Affine(1, 0, 0, 0, -1, 10), "EPSG:32619")
    assert grid.window_of((100, 100, 110, 110)).size == 0


def test_bounds_of_a_rotated_grid_hold_all_four_corners():
    grid = Grid((100, 80), ROTATED, "EPSG:32619")
    x_min, y_min, x_max, y_max = grid.bounds
    for corner in ((0, 0), (80, 0), (0, 100), (80, 100)):
        x, y = grid.transform @ corner
        assert x_min <= x <= x_max
        assert y_min <= y <= y_max


def test_windows_that_do_not_meet_share_nothing():
    assert Window(0, 0, 4, 4).intersection(Window(9, 9, 2, 2)).size == 0
    assert Window(0, 0, 4, 4).union(Window(9, 9, 2, 2)) == Window(0, 0, 11, 11)
    assert Window(0, 0, 4, 4).contains(Window(1, 1, 2, 2))
    with pytest.raises(ValueError, match="negative"):
        Window(0, 0, -1, 4)
