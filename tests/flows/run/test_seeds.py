"""A seed that the noise cannot take is refused before any work, by whichever door it comes in."""

from __future__ import annotations

import pytest

from spectile.catalog.errors import UsageError
from spectile.catalog.limits import LAST_SEED
from spectile.flows.commands import app as cli
from spectile.flows.deployed.flight_line import process_flight_line
from spectile.flows.deployed.scene import process_scene
from spectile.flows.deployed.watch import watch
from spectile.flows.run.planning import prepare
from spectile.flows.run.settings import SceneSettings
from spectile.flows.training.recipe import read_recipe
from spectile.model.predict.predictor import load_predictor


@pytest.mark.parametrize("flow", [process_scene, process_flight_line, watch])
def test_flows_refuse_a_seed_that_the_noise_cannot_take(flow):
    seed = flow.parameters.model_dump()["properties"]["seed"]
    assert (seed["minimum"], seed["maximum"]) == (0, LAST_SEED)


@pytest.mark.parametrize("seed", [-1, LAST_SEED + 1])
def test_the_command_line_refuses_it(seed, capsys, tmp_path):
    assert cli.main(["run", "scene.tif", "--out", str(tmp_path / "c.zarr"), "--seed", str(seed)]) == 2
    assert "'--seed'" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["vnir48", "vnir48:ridge"])
def test_a_run_from_python_refuses_it_before_the_cube_exists(model, make_scene, tmp_path):
    out = tmp_path / "c.zarr"
    with pytest.raises(UsageError, match="invalid setting seed"):
        prepare(SceneSettings(scene=str(make_scene((40, 40))), out=str(out), model=model, seed=LAST_SEED + 1))
    assert not out.exists()


def test_a_predictor_refuses_it_when_it_is_loaded():
    with pytest.raises(UsageError, match="seed out of range"):
        load_predictor("vnir48", seed=LAST_SEED + 1, device="cpu")


@pytest.mark.parametrize("kind", ["", 'kind = "scdm-paper"'])
@pytest.mark.parametrize("seed", [-1, LAST_SEED + 1])
def test_a_recipe_refuses_it(kind, seed, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(f'name = "tiny"\n{kind}\n[training]\nseed = {seed}\n')
    with pytest.raises(UsageError, match=r"training\.seed"):
        read_recipe(path)
