"""The MSI averaged onto the fine grid: exact areas, any rotation and CRS, the same in every window."""

from dataclasses import dataclass

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from spectile.catalog.inputs import Raster
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.pair.drift import Drift
from spectile.pipeline.pair.warp import MirroredSource, WarpedSource, mirrored

UTM = CRS.from_epsg(32633).to_wkt()
METRE = Affine(1, 0, 400_000, 0, -1, 5_800_000)


@dataclass(frozen=True)
class Held:
    """A scene in memory."""

    grid: Grid
    values: np.ndarray
    valid: np.ndarray
    ceiling = None

    def read(self, window: Window) -> Raster:
        assert self.grid.window.contains(window), window
        values = self.values[(slice(None), *window.slices)].copy()
        valid = self.valid[window.slices].copy()
        values[:, ~valid] = np.nan
        return Raster(values, valid)


def held(shape=(60, 70), transform=METRE, crs=UTM, *, seed=0, hole=None) -> Held:
    values = np.random.default_rng(seed).random((2, *shape), dtype=np.float32)
    valid = np.ones(shape, dtype=bool)
    if hole is not None:
        valid[hole] = False
    return Held(Grid(shape, transform, crs), values, valid)


def test_a_scene_on_its_own_grid_is_left_as_it_is():
    scene = held(hole=(3, 5))
    found = WarpedSource(scene, scene.grid).read(scene.grid.window)
    np.testing.assert_array_equal(found.values, np.where(scene.valid, scene.values, np.nan))
    np.testing.assert_array_equal(found.valid, scene.valid)


def test_whole_pixels_are_averaged():
    scene = held((60, 70))
    coarse = Grid((20, 14), METRE @ Affine.scale(5, 3), UTM)
    found = WarpedSource(scene, coarse).read(coarse.window)
    expected = scene.values.reshape(2, 20, 3, 14, 5).mean(axis=(2, 4))
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)


def test_areas_of_cut_pixels_are_exact():
    scene = held((10, 10))
    coarse = Grid((3, 3), METRE @ Affine.translation(0.5, 1.25) @ Affine.scale(2.5), UTM)
    found = WarpedSource(scene, coarse).read(Window(0, 0, 1, 1))
    # Rows 1.25 to 3.75, columns 0.5 to 3.
    rows, cols = np.array([0.75, 1, 0.75]) / 2.5, np.array([0.5, 1, 1]) / 2.5
    expected = np.einsum("i,j,cij->c", rows, cols, scene.values[:, 1:4, 0:3])
    np.testing.assert_allclose(found.values[:, 0, 0], expected, rtol=1e-6)


def test_a_shift_is_taken_out():
    scene = held()
    plain = WarpedSource(scene, scene.grid).read(Window(10, 10, 20, 20)).values
    moved = WarpedSource(scene, scene.grid, Drift(2.0, -3.0)).read(Window(8, 13, 20, 20)).values
    np.testing.assert_array_equal(moved, plain)
    half = WarpedSource(scene, scene.grid, Drift(0.5, 0.0)).read(Window(10, 10, 20, 20)).values
    expected = (scene.values[:, 10:30, 10:30] + scene.values[:, 11:31, 10:30]) / 2
    np.testing.assert_allclose(half, expected, rtol=1e-6)


@pytest.mark.parametrize("degrees", [0.0, 31.0])
def test_values_do_not_depend_on_the_window(degrees):
    scene = held((90, 90), METRE @ Affine.rotation(degrees))
    source = WarpedSource(
        scene, Grid((40, 40), METRE @ Affine.translation(20, 10) @ Affine.scale(1.7), UTM), Drift(0.3, 0.1)
    )
    whole = source.read(Window(-8, -8, 56, 56))
    for part in (Window(3, 5, 11, 9), Window(-5, 17, 20, 30)):
        found = source.read(part)
        at = part.relative_to(Window(-8, -8, 56, 56)).slices
        np.testing.assert_array_equal(found.values, whole.values[(slice(None), *at)])
        np.testing.assert_array_equal(found.valid, whole.valid[at])


