"""The parts of a training step by themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spectile.model.hyperldm.steps import coarse, filled, rate
from tests.model.hyperldm.tiny import TRAINING


def test_the_code_counts_as_far_as_its_pixels_are_valid() -> None:
    valid = torch.ones(1, 4, 8)
    valid[:, :, :3] = 0.0
    assert coarse(valid, 4).tolist() == [[[0.25, 1.0]]]


def test_missing_bands_hold_the_nearest_one() -> None:
    cube = torch.arange(5.0)[None, :, None, None].expand(2, 5, 1, 1)
    bands = torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0], [1.0] * 5])
    assert filled(cube, bands)[:, :, 0, 0].tolist() == [[1, 1, 2, 2, 2], [0, 1, 2, 3, 4]]


def test_the_rate_rises_holds_and_falls_in_both_parts() -> None:
    training = replace(
        TRAINING, autoencoder_steps=100, diffusion_steps=50, learning_rate=2.0, diffusion_rate=3.0,
        warmup=10, hold=0.4, diffusion_hold=1.0,
    )  # fmt: skip
    assert [rate(training, step) for step in (0, 10, 40, 100, 149)] == [0.2, 2.0, 2.0, 0.3, 3.0]
    assert rate(training, 70) == pytest.approx(1.0)
    assert rate(training, 99) < 0.01
