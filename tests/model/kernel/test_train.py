"""A kernel regression is chosen, fitted and calibrated on places that are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.catalog.errors import UsageError
from spectile.model import checkpoint
from spectile.model.data.crops import Augmentation, CropSource
from spectile.model.kernel.config import KernelConfig, KernelTraining
from spectile.model.kernel.regression import KernelRegression
from spectile.model.kernel.train import train
from spectile.model.predict.predictor import load_predictor
from spectile.model.registry import load_network
from tests.model.kernel.places import place

CONFIG = KernelConfig(VNIR48, RGB_CAMERA, degree=2, kernels=24, components=4)
TRAINING = KernelTraining(crop=16, crops=20, augmentation=Augmentation(nominal=1.0, sensor_noise=0.0))


def _places():
    return place("one", 0), place("two", 1, edge=0.7), place("three", 2, edge=1.2, first=3)


def _fit(folder: Path, *sites) -> KernelRegression:
    return train(CONFIG, TRAINING, sites, [], folder, metadata={"name": "made-up"})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernel") / "model"
    _fit(folder, *_places())
    return folder


def test_a_new_place_of_known_materials_is_predicted(fitted: Path) -> None:
    model = load_network(checkpoint.load(fitted))
    batch = CropSource([place("new", 9)], VNIR48, RGB_CAMERA).every_pixel((0,), size=16)
    mean = model.sample(batch.rgb, lambda stage, step: torch.zeros(0), steps=1)
    assert batch.rmse(mean) < 0.04
    assert batch.rmse(batch.target.mean((0, 2, 3), keepdim=True).expand_as(mean)) > 0.08


def test_the_checkpoint_says_how_places_fare_that_are_left_out(fitted: Path) -> None:
    facts = checkpoint.load(fitted).metadata
    assert set(facts["sites"]) == {"one", "two", "three"}
    assert all(errors["left_out"] > errors["own"] for errors in facts["sites"].values())
    assert facts["chosen"]["degree"] in (1, 2)
    assert len(facts["calibration"]["spread"]) == 48


def test_intervals_cover_places_whose_infrared_differs(fitted: Path) -> None:
    predictor = load_predictor(str(fitted), seed=3)
    covered = []
    for seed, edge in ((10, 0.8), (11, 1.1)):
        batch = CropSource([place("new", seed, edge=edge)], VNIR48, RGB_CAMERA).every_pixel((0,), size=24)
        network = predictor.network
        draw = network.drawn_by(torch.Generator().manual_seed(0), len(batch.rgb), 24, 24)
        drawn = torch.stack([network.sample(batch.rgb, draw) for _ in range(16)])
        factors, deviation = predictor.calibration, drawn.std(0)
        low, high = (
            torch.tensor(part)[:, None, None].float() * deviation + drawn.mean(0)
            for part in (factors.low, factors.high)
        )
        covered.append(float(((batch.target >= low) & (batch.target <= high)).float().mean()))
    assert min(covered) > 0.7


def test_the_same_data_give_the_same_weights(fitted: Path, tmp_path: Path) -> None:
    again = _fit(
        tmp_path / "again", place("one", 0), place("two", 1, edge=0.7), place("three", 2, edge=1.2, first=3)
    )
    stored = checkpoint.load(fitted).tensors
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, stored[name], rtol=1e-4, atol=1e-6)


def test_one_place_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="got 1 places"):
        _fit(tmp_path / "model", place("one", 0))
    assert not (tmp_path / "model").exists()


def test_masked_and_odd_pixels_give_numbers(fitted: Path) -> None:
    network = load_network(checkpoint.load(fitted))
    scene = torch.tensor([0.0, 1e9, -1.0])[None, :, None, None].expand(1, 3, 4, 4).clone()
    mean = network.sample(scene, lambda stage, step: torch.zeros(0), steps=1)
    assert np.isfinite(mean.numpy()).all()
    assert 0.0 <= float(mean.min()) <= float(mean.max()) <= 1.6 + 1e-6
