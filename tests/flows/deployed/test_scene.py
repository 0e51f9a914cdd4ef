import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import zarr

from spectile.flows.commands import app as cli
from spectile.flows.run import execute, planning, state
from spectile.flows.run.execute import run_scene
from spectile.flows.run.settings import SceneSettings, parameters_of
from spectile.pipeline import run
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.plan.plan import SHARD
from spectile.pipeline.plan.quality_layers import QUALITY
from spectile.pipeline.store.opening import open_storage

pytestmark = pytest.mark.slow  # whole runs on a Prefect server


def counts(path) -> np.ndarray:
    return zarr.open_group(path, mode="r")["reflectance"][:]


@pytest.fixture
def settings(make_scene, tmp_path) -> SceneSettings:
    scene = make_scene((530, 540), nodata=0, hole=(slice(100, 180), slice(0, 540)))
    return SceneSettings(
        scene=str(scene), out=str(tmp_path / "cube.zarr"), model="bands-repeat", block=512, samples=4,
        layers=("sd", "q95"),
    )  # fmt: skip


def test_the_flows_parameters_are_the_settings_with_their_defaults():
    from spectile.flows.deployed.scene import process_scene

    parameters = list(signature(process_scene.fn).parameters.values())
    assert [(each.name, each.default) for each in parameters] == [
        (each.name, each.default) for each in parameters_of(SceneSettings)
    ]
    assert [each.name for each in parameters[:3]] == ["scene", "out", "radiometry"]


def test_the_parameter_schema_has_the_choices_and_the_limits():
    from spectile.flows.deployed.scene import process_scene

    schema = process_scene.parameters.model_dump()["properties"]
    assert schema["device"]["enum"] == ["auto", "cpu", "cuda"]
    assert schema["nodata"]["enum"] == ["all", "any"]
    assert schema["samples"]["minimum"] == 1
    assert schema["seed"]["description"] == "Seed of the noise."
    (whole_shards,) = (each for each in schema["block"]["anyOf"] if each["type"] == "integer")
    assert whole_shards["multipleOf"] == SHARD
    (choices,) = (each for each in schema["layers"]["anyOf"] if each["type"] == "array")
    assert choices["items"]["enum"] == ["sd", "q05", "q95", *QUALITY, "abundance"]


@pytest.mark.usefixtures("with_quicklooks")
def test_the_flow_makes_the_same_cube_bit_for_bit(settings, prefect_server, monkeypatch):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter

    from spectile.flows.deployed.scene import process_scene

    monkeypatch.setattr(execute, "BLOCKS_A_RUN", 3)
    run_scene(settings)
    other = {**asdict(settings), "out": settings.out + ".2.zarr"}
    with prefect_server.in_use():
        state = process_scene(**other, return_state=True)
        report = state.result()
        with get_client(sync_client=True) as client:
            run = state.state_details.flow_run_id
            artifacts = {
                each.key or each.type: each for each in client.read_artifacts() if each.flow_run_id == run
            }
            tasks = client.read_task_runs(
                flow_run_filter=FlowRunFilter(id={"any_": [run]}), task_run_filter=TaskRunFilter()
            )
    assert isinstance(report["result"]["seconds"], float)
    assert (report["result"]["blocks_done"], report["result"]["blocks_failed"]) == (4, 0)
    json.dumps(report, allow_nan=False)
    for array in ("reflectance", "reflectance_sd", "reflectance_q95", "valid"):
        both = [zarr.open_group(path, mode="r")[array][:] for path in (settings.out, other["out"])]
        np.testing.assert_array_equal(*both)
    assert verify_cube(open_storage(other["out"])) == []
    assert artifacts["progress"].data == 100
    page = artifacts["cube"].data
    assert all(told in page for told in ("MPix/s", "quicklook.png", "report.html"))
    assert "![quicklook](data:image/jpeg;base64," in page
    assert not any("file://" in str(each.data) for each in artifacts.values())
    # Tasks reach the server as events, so the last ones may be on their way still.
    assert {"blocks r0000c0000 to r0001c0000", "blocks r0001c0001 to r0001c0001"} & {t.name for t in tasks}


