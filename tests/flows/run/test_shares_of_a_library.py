"""The layer of shares, from a model that mixes a library to a cube that is stopped, damaged and repaired."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spectile.catalog.inputs import Batch
from spectile.flows.commands import app as cli
from spectile.flows.console.describe import describe_cube
from spectile.flows.run import execute, predictors
from spectile.flows.run.crew import DistantPredictor, describe_network
from spectile.flows.run.execute import run_scene
from spectile.flows.run.planning import prepare
from spectile.flows.run.settings import SceneSettings
from spectile.pipeline.block.predict import BandsRepeat, endmembers_of
from spectile.pipeline.cube.record import load_plan, open_cube
from spectile.pipeline.product.report import facts_of
from spectile.pipeline.product.view import open_view
from spectile.pipeline.store.opening import open_storage


class Mixer(BandsRepeat):
    """It mixes two spectra by how bright a pixel is."""

    endmembers = ("dark <soil>", "snow")

    def predict(self, batch: Batch, samples: range) -> Iterator[np.ndarray]:
        for spectra in super().predict(batch, samples):
            bright = np.clip(spectra.mean(axis=1, keepdims=True), 0, 1)
            yield np.concatenate([spectra, 1 - bright, bright], axis=1)


@pytest.fixture(autouse=True)
def _mixer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictors, "predictor_of", lambda settings, **_: Mixer())


def test_a_cube_of_shares_is_described_repaired_and_continued(settings: SceneSettings) -> None:
    settings = replace(settings, layers=("abundance", "quality"))
    _, result = run_scene(settings)
    assert describe_cube(settings.out)["layers"] == "quality, abundance"
    item = json.loads(Path(str(result.item)).read_text())
    assert item["properties"]["spectile:layers"] == ["quality", "abundance"]
    shares = facts_of(open_view(settings.out), load_plan(open_storage(settings.out)))["largest shares"]
    assert shares.startswith("dark <soil> ")
    assert "no materials" in shares
    cube = open_cube(settings.out)
    known = cube.valid.values == 1
    snow = cube.reflectance.mean("wavelength").values
    np.testing.assert_allclose(cube.abundance.sel(endmember="snow").values[known], snow[known], atol=1e-4)
    storage = open_storage(settings.out)
    before = {key: storage.get(key) for key in storage.walk() if key.startswith(("abundance", "endmember"))}
    storage.put("abundance/c/0/0/0", b"damaged")
    storage.put("endmember/zarr.json", b"{}")
    assert cli.main(["verify", settings.out]) == 1
    assert cli.main(["verify", settings.out, "--repair", "--scene", settings.scene]) == 0
    assert {key: storage.get(key) for key in before} == before
    storage.delete("ledger/r0000c0000.json")
    run_scene(replace(settings, resume=True))
    assert {key: storage.get(key) for key in before} == before


def test_the_plan_counts_the_bytes_of_shares(settings: SceneSettings) -> None:
    def planned(*layers: str) -> dict[str, int]:
        facts: dict[str, int] = execute.report(prepare(replace(settings, layers=layers), dry=True))["plan"]
        return facts

    plain, mixed = planned("quality"), planned("quality", "abundance")
    assert mixed["output_bytes"] - plain["output_bytes"] == 2 * 2 * 40 * 60
    assert mixed["peak_memory_bytes"] > plain["peak_memory_bytes"]


def test_a_worker_tells_the_names_of_its_library(settings: SceneSettings) -> None:
    described = describe_network(settings)
    assert isinstance(described, DistantPredictor)
    assert endmembers_of(described) == Mixer.endmembers
