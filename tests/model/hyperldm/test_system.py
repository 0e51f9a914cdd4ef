"""The registry knows HyperLDM by its kind, and its published costs by their name."""

from __future__ import annotations

import pytest

from spectile.catalog.errors import CheckpointError
from spectile.model.checkpoint import load
from spectile.model.measure.benchmark import open_model
from spectile.model.registry import SYSTEMS


def test_it_is_in_the_registry_and_its_preset_has_a_name() -> None:
    system = SYSTEMS["hyperldm"]
    assert system.published is not None
    assert system.preset == "hyperldm-paper"
    with pytest.raises(CheckpointError, match=r"no weights are shipped.*hyperldm-paper\.toml"):
        load("hyperldm-paper")


def test_its_costs_can_be_measured_without_weights() -> None:
    predictor = open_model("hyperldm-paper", batch=1, device="cpu", dtype="float32")
    assert predictor.settings["steps"] == 100
    assert predictor.stride == 128
