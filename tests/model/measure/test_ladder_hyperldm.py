"""HyperLDM on the ladder: its library, its two halves, and its samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spectile.model.cascade.config import TrainConfig
from spectile.model.closed.regressions import pixels_of
from spectile.model.hyperldm.network import HyperLdm
from spectile.model.measure.ladder_hyperldm import ENDMEMBERS, HyperRung, config_of
from spectile.model.measure.ladder_training import STILL, PairSource
from tests.model.measure.test_ladder import TRAIN, VAL


def test_the_library_is_made_of_pixels_that_the_rung_is_fitted_to() -> None:
    config = config_of(PairSource(*TRAIN))
    assert config.endmembers == ENDMEMBERS
    pixels = {tuple(map(float, one)) for one in pixels_of(TRAIN[1])}
    assert {one.reflectance for one in config.library} <= pixels


def test_the_code_is_measured_between_the_halves_and_samples_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectile.model.measure.ladder_hyperldm.CALIBRATION_SAMPLES", 2)
    monkeypatch.setattr("spectile.model.hyperldm.steps.STATISTICS_BATCHES", 2)
    source = PairSource(*TRAIN)
    torch.manual_seed(0)
    config = TrainConfig(steps=2, batch=1, crop=16, learning_rate=1e-3, warmup=1, seed=0, augmentation=STILL)
    rung = HyperRung(source, config)
    first = {name: value.clone() for name, value in rung.module.denoiser.named_parameters()}
    rung.step(source, 0)
    assert all(torch.equal(value, first[name]) for name, value in rung.module.denoiser.named_parameters())
    rung.step(source, 1)
    assert any(not torch.equal(v, first[name]) for name, v in rung.module.denoiser.named_parameters())
    averaged = HyperLdm(rung.module.config).eval()
    model = rung.fitted(averaged, 2, averaged, *VAL)
    assert torch.equal(averaged.latent_scale, rung.module.latent_scale)
    drawn = model.samples(VAL[0], 2, seed=1)
    assert drawn.shape == (2, *VAL[1].shape)
    assert np.abs(drawn[0] - drawn[1]).max() > 0
    assert model.facts["kind"] == "hyperldm"
