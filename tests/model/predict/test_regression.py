"""The shipped baselines as models: what the demo compares with is what a run gives."""

from dataclasses import replace

import numpy as np
import pytest

from spectile.catalog.errors import CheckpointError, UsageError
from spectile.catalog.inputs import Batch
from spectile.flows.run.execute import run_scene
from spectile.flows.run.planning import prepare
from spectile.flows.run.settings import SceneSettings
from spectile.model import checkpoint
from spectile.model.closed.baselines import load_baselines
from spectile.model.facts import REGRESSIONS
from spectile.model.predict.predictor import load_predictor
from spectile.model.scdm.cascade import ScdmCascade
from spectile.model.scdm.preset import scdm_paper
from spectile.pipeline.cube.record import open_cube
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.scene.radiometry import Radiometry
from spectile.pipeline.scene.source import open_source
from spectile.pipeline.store.opening import open_storage


def test_what_is_not_there_or_cannot_be_is_refused():
    with pytest.raises(CheckpointError, match="unknown model"):
        load_predictor("elsewhere:ridge")
    with pytest.raises(UsageError, match="batch"):
        load_predictor("vnir48:ridge", batch=0)


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_a_tile_does_not_depend_on_its_batch(kind):
    rgb = np.random.default_rng(0).random((4, 3, 32, 48), dtype=np.float32)
    predictor = load_predictor(f"vnir48:{kind}")
    first, again = predictor.predict(Batch.of_colours(rgb), range(2))
    np.testing.assert_array_equal(first, again)
    (one,) = predictor.predict(Batch.of_colours(rgb[2:3]), range(1))
    np.testing.assert_array_equal(first[2], one[0])
    assert first.shape == (4, len(predictor.bands), 32, 48)
    assert first.dtype == np.float32


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_a_run_gives_the_baseline(kind, write_scene, tmp_path):
    values = np.random.default_rng(1).integers(1, 255, (3, 90, 110), dtype=np.uint8)
    scene = write_scene(values, photometric="RGB")
    out = tmp_path / "cube.zarr"
    run_scene(SceneSettings(scene=str(scene), out=str(out), model=f"vnir48:{kind}", radiometry="dn:0,0.002"))
    source = open_source(scene, radiometry="dn:0,0.002")
    assert source.radiometry == Radiometry("dn", (0.0,) * 3, (0.002,) * 3)
    rgb, _ = source.read(source.grid.window)
    expected = load_baselines("vnir48")[kind].predict(rgb)
    with open_cube(out) as cube:
        # Half a count of 1e-4, and rounding: a product of another shape may be summed in another order,
        # which with coefficients of up to 850 was 5e-5 on AVX2.
        np.testing.assert_allclose(cube.reflectance.values, np.clip(expected, 0, 6.5534), atol=1.5e-4)
        plan = cube.attrs["spectile"]["plan"]["settings"]["model"]
    assert (plan["name"], plan["estimate"]) == (f"vnir48:{kind}", "regression")
    assert len(plan["digest"]) == 64
    assert verify_cube(open_storage(out)) == []


@pytest.mark.parametrize("wrong", [{"steps": 4}, {"samples": 2}])
def test_what_only_a_diffusion_has_is_refused(wrong, write_scene, tmp_path):
    scene = write_scene(np.full((3, 20, 20), 9, dtype=np.uint8))
    settings = SceneSettings(scene=str(scene), out=str(tmp_path / "c.zarr"), model="vnir48:ridge", **wrong)
    with pytest.raises(UsageError, match=r"takes no steps|equal samples"):
        prepare(settings)


@pytest.fixture
def paper(tmp_path):
    """A checkpoint of the published cascade with the shipped baselines, whose bands are as many."""
    preset = scdm_paper("houston")
    sizes = {"width": 8, "multipliers": (1, 1), "blocks": 1, "attention_levels": (1,), "groups": 4}
    stages = tuple(replace(each, network=replace(each.network, **sizes)) for each in preset.stages)
    preset = replace(preset, stages=stages)
    facts = {"name": "tiny", "kind": "scdm-paper", "fill": [0.1, 0.2, 0.3], "preset": preset.to_json()}
    checkpoint.save(tmp_path, ScdmCascade(preset).state_dict(), facts, checkpoint.load("vnir48").baselines)
    return tmp_path, preset


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_baselines_of_the_published_cascade_predict(kind, paper):
    folder, preset = paper
    predictor = load_predictor(f"{folder}:{kind}")
    assert (predictor.bands, predictor.inputs[0].bands) == (preset.bands, preset.response)
    rgb = np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)
    (cube,) = predictor.predict(Batch.of_colours(rgb), range(1))
    np.testing.assert_allclose(cube[0], load_baselines("vnir48")[kind].predict(rgb[0]))


def test_baselines_of_other_bands_are_refused(paper):
    folder, _ = paper
    loaded = checkpoint.load(folder)
    spoilt = dict(loaded.baselines)
    for name in ("ridge/weight", "lookup/spectra"):
        spoilt[name] = spoilt[name][..., :40]
    checkpoint.save(folder, loaded.tensors, loaded.metadata, spoilt)
    with pytest.raises(CheckpointError, match="other bands"):
        load_predictor(f"{folder}:ridge")


def test_a_checkpoint_without_baselines_says_so(paper):
    folder, _ = paper
    loaded = checkpoint.load(folder)
    checkpoint.save(folder, loaded.tensors, loaded.metadata)
    with pytest.raises(CheckpointError, match="no baselines"):
        load_predictor(f"{folder}:ridge")


def test_the_settings_are_those_that_every_predictor_has():
    settings = load_predictor("vnir48:ridge").settings
    # As spectile.pipeline.block.predict.Predictor asks.
    assert {"name", "digest", "steps", "sampler", "seed", "dtype", "device"} <= settings.keys()
