from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from spectile.catalog.bands import RGB_CAMERA, VNIR48, Bands, resampling_matrix
from spectile.catalog.errors import UsageError
from spectile.pipeline.simulate.materials import SETS, Material
from spectile.pipeline.simulate.reflectance import FINE
from spectile.pipeline.simulate.scene import REFLECTANCE_SCALE, Simulator

SIZE = 160
SIMULATOR = Simulator(seed=3, materials="demo")


@pytest.fixture(scope="module")
def whole() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    window = (-SIZE // 2, 700, SIZE, SIZE)
    return SIMULATOR.truth(*window), SIMULATOR.rgb(*window), SIMULATOR.labels(*window)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1), st.integers(1, 80), st.integers(1, 80))
def test_a_window_equals_the_crop_of_the_whole(
    whole: tuple[np.ndarray, np.ndarray, np.ndarray], row: int, col: int, height: int, width: int
) -> None:
    height, width = min(height, SIZE - row), min(width, SIZE - col)
    truth, rgb, labels = whole
    window = (row - SIZE // 2, col + 700, height, width)
    part = np.s_[..., row : row + height, col : col + width]
    np.testing.assert_array_equal(SIMULATOR.truth(*window), truth[part])
    np.testing.assert_array_equal(SIMULATOR.rgb(*window), rgb[part])
    np.testing.assert_array_equal(SIMULATOR.labels(*window), labels[part])


def test_a_window_larger_than_the_inner_pieces_equals_its_parts() -> None:
    simulator = Simulator(seed=5)
    wide = simulator.rgb(10, 20, 40, 600)
    np.testing.assert_array_equal(wide[:, :, 480:560], simulator.rgb(10, 500, 40, 80))


def test_a_window_far_from_the_origin_equals_its_parts() -> None:
    wide = SIMULATOR.rgb(900_000, -800_000, 30, 60)
    np.testing.assert_array_equal(wide[:, 7:, 11:], SIMULATOR.rgb(900_007, -799_989, 23, 49))


def test_rgb_is_the_response_to_the_truth_when_there_is_no_noise() -> None:
    simulator = replace(SIMULATOR, noise_sd=0.0)
    matrix, _ = resampling_matrix(VNIR48, RGB_CAMERA)
    expected = np.einsum("cb,bij->cij", matrix, simulator.truth(0, 0, 96, 96))
    # Two orders of summation in float32 over at most 20 terms of size 1.
    np.testing.assert_allclose(simulator.rgb(0, 0, 96, 96), expected, atol=5e-6)


def test_noise_has_the_stated_spread_and_is_independent_between_channels() -> None:
    clean = replace(SIMULATOR, noise_sd=0.0).rgb(0, 0, 128, 128)
    residual = (replace(SIMULATOR, noise_sd=0.01).rgb(0, 0, 128, 128) - clean).reshape(3, -1)
    # 16,384 draws: the standard error of an sd is 0.6 %, of a correlation 0.008.
    np.testing.assert_allclose(residual.std(axis=1), 0.01, rtol=0.03)
    assert np.abs(np.corrcoef(residual) - np.eye(3)).max() < 0.04


def test_seeds_and_sets_give_different_scenes() -> None:
    scenes = [Simulator(seed=seed, materials=name).rgb(0, 0, 64, 64) for seed in (1, 2) for name in SETS]
    for first in range(4):
        for second in range(first):
            assert np.abs(scenes[first] - scenes[second]).mean() > 0.005


@pytest.mark.parametrize("name", SETS)
def test_no_material_covers_most_of_a_scene(name: str) -> None:
    simulator = Simulator(seed=2, materials=name, pixel_size_m=2.0)
    labels = simulator.labels(0, 0, 400, 400)
    share = np.bincount(labels.ravel(), minlength=len(simulator.endmembers)) / labels.size
    assert share.max() < 0.6
    families = {simulator.endmembers[i].family for i in np.flatnonzero(share)}
    assert families >= {"crop", "grass", "tree", "soil", "road", "tile", "roof"}


def test_shares_are_those_of_all_that_is_seen_of_a_pixel() -> None:
    simulator = Simulator(seed=2, sun_elevation_deg=85.0)
    shares, labels = simulator.shares(0, 0, 90, 70), simulator.labels(0, 0, 90, 70)
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-5)
    largest = np.take_along_axis(shares, labels[None].astype(np.intp), axis=0)[0]
    # A material may lie in two layers of a pixel, whose shares add up.
    assert np.mean(largest >= shares.max(axis=0) - 1e-5) > 0.99
    assert np.mean((shares.max(axis=0) < 0.9) & (shares.max(axis=0) > 0.1)) > 0.01


