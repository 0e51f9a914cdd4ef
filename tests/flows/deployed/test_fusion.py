"""The flow of a fusion: its parameters, and that it makes the cube that the command makes."""

from dataclasses import asdict, fields
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from spectile.flows.deployed.fusion import process_fusion
from spectile.flows.deployed.serve import ROOT
from spectile.flows.run import fused, fusion, predictors
from spectile.flows.run.settings import FuseSettings
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.pair.drift import Drift
from spectile.pipeline.store.opening import open_storage
from tests.flows.run.pairs import RATIO, Repeated, write_pair


def test_the_parameters_are_the_settings():
    known = process_fusion.parameters.model_dump()["properties"]
    assert set(known) == {field.name for field in fields(FuseSettings)}
    assert "description" in known["hsi"]


def test_there_is_a_deployment_for_each_pool():
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    pools = {
        each["name"]: each["work_pool"]["name"]
        for each in deployments
        if "process_fusion" in each["entrypoint"]
    }
    assert pools == {"fusion": "spectile-cpu", "fusion-gpu": "spectile-gpu"}


@pytest.mark.slow
def test_the_flow_makes_the_cube(tmp_path, monkeypatch, prefect_server):
    model = SimpleNamespace(facts=lambda: {"digest": "1" * 64, "method": "repeated"}, method="repeated")
    monkeypatch.setattr(fusion, "shift_of", lambda *_: fused.Shift(Drift(), np.zeros((0, 4))))
    monkeypatch.setattr(fusion, "estimate", lambda *_, **__: (model, {}))
    monkeypatch.setattr(fusion, "write_pair", lambda _: b"estimates")
    monkeypatch.setattr(predictors, "predictor_of", lambda *_, **__: Repeated())
    hsi, msi, _ = write_pair(tmp_path, (20, 24))
    settings = FuseSettings(hsi=hsi, msi=msi, out=str(tmp_path / "cube.zarr"))
    with prefect_server.in_use():
        report = process_fusion(**asdict(settings))
    assert report["result"]["blocks_failed"] == 0
    assert report["pair"]["ratio"] == RATIO
    assert verify_cube(open_storage(settings.out)) == []
