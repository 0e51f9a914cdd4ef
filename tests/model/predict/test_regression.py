"""The shipped baselines as models: what the demo compares with is what a run gives."""

import numpy as np
import pytest

from spectile.catalog.errors import CheckpointError, UsageError
from spectile.catalog.inputs import Batch
from spectile.flows.run.prepare import SceneSettings, prepare, run_scene
from spectile.model.closed.baselines import load_baselines
from spectile.model.predict.regression import KINDS, RegressionPredictor, split_name
from spectile.pipeline.cube.record import open_cube
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.scene.radiometry import Radiometry
from spectile.pipeline.scene.raster import open_source
from spectile.pipeline.store.opening import open_storage


def test_names():
    assert split_name("vnir48") == ("vnir48", None)
    assert split_name("vnir48:ridge") == ("vnir48", "ridge")
    assert split_name("runs/a:b") == ("runs/a:b", None)
    assert split_name("runs/a:b:lookup") == ("runs/a:b", "lookup")
    with pytest.raises(CheckpointError, match="unknown model"):
        RegressionPredictor("elsewhere", "ridge")
    with pytest.raises(UsageError, match="batch"):
        RegressionPredictor("vnir48", "ridge", batch=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tile_does_not_depend_on_its_batch(kind):
    rgb = np.random.default_rng(0).random((4, 3, 32, 48), dtype=np.float32)
    predictor = RegressionPredictor("vnir48", kind)
    first, again = predictor.predict(Batch.of_colours(rgb), range(2))
    np.testing.assert_array_equal(first, again)
    (one,) = predictor.predict(Batch.of_colours(rgb[2:3]), range(1))
    np.testing.assert_array_equal(first[2], one[0])
    assert first.shape == (4, len(predictor.bands), 32, 48)
    assert first.dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_gives_the_baseline(kind, write_scene, tmp_path):
    values = np.random.default_rng(1).integers(1, 255, (3, 90, 110), dtype=np.uint8)
    scene = write_scene(values, photometric="RGB")
    out = tmp_path / "cube.zarr"
    run_scene(SceneSettings(str(scene), str(out), model=f"vnir48:{kind}", radiometry="dn:0,0.002"))
    source = open_source(scene, radiometry="dn:0,0.002")
    assert source.radiometry == Radiometry("dn", (0.0,) * 3, (0.002,) * 3)
    rgb, _ = source.read(source.grid.window)
    expected = load_baselines("vnir48")[kind].predict(rgb)
    with open_cube(out) as cube:
        np.testing.assert_allclose(cube.reflectance.values, np.clip(expected, 0, 6.5534), atol=6e-5)
        plan = cube.attrs["spectile"]["plan"]["settings"]["model"]
    assert (plan["name"], plan["estimate"]) == (f"vnir48:{kind}", "regression")
    assert len(plan["digest"]) == 64
    assert verify_cube(open_storage(out)) == []


@pytest.mark.parametrize("wrong", [{"steps": 4}, {"samples": 2}])
def test_what_only_a_diffusion_has_is_refused(wrong, write_scene, tmp_path):
    scene = write_scene(np.full((3, 20, 20), 9, dtype=np.uint8))
    settings = SceneSettings(str(scene), str(tmp_path / "c.zarr"), model="vnir48:ridge", **wrong)
    with pytest.raises(UsageError, match=r"takes no steps|every sample alike"):
        prepare(settings)
