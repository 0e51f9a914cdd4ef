import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
import zarr

from spectile.flows.deployed.serve import POOLS
from spectile.flows.run.execute import run_scene
from spectile.flows.run.fusion import run_fusion
from spectile.flows.run.settings import FuseSettings, SceneSettings
from spectile.pipeline.cube.record import read_status
from spectile.pipeline.store.opening import open_storage
from tests.flows.run.pairs import write_pair

ROOT = Path(__file__).parents[3]


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

    def run(*arguments: str, module: tuple[str, ...] = ("prefect", "--no-prompt")) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *module, *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("deploy", module=("spectile.flows.deployed.serve",))
    return run


def _run_on_a_worker(prefect: Callable[..., str], deployment: str, **given: object) -> None:
    parameters = [part for name, value in given.items() for part in ("--param", f"{name}={value}")]
    prefect("deployment", "run", deployment, *parameters)
    prefect("worker", "start", "--pool", "spectile-cpu", "--run-once", "--limit", "1")


@pytest.mark.slow
def test_a_real_worker_runs_the_deployment(prefect, make_scene, tmp_path):
    scene = make_scene((530, 540))
    settings = SceneSettings(
        scene=str(scene), out=str(tmp_path / "here.zarr"), model="bands-repeat", block=512
    )
    out = tmp_path / "there.zarr"
    _run_on_a_worker(prefect, "process-scene/scene", scene=scene, out=out, model="bands-repeat", block=512)
    run_scene(settings)
    assert read_status(open_storage(out))["status"] == "complete"
    here, there = (zarr.open_group(path, mode="r")["reflectance"][:] for path in (settings.out, out))
    np.testing.assert_array_equal(here, there)


@pytest.mark.slow
def test_a_real_worker_fuses_a_pair(prefect, tmp_path):
    hsi, msi, _ = write_pair(tmp_path, (24, 24))
    given = {"hsi": hsi, "msi": msi, "model": "fuse:linear"}
    here, there = tmp_path / "here.zarr", tmp_path / "there.zarr"
    _run_on_a_worker(prefect, "process-fusion/fusion", out=there, **given)
    run_fusion(FuseSettings(out=str(here), **given))
    assert read_status(open_storage(there))["status"] == "complete"
    one, other = (zarr.open_group(path, mode="r")["reflectance"][:] for path in (here, there))
    np.testing.assert_array_equal(one, other)


@pytest.mark.slow
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


@pytest.mark.slow
def test_pools_limits_and_the_schedule_are_on_the_server(prefect, prefect_server):
    from prefect.client.orchestration import get_client

    with prefect_server.in_use(), get_client(sync_client=True) as client:
        there = {each.name: each for each in client.read_deployments()}
        pools = {each.name: (each.type, each.concurrency_limit) for each in client.read_work_pools()}
    assert pools == {"spectile-cpu": ("process", None), "spectile-gpu": ("process", 1)}
    assert {name: each.work_pool_name for name, each in there.items()} == {
        name: "spectile-gpu" if name.endswith("-gpu") else "spectile-cpu"
        for kind in ("scene", "flight-line", "fusion", "train", "watch")
        for name in (kind, f"{kind}-gpu")
    }
    (nightly,) = there["watch"].schedules
    assert (nightly.schedule.cron, nightly.active) == ("0 2 * * *", False)
    limits = {name: each.global_concurrency_limit for name, each in there.items()}
    assert {name for name, limit in limits.items() if limit and limit.limit == 1} == {
        "scene", "flight-line", "fusion", "train", "watch", "watch-gpu",
    }  # fmt: skip
    choices = there["watch"].parameter_openapi_schema["properties"]
    assert choices["device"]["enum"] == ["auto", "cpu", "cuda"]


@pytest.mark.slow
def test_a_schedule_that_is_switched_on_gives_runs(prefect, prefect_server):
    """Prefect inserts them in a way that SQLAlchemy 2.1 refuses, and tells of it in the server's log only."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
    from prefect.client.schemas.schedules import CronSchedule

    with prefect_server.in_use(), get_client(sync_client=True) as client:
        there = client.read_deployment_by_name("watch/watch-gpu").id
        client.create_deployment_schedules(there, [(CronSchedule(cron="0 0 1 1 *"), True)])
        # What the server does every minute where it does; this one is a lean one.
        client.request("POST", "/deployments/{id}/schedule", path_params={"id": there}, json={"min_runs": 1})
        runs = client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[there])))
    assert [run.state_name for run in runs] == ["Scheduled"]


def test_every_deployment_names_a_flow_a_pool_and_parameters_that_the_flow_takes():
    for each in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        path, _, name = each["entrypoint"].partition(":")
        flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
        schema = flow.parameters.model_dump()["properties"]
        assert each.get("parameters", {}).keys() <= schema.keys()
        assert each["work_pool"]["name"] in POOLS
        assert each["enforce_parameter_schema"]
        choices = {key for key, value in schema.items() if "enum" in value}
        assert choices >= {"device", "dtype", "nodata"} & schema.keys()
        environment = each["work_pool"]["job_variables"]["env"]
        assert (environment["DO_NOT_TRACK"], "CUDA_VISIBLE_DEVICES" in environment) == (
            "1", each["work_pool"]["name"] == "spectile-cpu",
        )  # fmt: skip


@pytest.mark.slow
def test_a_deployment_refuses_parameters_outside_its_schema(prefect_server):
    from prefect.exceptions import ParameterTypeError

    from spectile.flows.deployed.scene import process_scene

    for outside in ({"device": "tpu"}, {"layers": ["q50"]}):
        with pytest.raises(ParameterTypeError):
            process_scene.validate_parameters({"scene": "a.tif", "out": "b.zarr", **outside})
