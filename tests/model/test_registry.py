"""Every kind of model through the same doors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.catalog.errors import CheckpointError
from spectile.model import checkpoint
from spectile.model.cascade.cascade import CascadeConfig, StageConfig
from spectile.model.kernel.config import KernelConfig
from spectile.model.predict.predictor import load_predictor
from spectile.model.registry import SYSTEMS, load_config, load_network
from spectile.model.scdm.preset import scdm_paper
from spectile.model.system import Network
from tests.model.hsr_diff.fusions import tiny_config
from tests.model.hyperldm.tiny import compact
from tests.model.sdp.priors import tiny_prior

SIZES = {
    "width": 8,
    "multipliers": (1, 1),
    "blocks": 1,
    "attention_levels": (1,),
    "time_width": 8,
    "groups": 4,
}
FUSIONS = {"hsr-diff": tiny_config, "sdp": tiny_prior}


def _tiny(kind: str) -> Network:
    torch.manual_seed(0)
    if kind == "cascade":
        stages = StageConfig(2, 8, 1, 8, kernels=8), StageConfig(3, 8, 1, 8)
        return SYSTEMS[kind].build(CascadeConfig(VNIR48, RGB_CAMERA, stages=stages)).eval()
    if kind == "kernel-ridge":
        return SYSTEMS[kind].build(KernelConfig(VNIR48, RGB_CAMERA, 2, kernels=4, components=3)).eval()
    if kind in FUSIONS:
        return SYSTEMS[kind].build(FUSIONS[kind]()).eval()
    if kind == "hyperldm":
        return SYSTEMS[kind].build(compact()).eval()
    preset = scdm_paper("houston")
    stages_ = tuple(replace(stage, network=replace(stage.network, **SIZES)) for stage in preset.stages)
    return SYSTEMS[kind].build(replace(preset, stages=stages_, steps=2)).eval()


def _saved(kind: str, folder: Path) -> Network:
    network = _tiny(kind)
    key = "cascade" if kind == "cascade" else "preset"
    named = {} if kind == "cascade" else {"kind": kind}
    fill = [0.1 + 0.01 * channel for channel in range(network.channels)]
    facts = {"name": "tiny", "fill": fill, key: network.config.to_json(), **named}
    checkpoint.save(folder, network.state_dict(), facts)
    return network


@pytest.mark.parametrize("kind", SYSTEMS)
def test_a_checkpoint_of_any_kind_gives_back_its_network(kind: str, tmp_path: Path) -> None:
    network = _saved(kind, tmp_path)
    loaded = checkpoint.load(tmp_path)
    again = load_network(loaded)
    assert load_config(loaded) == again.config == network.config
    assert not again.training
    for name, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("kind", SYSTEMS)
def test_a_predictor_without_weights_says_what_one_with_them_says(kind: str, tmp_path: Path) -> None:
    _saved(kind, tmp_path)
    whole, known = (load_predictor(str(tmp_path), device="cpu", weights=weights) for weights in (True, False))
    for name in ("settings", "bands", "inputs", "stride", "batch", "calibration"):
        assert getattr(known, name) == getattr(whole, name), name
    assert known.memory(64) == whole.memory(64)


@pytest.mark.parametrize("kind", SYSTEMS)
def test_noise_has_the_shape_that_a_sample_is_made_of(kind: str) -> None:
    network = _tiny(kind)
    draw = network.drawn_by(torch.Generator().manual_seed(0), 2, 16, 16)
    with torch.inference_mode():
        specs = network.inputs([0.2] * network.channels)
        sides = [(2, len(spec.bands), 16 // spec.ratio, 16 // spec.ratio) for spec in specs]
        cube = network.sample([torch.full(side, 0.2) for side in sides], draw, steps=2)
    assert cube.shape == (2, len(network.config.bands), 16, 16)
    for index in range(len(network.stages)):
        side = 16 // network.lattice
        assert draw(index, 1).shape == (2, network.stage(index).config.components, side, side)


def test_an_unknown_kind_is_one_line(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"a": torch.zeros(2)}, {"name": "n", "kind": "other", "fill": [0.1, 0.2, 0.3]})
    with pytest.raises(CheckpointError, match="unknown kind of model") as caught:
        load_predictor(str(tmp_path), device="cpu")
    assert "\n" not in str(caught.value)
