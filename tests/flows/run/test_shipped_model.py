"""The shipped weights through the whole pipeline."""

from dataclasses import replace

import numpy as np
import pytest
import zarr

from spectile.flows.run.execute import run_scene
from spectile.flows.run.planning import prepare
from spectile.flows.run.settings import SceneSettings
from spectile.pipeline.block.mosaic import extent, mosaic_block, read_inputs
from spectile.pipeline.cube.record import open_cube
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.product.quality import seams
from spectile.pipeline.simulate.scene import Simulator

BART = "neon/2019_BART_5_320000_4881000_image_crop.tif"


@pytest.fixture
def settings(tmp_path) -> SceneSettings:
    scene = tmp_path / "scene.tif"
    Simulator(seed=2_900_000, shape=(330, 350)).write_rgb(scene, kind="float", nodata_border=3)
    return SceneSettings(scene=str(scene), out=str(tmp_path / "cube.zarr"), tile=128, halo=16, block=512)


def counts(path: str) -> np.ndarray:
    return np.asarray(zarr.open_group(path, mode="r")["reflectance"][:]).astype(np.int32)


def test_batch_and_region_change_no_value_by_more_than_a_count(settings):
    prepared, _ = run_scene(settings)
    whole = counts(settings.out)
    other = replace(settings, out=settings.out + ".2.zarr", batch=1)
    x, y = prepared.source.grid.transform @ (101, 33)
    x_end, y_end = prepared.source.grid.transform @ (299, 205)
    run_scene(replace(other, region=(x, y_end, x_end, y)))
    assert np.abs(counts(other.out) - whole[:, 33:205, 101:299]).max() <= 1


def test_spectra_are_there_wherever_the_scene_is_valid_and_only_there(settings):
    prepared, _ = run_scene(settings)
    _, valid = prepared.source.read(prepared.source.grid.window)
    found = open_cube(settings.out).reflectance.values
    assert not valid.all()
    assert np.isfinite(found[:, valid]).all()
    assert np.isnan(found[:, ~valid]).all()
    assert found[:, valid].max() <= 1.6


@pytest.mark.slow
@pytest.mark.parametrize("flat", [False, True], ids=["scene", "one colour"])
def test_the_tiles_do_not_show(tmp_path, write_scene, flat):
    shape = (420, 420)
    if flat:
        colour = np.array([0.14, 0.12, 0.09], np.float32)[:, None, None]
        path = write_scene(np.broadcast_to(colour, (3, *shape)))
    else:
        path = tmp_path / "scene.tif"
        Simulator(seed=2_900_001, shape=shape).write_rgb(path, kind="float")
    prepared = prepare(SceneSettings(scene=str(path), out=str(tmp_path / "none.zarr"), tile=128, halo=16))
    window = prepared.plan.window
    mosaic = mosaic_block(
        Block(0, 0, window),
        reading=read_inputs(
            prepared.sources, prepared.predictor.inputs, extent(prepared.plan.tiling, window)
        ),
        tiling=prepared.plan.tiling,
        predictor=prepared.predictor,
        samples=4,
    )
    texture = mosaic.samples[0] - mosaic.samples.mean(axis=0)
    found = seams(texture, prepared.plan.tiling, window)
    assert found.sd_ratio >= 0.95
    assert found.lattice_peak < 2


def test_the_layers_of_the_samples_lie_about_their_mean(tmp_path):
    scene = tmp_path / "scene.tif"
    Simulator(seed=2_900_002, shape=(64, 72)).write_rgb(scene, kind="float")
    settings = SceneSettings(
        scene=str(scene),
        out=str(tmp_path / "cube.zarr"),
        tile=64,
        halo=8,
        samples=4,
        layers=("sd", "q05", "q95"),
    )
    prepared, _ = run_scene(settings)
    found = open_cube(settings.out)
    calibration = prepared.predictor.calibration
    assert found.reflectance_sd.attrs["calibrated"] is (calibration is not None)
    spread, low, high = (
        (np.full(48, factor) for factor in (1.0, -1.6449, 1.6449))
        if calibration is None
        else map(np.array, (calibration.spread, calibration.low, calibration.high))
    )
    s = found.reflectance_sd.values / spread[:, None, None]
    assert np.median(s) > 1e-3
    mean = found.reflectance.values
    for name, factor in (("reflectance_q05", low), ("reflectance_q95", high)):
        # Each of the three is rounded to half a count, s before it is scaled.
        slack = 1.1e-4 + 0.51e-4 * (np.abs(factor) / spread)[:, None, None]
        expected = np.clip(mean + factor[:, None, None] * s, 0, None)
        assert (np.abs(found[name].values - expected) < slack).all()


@pytest.mark.data
def test_a_real_orthophoto_becomes_a_cube_in_its_place(data_dir, tmp_path):
    settings = SceneSettings(scene=str(data_dir / BART), out=str(tmp_path / "cube.zarr"))
    grid = prepare(replace(settings, model="bands-repeat")).source.grid
    x, y = grid.transform @ (300, 400)
    x_end, y_end = grid.transform @ (640, 700)
    run_scene(replace(settings, region=(x, y_end, x_end, y)))
    found = open_cube(settings.out).reflectance
    assert found.shape == (48, 300, 340)
    assert found.rio.crs.to_epsg() == 32619
    assert tuple(found.rio.transform())[:6] == pytest.approx(
        tuple(grid.transform @ grid.transform.translation(300, 400))[:6]
    )
    assert np.isfinite(found.values).all()
