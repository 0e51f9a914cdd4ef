"""The real estimates and the real fusion of a small pair, as the run loads them."""

from dataclasses import replace

import numpy as np
import pytest

from spectile.catalog.errors import CheckpointError, SceneError, UsageError
from spectile.catalog.inputs import Batch
from spectile.flows.run.crew import describe_network
from spectile.flows.run.fused import estimate, load_fused, network_of, read_pair, shift_of, write_pair
from spectile.flows.run.settings import FuseSettings
from spectile.pipeline.block.predict import FusingPredictor
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.pair.sample import sample_windows
from spectile.pipeline.pair.source import open_pair
from tests.flows.run.pairs import MSI, NORTH_UP, RATIO, Affine, write_bands
from tests.flows.run.pairs import write_pair as write_scenes

MOVED = (1.3, -0.6)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("pair"), (32, 32), moved=MOVED)


@pytest.fixture(scope="module")
def estimated(scenes):
    """The pair with its shift taken out, the shift, the estimates, and the figures beside them."""
    pair = open_pair(scenes[0], scenes[1])
    shift = shift_of(sample_windows(pair, 0), pair)
    there = replace(pair, drift=shift.drift)
    return there, shift, *estimate(sample_windows(there, 0), there, shift, response="fit", seed=0)


def test_a_shift_that_was_put_in_is_found_to_a_tenth_of_a_pixel(estimated):
    _, shift, model, _ = estimated
    assert (shift.drift.row, shift.drift.col) == pytest.approx(MOVED, abs=0.1)
    assert model.shift == (shift.drift.row, shift.drift.col)


def test_the_estimates_and_figures_can_be_told(estimated):
    *_, model, figures = estimated
    facts = model.facts()
    assert facts["method"] in facts["wald"]
    assert set(figures) == {"d_lambda", "d_s", "changed"}
    assert 0 <= figures["d_lambda"] < 0.1
    assert figures["changed"] < 0.5


def test_a_process_loads_the_fusion_from_bytes_alone(scenes, estimated):
    pair, _, model, _ = estimated
    value = write_pair(model)
    assert read_pair(value).digest == model.digest
    with pytest.raises(CheckpointError):
        read_pair(value[:100])
    settings = FuseSettings(hsi=scenes[0], msi=scenes[1], out="cube.zarr", device="cpu")
    predictor = load_fused(network_of(settings, value))
    assert isinstance(predictor, FusingPredictor)
    window = Window(0, 0, 128, 128)
    rasters = {}
    for spec in predictor.inputs:
        found = spec.filled(pair.sources[spec.name].read(window.coarser(spec.ratio)))
        rasters[spec.name] = type(found)(found.values[None], found.valid[None])
    batch = Batch(rasters, np.zeros((1, 2), dtype=np.int64), 1)
    (spectra,) = predictor.predict(batch, range(1))
    difference, changed = predictor.inspect(batch, spectra)
    assert difference.shape == changed.shape == (1, 128, 128)
    upsampled = rasters["hsi"].values.repeat(RATIO, axis=2).repeat(RATIO, axis=3)
    truth = scenes[2]
    inside = np.s_[:, 8:-8, 8:-8]
    error, plain = (np.sqrt(np.square(each[0] - truth)[inside].mean()) for each in (spectra, upsampled))
    assert error < plain / 2
    with pytest.raises(UsageError, match=r"unknown method of fusion \(got fuse:nothing"):
        load_fused(network_of(replace(settings, model="fuse:nothing"), value))


def test_clouds_over_all_of_the_msi_are_refused_in_one_line(scenes, tmp_path):
    rng = np.random.default_rng(99)
    clouds = 0.8 + 0.05 * rng.standard_normal((4, 128, 128))
    msi = write_bands(tmp_path / "clouds.tif", clouds, MSI, NORTH_UP @ Affine.scale(1 / RATIO))
    pair = open_pair(scenes[0], msi)
    windows = sample_windows(pair, 0)
    with pytest.raises(
        SceneError, match=r"do not show the same place|hardly anything .*correlation of 0\."
    ) as caught:
        estimate(windows, pair, shift_of(windows, pair), response="fit", seed=0)
    assert "\n" not in str(caught.value)


def test_a_worker_describes_a_fusion_that_predicts_as_here(scenes, estimated):
    pair, _, model, _ = estimated
    settings = FuseSettings(hsi=scenes[0], msi=scenes[1], out="cube.zarr", device="cpu", tile=64)
    network = network_of(settings, write_pair(model))
    here, distant = load_fused(network), describe_network(network)
    assert isinstance(distant, FusingPredictor)
    np.testing.assert_array_equal(distant.response[0], here.response[0])
    raster = {}
    for spec in here.inputs:
        found = spec.filled(pair.sources[spec.name].read(Window(0, 0, 64, 64).coarser(spec.ratio)))
        raster[spec.name] = type(found)(found.values[None], found.valid[None])
    batch = Batch(raster, np.zeros((1, 2), dtype=np.int64), 1)
    (one,), (other,) = here.predict(batch, range(1)), distant.predict(batch, range(1))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(here.inspect(batch, one)[0], distant.inspect(batch, one)[0])
