from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from spectile.catalog.bands import PAVIA_CENTRE, RGB_CAMERA, VNIR48, Bands, resampling_matrix
from spectile.catalog.errors import UsageError
from spectile.pipeline.simulate.landscape import noise, pixel_normal
from spectile.pipeline.simulate.materials import FAMILIES, MODELS, SETS, Material, draw_materials
from spectile.pipeline.simulate.reflectance import FINE, NM, leaf
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


def test_the_sets_share_no_parameter_value_and_demo_has_models_of_its_own() -> None:
    for seed in range(5):
        for name, parity in (("train", 0), ("demo", 1)):
            drawn = draw_materials(seed, name)
            bins = np.floor(16 * np.concatenate([m.parameters for m in drawn])).astype(int)
            assert (bins % 2 == parity).all()
            assert all(m.parameters for m in drawn)
    models = {name: {m.name.rsplit("_", 1)[0] for m in draw_materials(0, name)} for name in SETS}
    assert len(models["demo"] - models["train"]) >= 8
    assert models["train"] | models["demo"] == set(MODELS)


@pytest.mark.parametrize("name", SETS)
def test_every_family_has_materials_in_both_sets(name: str) -> None:
    assert {m.family for m in draw_materials(11, name)} == set(FAMILIES)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("bands", [VNIR48, PAVIA_CENTRE])
def test_spectra_are_reflectances_in_any_band_plan(name: str, bands: Bands) -> None:
    for seed in range(3):
        for material in draw_materials(seed, name):
            spectra = material.resampled(bands)
            assert spectra.shape == (len(material.spectra), len(bands))
            assert np.isfinite(spectra).all()
            assert 0.0 < spectra.min() <= spectra.max() <= 1.0


def _band(spectrum: np.ndarray, low: float, high: float) -> np.ndarray:
    return spectrum[..., (low <= NM) & (high >= NM)].mean(axis=-1)


@pytest.mark.parametrize("name", SETS)
def test_materials_show_the_features_of_their_kind(name: str) -> None:
    for seed in range(4):
        for material in draw_materials(seed, name):
            spectra, model = material.spectra, material.name.rsplit("_", 1)[0]
            red, nir = _band(spectra, 660, 680), _band(spectra, 780, 880)
            ndvi = (nir - red) / (nir + red)
            if model in {"cereal", "beet", "lawn", "broadleaf", "conifer", "copper_tree", "meadow"}:
                assert ndvi[1:].min() > 0.5, material.name
                # Liquid water absorbs near 970 nm: a dip below the line between its shoulders.
                shoulders = 0.5 * (_band(spectra, 885, 905) + _band(spectra, 1050, 1070))
                assert (_band(spectra, 960, 985) < shoulders).all(), material.name
            elif material.family in {"soil", "road", "paving", "marking"}:
                assert np.abs(ndvi).max() < 0.45, material.name
            elif material.family == "water":
                assert nir.max() < 0.05, material.name
                assert (_band(spectra, 960, 985) < _band(spectra, 540, 580)).all(), material.name
            if model in {"laterite", "ferric_clay", "clay_tile"}:
                # Ferric iron: steep in the green, an absorption near 870 to 910 nm.
                dry = spectra[-1]
                assert _band(dry, 620, 640) > 1.5 * _band(dry, 480, 500), material.name
                assert _band(dry, 860, 920) < _band(dry, 1040, 1080), material.name


def test_a_leaf_conserves_energy_and_is_nearly_clear_without_pigment() -> None:
    reflected, passed = leaf(layers=1.5, chlorophyll=40.0, carotenoid=8.0)
    assert (reflected > 0).all()
    assert (passed > 0).all()
    assert (reflected + passed < 1.0).all()
    # PROSPECT's textbook leaf: reflectance near 0.45 on the infrared plateau, below 0.1 in red.
    assert _band(reflected, 780, 880) == pytest.approx(0.45, abs=0.07)
    assert _band(reflected, 665, 680) < 0.1
    clear = leaf(layers=1.5, chlorophyll=0.0, carotenoid=0.0, dry=0.0, water_cm=0.0)
    np.testing.assert_allclose(clear[0] + clear[1], 1.0, atol=1e-3)


@pytest.mark.parametrize("name", SETS)
def test_no_material_covers_most_of_a_scene(name: str) -> None:
    simulator = Simulator(seed=2, materials=name, pixel_size_m=2.0)
    labels = simulator.labels(0, 0, 400, 400)
    share = np.bincount(labels.ravel(), minlength=len(simulator.endmembers)) / labels.size
    assert share.max() < 0.6
    families = {simulator.endmembers[i].family for i in np.flatnonzero(share)}
    assert families >= {"crop", "grass", "tree", "soil", "road", "tile", "roof"}


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


def test_noise_at_points_equals_noise_on_a_grid() -> None:
    y, x = np.arange(-40.0, 40.0, 1.7)[:, None], np.arange(-90.0, 20.0, 2.3)[None, :]
    grid = noise((1, 2), y, x, 13.0)
    points = noise((1, 2), *(axis.ravel() for axis in np.broadcast_arrays(y, x)), 13.0)
    np.testing.assert_allclose(points, grid.ravel(), atol=1e-6)
    assert 0.0 <= grid.min() < 0.2 < 0.8 < grid.max() < 1.0


def test_pixel_noise_is_white_and_standard() -> None:
    rows, cols = np.arange(-200, 200)[:, None], np.arange(300)[None, :]
    draws = pixel_normal((7, 1), rows, cols)
    # 120,000 draws: standard errors of 0.003 for means and correlations.
    assert abs(float(draws.mean())) < 0.012
    assert abs(float(draws.std()) - 1.0) < 0.012
    assert abs(float((draws[1:] * draws[:-1]).mean())) < 0.015
    assert abs(float((draws[:, 1:] * draws[:, :-1]).mean())) < 0.015
