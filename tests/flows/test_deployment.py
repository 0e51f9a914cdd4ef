import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

import flows
from flows.compose import SceneSettings, run_scene
from pipeline.cube import read_status
from pipeline.storage import open_storage

ROOT = Path(flows.__file__).parents[1]


@pytest.fixture(scope="module")
def prefect(prefect_server, tmp_path_factory) -> Callable[..., str]:
    """Prefect's command line on the server, with the work pool made and everything deployed."""
    environment = {
        **os.environ,
        "PREFECT_API_URL": prefect_server.url,
        "PREFECT_HOME": str(tmp_path_factory.mktemp("home")),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PWD": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("work-pool", "create", "spectile-cpu", "--type", "process", "--overwrite")
    run("deploy", "--all")
    return run


def _run_on_a_worker(prefect: Callable[..., str], deployment: str, **given: object) -> None:
    parameters = [part for name, value in given.items() for part in ("--param", f"{name}={value}")]
    prefect("deployment", "run", deployment, *parameters)
    prefect("worker", "start", "--pool", "spectile-cpu", "--run-once", "--limit", "1")


def test_a_real_worker_runs_the_deployment(prefect, make_scene, tmp_path):
    scene = make_scene((530, 540))
    settings = SceneSettings(str(scene), str(tmp_path / "here.zarr"), model="bands-repeat", block=512)
    out = tmp_path / "there.zarr"
    _run_on_a_worker(prefect, "process-scene/scene", scene=scene, out=out, model="bands-repeat", block=512)
    run_scene(settings)
    assert read_status(open_storage(out))["status"] == "complete"
    here, there = (zarr.open_group(path, mode="r")["reflectance"][:] for path in (settings.out, out))
    np.testing.assert_array_equal(here, there)


def test_a_real_worker_loads_the_training_flow(prefect, prefect_server, tmp_path):
    from prefect.client.orchestration import get_client

    # A recipe that cannot train ends at once, with its one line as the state's message.
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('name = "nothing"\n')
    _run_on_a_worker(prefect, "train-model/train", recipe=recipe, out=tmp_path / "out", data=tmp_path)
    with prefect_server.in_use(), get_client(sync_client=True) as client:
        (run,) = [each for each in client.read_flow_runs() if each.parameters.get("recipe") == str(recipe)]
    assert run.state.is_failed()
    assert "nothing: no scenes for training" in run.state.message


def test_a_deployment_refuses_parameters_outside_its_schema(prefect_server):
    from prefect.exceptions import ParameterTypeError

    from flows.scene import process_scene

    for outside in ({"device": "tpu"}, {"layers": ["q50"]}):
        with pytest.raises(ParameterTypeError):
            process_scene.validate_parameters({"scene": "a.tif", "out": "b.zarr", **outside})