@pytest.mark.parametrize("crs", [32633, 32632, 4326])
def test_a_plane_is_where_it_was_in_any_crs(crs):
    """A plane in map coordinates of the fine grid, sampled on a scene of another CRS or rotation."""
    fine = Grid((24, 24), METRE @ Affine.translation(30, 30) @ Affine.scale(2), UTM)
    step = 1 / 111_000 if crs == 4326 else 1.0
    from spectile.pipeline.geometry.placing import to_map, to_pixels, transform_points

    wkt = CRS.from_epsg(crs).to_wkt()
    x0, y0 = transform_points(np.array([400_054.0]), np.array([5_799_946.0]), UTM, wkt)
    turned = (
        Affine.translation(x0[0], y0[0])
        @ Affine.rotation(20)
        @ Affine.scale(step, -step)
        @ Affine.translation(-75, -75)
    )
    grid = Grid((150, 150), turned, wkt)
    rows, cols = np.meshgrid(np.arange(150) + 0.5, np.arange(150) + 0.5, indexing="ij")
    x, y = transform_points(*to_map(grid, rows, cols), wkt, UTM)
    at_rows, at_cols = to_pixels(fine, x, y)
    scene = Held(grid, np.stack([at_rows, at_cols]).astype(np.float32), np.ones((150, 150), dtype=bool))
    found = WarpedSource(scene, fine).read(Window(4, 4, 16, 16))
    assert found.valid.all()
    expected = np.stack(np.meshgrid(np.arange(4, 20) + 0.5, np.arange(4, 20) + 0.5, indexing="ij"))
    # The scene's pixels are half as large: points of a pixel's area are on average within a few hundredths.
    np.testing.assert_allclose(found.values, expected, atol=0.12)
    assert abs((found.values - expected).mean()) < 0.01


def test_half_of_the_area_makes_a_pixel_valid():
    scene = held((8, 8), hole=(slice(None), slice(0, 3)))
    found = WarpedSource(scene, Grid((2, 2), METRE @ Affine.scale(4), UTM)).read(Window(0, 0, 2, 2))
    np.testing.assert_array_equal(found.valid, [[False, True], [False, True]])
    wider = WarpedSource(
        held((8, 8), hole=(slice(None), slice(0, 2))), Grid((2, 2), METRE @ Affine.scale(4), UTM)
    )
    assert wider.read(Window(0, 0, 2, 2)).valid.all()


def test_beyond_the_scene_nothing_is_valid():
    scene = held((8, 8))
    far = Grid((4, 4), METRE @ Affine.translation(1000, 0), UTM)
    found = WarpedSource(scene, far).read(far.window)
    assert not found.valid.any()
    assert np.isnan(found.values).all()
    assert found.values.shape == (2, 4, 4)


def test_the_mirror_repeats_the_edge_so_that_both_scenes_agree_there():
    """A mirrored HSI pixel covers the mirrored fine pixels."""
    fine, coarse = held((12, 20)), held((3, 5), METRE @ Affine.scale(4))
    window = Window(-8, -4, 24, 28)
    _, rows, cols = mirrored(window, (12, 20))
    _, at, across = mirrored(window.coarser(4), (3, 5))
    np.testing.assert_array_equal(np.repeat(at, 4), rows // 4)
    np.testing.assert_array_equal(np.repeat(across, 4), cols // 4)
    values = MirroredSource(coarse).read(Window(-2, 0, 4, 5)).values
    np.testing.assert_array_equal(values, coarse.values[:, [1, 0, 0, 1]])
    around = WarpedSource(fine, fine.grid).read(Window(-1, 0, 2, 20)).values
    np.testing.assert_array_equal(around[:, 0], around[:, 1])


def test_a_much_sharper_turned_scene_is_averaged():
    scene = held((240, 240), METRE @ Affine.rotation(10) @ Affine.translation(-40, -40))
    coarse = Grid((4, 4), METRE @ Affine.translation(30, 30) @ Affine.scale(20), UTM)
    found = WarpedSource(scene, coarse).read(coarse.window)
    assert found.valid.all()
    # The mean of 400 numbers between 0 and 1.
    assert np.abs(found.values - 0.5).max() < 0.08
    assert found.values.std() > 0.002


def test_a_shift_that_changes_over_the_scene_is_taken_out():
    """A plane of row and column numbers: what is read at a place is where the drift says it lies."""
    rows, cols = np.indices((90, 90)) + np.float32(0.5)
    scene = Held(
        Grid((90, 90), METRE, UTM), np.stack([rows, cols]).astype(np.float32), np.ones((90, 90), bool)
    )
    drift = Drift(1.5, -0.5, (0.01, -0.02, 0.0, 0.005))
    found = WarpedSource(scene, scene.grid, drift).read(Window(20, 20, 50, 50))
    expected = drift.at(*(each[20:70, 20:70].astype(float) for each in (rows, cols)), (90, 90))
    np.testing.assert_allclose(found.values, np.stack(expected), atol=0.07)
    part = WarpedSource(scene, scene.grid, drift).read(Window(33, 41, 9, 7))
    np.testing.assert_array_equal(part.values, found.values[:, 13:22, 21:28])
