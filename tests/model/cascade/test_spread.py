"""Samples are made as wide as their error, and the factors of each band are the quantiles they claim."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.model.cascade.cascade import CascadeConfig, SpectralCascade, StageConfig
from spectile.model.cascade.config import TrainConfig
from spectile.model.cascade.means import fit_means
from spectile.model.cascade.spread import _matching, _moments, calibrate_stages
from spectile.model.closed.factors import calibrate_bands
from spectile.model.data.crops import Batch, CropSource, TrainingScene
from spectile.model.measure.metrics import reliability

STAGES = (StageConfig(3, 8, 1, 8, kernels=16), StageConfig(3, 8, 1, 8))


def _scene() -> TrainingScene:
    """A level that the colour shows and a red edge that it does not."""
    rng = np.random.default_rng(0)
    nm = np.asarray(VNIR48.centre_nm)[:, None, None]
    level, edge = rng.uniform(0.2, 0.3, (64, 64)), rng.uniform(0.0, 0.3, (64, 64))
    cube = level + edge / (1.0 + np.exp(-(nm - 760.0) / 15.0))
    return TrainingScene("edges", cube.astype(np.float32), VNIR48, np.ones((64, 64), bool))


@pytest.fixture
def model_and_batch(monkeypatch: pytest.MonkeyPatch) -> tuple[SpectralCascade, Batch]:
    monkeypatch.setattr("spectile.model.data.crops.FIT_CROPS", 20)
    torch.manual_seed(0)
    source = CropSource([_scene()], VNIR48, RGB_CAMERA)
    model = SpectralCascade(CascadeConfig(VNIR48, RGB_CAMERA, stages=STAGES, members=2)).eval()
    fit_means(model, source, TrainConfig(crop=32))
    return model, source.batch((1,), count=2, size=32, augmentation=None)


@torch.inference_mode()
def test_calibrated_samples_spread_as_far_as_they_err(
    model_and_batch: tuple[SpectralCascade, Batch],
) -> None:
    model, batch = model_and_batch
    model.stage(0).deviation.fill_(0.2)  # far too sure

    def spread_skill() -> float:
        draw = model.drawn_by(torch.Generator().manual_seed(3), 1, *batch.rgb.shape[2:])
        drawn = [
            torch.cat([model.sample(rgb[None], draw, number=number) for rgb in batch.rgb])
            for number in range(12)
        ]
        return reliability(batch.target, torch.stack(drawn), batch.valid).spread_skill

    before = spread_skill()
    calibrate_stages(model, batch, seed=0)
    assert before < 0.6
    assert spread_skill() == pytest.approx(1.0, abs=0.15)


def test_the_spread_of_a_component_that_no_crop_shows_is_kept(
    model_and_batch: tuple[SpectralCascade, Batch],
) -> None:
    model, batch = model_and_batch
    calibrate_stages(model, replace(batch, valid=torch.zeros_like(batch.valid)), seed=0)
    assert torch.equal(model.stage(0).spread, torch.ones(3))


def test_the_factors_of_bands_cover_nine_tenths(model_and_batch: tuple[SpectralCascade, Batch]) -> None:
    model, batch = model_and_batch
    found = calibrate_bands(model, batch, samples=6, seed=0)
    draw = model.drawn_by(torch.Generator().manual_seed(0), 1, *batch.rgb.shape[2:])
    drawn = torch.stack(
        [
            torch.cat([model.sample(rgb[None], draw, number=number) for rgb in batch.rgb])
            for number in range(6)
        ]
    )
    low, high = (torch.tensor(side)[:, None, None] for side in (found.low, found.high))
    standard = (batch.target - drawn.mean(0)) / drawn.std(0)
    assert float(((standard >= low) & (standard <= high)).double().mean()) == pytest.approx(0.9, abs=0.05)


def test_what_is_drawn_on_average_is_error_and_no_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (1, 200, 200)
    left = 2.0 * torch.randn(1, *shape, generator=generator).expand(8, *shape)
    drawn = torch.randn(8, *shape, generator=generator)
    weight = torch.ones(shape)
    assert float(_matching(_moments(left, drawn, weight), 8)) == pytest.approx(2.0, rel=0.02)
    drawn = drawn + 0.5 * torch.randn(1, *shape, generator=generator)
    # s² (1 − 0.25) = 4.
    assert float(_matching(_moments(left, drawn, weight), 8)) == pytest.approx(2.309, rel=0.02)