def test_truth_stays_within_physical_bounds_and_has_shadows() -> None:
    truth = Simulator(seed=2).truth(0, 0, 256, 256)
    assert truth.min() > 0.0
    assert truth.max() < 1.3
    simulator = Simulator(seed=2, sun_elevation_deg=25.0)
    low, high = (
        simulator.truth(0, 0, 256, 256),
        replace(simulator, sun_elevation_deg=80.0).truth(0, 0, 256, 256),
    )
    assert np.mean(low[20] < 0.5 * high[20]) > 0.02


def test_extra_materials_take_part_by_their_family() -> None:
    spectrum = np.full((1, len(FINE)), 0.123)
    extra = tuple(Material(f"library_{i}", "crop", spectrum) for i in range(40))
    simulator = Simulator(seed=5, extra=extra, pixel_size_m=2.0)
    labels = simulator.labels(0, 0, 300, 300)
    first = len(simulator.endmembers) - len(extra)
    assert simulator.endmembers[first:] == extra
    assert np.mean(labels >= first) > 0.02


def test_extra_materials_that_miss_bands_or_have_no_place_are_refused() -> None:
    short = Bands.evenly_spaced(450.0, 800.0, 40)
    material = Material("short", "soil", np.full((1, 40), 0.2), short)
    with pytest.raises(UsageError, match="short is not known at every band"):
        Simulator(extra=(material,)).rgb(0, 0, 4, 4)
    with pytest.raises(UsageError, match="unknown family"):
        Material("odd", "cheese", np.full((1, 40), 0.2), short)
    with pytest.raises(UsageError, match="wrong shape"):
        Material("odd", "soil", np.full((40,), 0.2), short)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("sun_elevation_deg", 5.0), ("pixel_size_m", 0.0), ("noise_sd", -1.0), ("materials", "other")],
)
def test_settings_out_of_range_are_refused(setting: str, value: object) -> None:
    with pytest.raises(UsageError):
        replace(SIMULATOR, **{setting: value}).rgb(0, 0, 4, 4)


@pytest.mark.parametrize("kind", ["reflectance", "float", "display"])
def test_a_file_holds_the_scene_with_its_place_and_scale(tmp_path: Path, kind: str) -> None:
    simulator = Simulator(seed=4, shape=(300, 270), rotation_deg=17.0)
    path = tmp_path / "scene.tif"
    simulator.write_rgb(path, kind=kind, block=256, nodata_border=9)
    with rasterio.open(path) as file:
        assert file.crs.to_epsg() == 32633
        assert file.transform.almost_equals(simulator.transform)
        assert not file.transform.is_rectilinear
        assert file.profile["tiled"]
        data, mask = file.read(), file.dataset_mask() > 0
        scale = file.scales[0]
    assert mask[9:-9, 9:-9].all()
    assert mask.sum() == (300 - 18) * (270 - 18)
    rgb = simulator.rgb(0, 0, 300, 270)
    if kind == "display":
        assert data.dtype == np.uint8
        assert data[:, mask].std() > 20
    else:
        assert scale == (REFLECTANCE_SCALE if kind == "reflectance" else 1.0)
        difference = np.abs(data[:, mask] * scale - np.maximum(rgb[:, mask], 0.0 if scale < 1 else -1.0))
        assert difference.max() <= REFLECTANCE_SCALE * 1.5


def test_a_file_of_an_unknown_kind_or_block_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown kind"):
        SIMULATOR.write_rgb(tmp_path / "a.tif", kind="radiance")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="whole tiles"):
        SIMULATOR.write_rgb(tmp_path / "a.tif", block=300)
    assert not list(tmp_path.iterdir())
