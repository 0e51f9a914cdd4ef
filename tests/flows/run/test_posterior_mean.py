"""One solver step is the posterior mean: it says so, and is not taken for samples."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from spectile.catalog.errors import UsageError
from spectile.flows.run.planning import prepare
from spectile.flows.run.settings import SceneSettings
from spectile.pipeline.simulate.scene import Simulator


def test_one_step_is_announced_and_refuses_samples(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene, out = tmp_path / "scene.tif", str(tmp_path / "cube.zarr")
    Simulator(seed=1, shape=(64, 64)).write_rgb(scene)
    with caplog.at_level(logging.INFO, "spectile"):
        prepared = prepare(SceneSettings(scene=str(scene), out=out, steps=1))
    assert "posterior mean" in caplog.text
    assert prepared.plan.settings["model"]["estimate"] == "posterior mean"  # type: ignore[index]
    with pytest.raises(UsageError, match="equal samples"):
        prepare(SceneSettings(scene=str(scene), out=out, steps=1, samples=4))
