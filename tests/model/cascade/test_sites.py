"""Each place is left out in turn, and what errors grow by there widens what the checkpoint promises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.catalog.calibration import Calibration
from spectile.model import checkpoint
from spectile.model.cascade.cascade import CascadeConfig, SpectralCascade, StageConfig
from spectile.model.cascade.config import TrainConfig
from spectile.model.cascade.means import Means, fit_means
from spectile.model.cascade.sites import SiteErrors, leave_sites_out, site_factor
from spectile.model.cascade.train import train
from spectile.model.data.crops import CropSource, TrainingScene
from spectile.model.measure.evaluation import evaluate, held_out_crops

STAGES = (StageConfig(3, 8, 1, 8, kernels=16), StageConfig(3, 8, 1, 8))
CONFIG = TrainConfig(crop=32)
NM = np.asarray(VNIR48.centre_nm)[:, None, None]


def scene(name: str, *, edge: float, site: str, first: int = 0, seed: int = 0) -> TrainingScene:
    """Grey levels of a place, whose red edge no colour shows; its bands from ``first`` on."""
    level = np.random.default_rng(seed).uniform(0.2, 0.6, (40, 40))
    cube = level * (1.0 + edge / (1.0 + np.exp(-(NM - 760.0) / 15.0)))
    bands = VNIR48.subset(list(range(first, 48)))
    return TrainingScene(name, cube[first:].astype(np.float32), bands, np.ones((40, 40), bool), 1.0, site)


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch):
    """A cascade of closed forms, fitted to scenes."""
    monkeypatch.setattr("spectile.model.data.crops.FIT_CROPS", 20)

    def fit(scenes: list[TrainingScene]) -> tuple[SpectralCascade, Means]:
        torch.manual_seed(0)
        model = SpectralCascade(CascadeConfig(VNIR48, RGB_CAMERA, stages=STAGES)).eval()
        return model, fit_means(model, CropSource(scenes, VNIR48, RGB_CAMERA), CONFIG)

    return fit


@pytest.fixture
def places() -> tuple[list[TrainingScene], list[TrainingScene]]:
    """Two places alike, of one of them two scenes, one unlike, and what is no place; with their strips."""
    known = [("a", 0.0, "alike"), ("b", 0.0, "alike"), ("c", 0.05, "near"), ("d", 1.0, "unlike")]
    parts = [[scene(name, edge=edge, site=site, seed=seed) for name, edge, site in known] for seed in (0, 1)]
    made_up = scene("simulated", edge=0.1, site="", seed=2)
    return [*parts[0], made_up], [*parts[1], made_up]


def test_errors_are_those_of_a_fit_without_the_whole_place(fitted, places):
    scenes, strips = places
    model, means = fitted(scenes)
    found = leave_sites_out(model, means, scenes, strips, CONFIG)
    assert set(found) == {"alike", "near", "unlike"}
    without, _ = fitted([each for each in scenes if each.site != "alike"])
    watch = CropSource([each for each in strips if each.site == "alike"], VNIR48, RGB_CAMERA)
    batch = watch.every_pixel((0, 8), size=32)
    for error, estimate in (
        (found["alike"].left_out, without.closed_form(batch.rgb)),
        (found["alike"].own, model.closed_form(batch.rgb)),
    ):
        squared = (estimate - batch.target).square().mean(1)
        expected = squared[batch.valid > 0].mean().sqrt().item()
        # The kernels lie where all scenes put them, and the penalties are those that suit all.
        assert error == pytest.approx(expected, rel=0.1)


def test_places_without_a_strip_or_without_which_nothing_is_left_are_passed_over(fitted, places):
    scenes, strips = places
    model, means = fitted(scenes)
    assert leave_sites_out(model, means, scenes, [each for each in strips if not each.site], CONFIG) == {}
    assert leave_sites_out(model, means, scenes[:2], strips[:2], CONFIG) == {}
    elsewhere = scene("e", edge=0.0, site="for validation alone")
    assert leave_sites_out(model, means, scenes, [elsewhere], CONFIG) == {}


def test_a_checkpoint_has_the_errors_and_a_calibration_as_wide(places, tmp_path, monkeypatch):
    monkeypatch.setattr("spectile.model.data.crops.FIT_CROPS", 10)
    monkeypatch.setattr("spectile.model.cascade.train.CALIBRATION_CROPS", 1)
    monkeypatch.setattr("spectile.model.cascade.train.CALIBRATION_SAMPLES", 4)
    config = TrainConfig(steps=2, batch=2, crop=40, warmup=1, validate_every=2)  # whole strips
    cascade = CascadeConfig(VNIR48, RGB_CAMERA, stages=STAGES)

    def trained(name: str) -> dict[str, Any]:
        train(config, cascade, *places, tmp_path / name, metadata={"name": name})
        return dict(checkpoint.load(tmp_path / name).metadata)

    here = trained("here")
    monkeypatch.setattr("spectile.model.cascade.train.leave_sites_out", lambda *_: {})
    nowhere = trained("nowhere")
    assert nowhere["sites"] == {}
    factor = site_factor({name: SiteErrors(**errors) for name, errors in here["sites"].items()})
    assert factor > 1.05
    for side in ("spread", "low", "high"):
        np.testing.assert_allclose(
            here["calibration"][side], factor * np.asarray(nowhere["calibration"][side]), rtol=1e-5
        )


def test_the_factor_is_the_geometric_mean_of_places_that_are_none_the_better_for_it():
    errors = {"a": SiteErrors(0.02, 0.08), "b": SiteErrors(0.02, 0.02), "c": SiteErrors(0.03, 0.01)}
    assert site_factor(errors) == pytest.approx(math.pow(4.0, 1 / 3))
    assert site_factor({}) == 1.0


def test_a_widened_calibration_covers_more(fitted, places):
    model, _ = fitted(places[0])
    torch.nn.init.constant_(model.stage(0).deviation, 0.3)
    source = CropSource([scene("new", edge=0.4, site="new", seed=5)], VNIR48, RGB_CAMERA)
    batch = held_out_crops(source, crops=2, size=32, seed=0)
    factors = Calibration(8, (1.0,) * 48, (-0.2,) * 48, (0.2,) * 48)

    def cover(factor: float) -> float:
        wide = factors.widened(factor)
        found = evaluate(model, batch, samples=8, seed=0, baselines={}, factors=wide)["calibrated_90"]
        assert isinstance(found, float)
        return found

    assert 0.0 < cover(1.0) < cover(2.0) < cover(1e4) == 1.0
    assert "calibrated_90" not in evaluate(model, batch, samples=2, seed=0, baselines={})