def test_a_flow_with_failed_blocks_fails_and_keeps_its_report(settings, prefect_server, make_scene):
    from spectile.flows.deployed.scene import process_scene

    with Path(settings.scene).open("r+b") as file:
        file.truncate(Path(settings.scene).stat().st_size * 2 // 3)
    with prefect_server.in_use():
        state = process_scene(**asdict(settings), return_state=True)
    assert state.is_failed()
    assert "blocks failed" in state.message
    assert state.result(raise_on_failure=False)["result"]["blocks_failed"] > 0


def test_a_store_that_fails_once_is_tried_again(settings, prefect_server, monkeypatch):
    from spectile.flows.deployed import scene, stages

    real, calls = run.write_block, []

    def write_block(*args, **kwargs):
        calls.append(args[1].name)
        if len(calls) == 2:
            raise execute.StoreError("the share went away")
        return real(*args, **kwargs)

    monkeypatch.setattr(run, "write_block", write_block)
    monkeypatch.setattr(stages.process_run, "retry_delay_seconds", [0, 0])
    with prefect_server.in_use():
        report = scene.process_scene(**asdict(settings))
    assert calls == ["r0000c0000", "r0000c0001", "r0000c0001", "r0001c0000", "r0001c0001"]
    assert report["result"]["blocks_done"] == 4
    assert report["result"]["megapixels"] == pytest.approx(530 * 540 / 1e6)


def test_a_task_gives_back_what_all_of_its_tries_have_done(settings, monkeypatch):
    from spectile.flows.deployed import stages

    def write_block(*args, **kwargs):
        if args[1].name == "r0000c0001":
            raise execute.StoreError("the share went away")
        return real(*args, **kwargs)

    real = run.write_block
    with planning.prepare(replace(settings, block_retries=0)) as prepared:
        cube, blocks = execute.start_cube(prepared), prepared.plan.blocks
        asked = {"observer": state.Silent(), "first": blocks[0].name, "last": blocks[-1].name}
        with monkeypatch.context() as patch:
            patch.setattr(run, "write_block", write_block)
            with pytest.raises(execute.StoreError, match="went away"):
                stages.process_run.fn(prepared, cube, blocks, **asked)
        tally = stages.process_run.fn(prepared, cube, blocks, **asked).unquote()
    assert (tally.done, tally.pixels, tally.failures) == (len(blocks), 530 * 540, [])


def test_the_command_line_goes_through_the_flow_where_a_server_is_set(
    settings, prefect_server, monkeypatch, capsys
):
    from spectile.flows.deployed import scene

    seen = []
    real = scene.process_scene.with_options()
    monkeypatch.setattr(scene, "process_scene", lambda **given: seen.append(given) or real(**given))
    monkeypatch.setenv("PREFECT_API_URL", prefect_server.url)
    with prefect_server.in_use():
        code = cli.main(
            ["run", settings.scene, "--out", settings.out, "--model", "bands-repeat", "--block", "512"]
        )
    assert code == 0
    assert seen[0]["model"] == "bands-repeat"
    assert "4 of 4 done" in capsys.readouterr().out


def test_an_error_inside_the_flow_is_one_line_too(settings, prefect_server, monkeypatch, capsys):
    monkeypatch.setenv("PREFECT_API_URL", prefect_server.url)
    with prefect_server.in_use():
        code = cli.main(["run", settings.scene, "--out", settings.out, "--model", "nothing"])
    errors = capsys.readouterr().err
    assert code == 2
    assert errors.splitlines()[-1].startswith("spectile: error: unknown model")
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_server_of_its_own_serves_one_run_and_is_gone_afterwards(make_scene, tmp_path):
    scene, out = make_scene(), tmp_path / "cube.zarr"
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "spectile", "run", str(scene), "--out", str(out), "--prefect",
         "--model", "bands-repeat"],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert verify_cube(open_storage(out)) == []
    url = next(line for line in done.stderr.splitlines() if "http://127.0.0.1:" in line)
    port = url.rpartition(":")[2].partition("/")[0]
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"--port {port}" not in listing
    assert "Error logging" not in done.stderr
