"""Training through Prefect: one flow run with its artifacts, and a deployment that a worker loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spectile.catalog.errors import UsageError
from spectile.flows.deployed.server import LocalServer
from spectile.flows.training.train import is_storage_failure
from spectile.model import checkpoint


@pytest.fixture
def recipe(tiny_recipe: str) -> str:
    """The tiny recipe with three cameras and the curves of each step."""
    responses = 'responses = ["rgb_camera", "worldview3", {nearest_nm = [640.0, 550.0, 460.0]}]'
    text = tiny_recipe.replace("[[stages]]", f"{responses}\n[[stages]]", 1)
    return text.replace("[simulator]", "log_every = 1\naugmentation = {gamma = 0.1}\n[simulator]")


@pytest.mark.slow
@pytest.mark.usefixtures("quick_fits")
def test_the_flow_trains_and_shows_curves_samples_and_the_table(
    prefect_server: LocalServer, recipe: str, tmp_path: Path
) -> None:
    from prefect.client.orchestration import get_client

    from spectile.flows.deployed.train import train_model

    path, out = tmp_path / "recipe.toml", tmp_path / "out"
    path.write_text(recipe)
    with prefect_server.in_use():
        state = train_model(str(path), str(out), str(tmp_path), return_state=True)
        table = state.result()
        with get_client(sync_client=True) as client:
            run = state.state_details.flow_run_id
            artifacts = {
                each.key or each.type: each for each in client.read_artifacts() if each.flow_run_id == run
            }
    facts = checkpoint.load(out).metadata
    assert facts["held_out"] == table
    assert [each["weight"] for each in facts["training"]["augmentation"]["responses"]] == [1.0, 1.0, 1.0]
    assert artifacts["progress"].data == 100
    assert "ridge" in artifacts["held-out"].data
    for name in ("curves", "samples"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"{name}.png" in artifacts[name].data
        assert "](data:image/jpeg;base64," in artifacts[name].data


@pytest.mark.slow
def test_a_recipe_with_a_mistake_is_not_tried_again(
    prefect_server: LocalServer, recipe: str, tmp_path: Path
) -> None:
    from spectile.flows.deployed.train import train_model

    (tmp_path / "recipe.toml").write_text(recipe.replace("worldview3", "worldview9"))
    with prefect_server.in_use():
        state = train_model(str(tmp_path / "recipe.toml"), str(tmp_path / "out"), return_state=True)
    assert state.is_failed()
    assert "unknown sensor" in state.message
    assert not (tmp_path / "out").exists()


def test_only_a_failing_disk_is_tried_again() -> None:
    class Ended:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def result(self) -> Any:
            raise self.error

    assert is_storage_failure(None, None, Ended(OSError("the share went away")))
    assert not is_storage_failure(None, None, Ended(UsageError("no such recipe")))
