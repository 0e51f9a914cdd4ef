"""The published values of SDP, and configurations that cannot be."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from spectile.catalog.errors import UsageError
from spectile.model.data.pairs import PairConfig
from spectile.model.sdp.preset import SdpConfig, SdpFusion, sdp_paper
from tests.model.sdp.priors import tiny_prior


def test_fixed_values_are_those_published() -> None:
    preset = sdp_paper()
    assert (len(preset.bands), preset.pair) == (103, PairConfig(8, 3.4, 15, (20.0, 30.0)))
    network, fusion, training = preset.network, preset.fusion, preset.training
    assert (network.layers, network.width, network.time_width, network.dropout) == (5, 512, 64, 0.001)
    assert (preset.timesteps, preset.steps, fusion.inner) == (1000, 1000, 3)
    assert (fusion.hsi_weight, fusion.prior_weight, fusion.learning_rate) == (0.1, 1e-3, 1e-3)
    assert (fusion.start, fusion.image_ema, fusion.weight_decay) == ("ones", 0.9, 1e-6)
    assert (training.iterations, training.batch, training.learning_rate) == (30_000, 512, 1e-2)
    assert (training.ema_decay, training.weight_decay) == (0.999, 1e-6)
    assert preset.schedule.alpha_bar_at(1) == pytest.approx(1 - 1e-4)


def test_a_configuration_survives_json() -> None:
    config = tiny_prior(scale=0.7)
    assert SdpConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 1001}, "times of the fusion"),
        ({"steps": 1000, "fusion": SdpFusion(inner=66)}, "Adam steps"),
        ({"pair": PairConfig(ratio=3, psf_sigma=1.0)}, "whole coarse pixels"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(tiny_prior(), **changes)
