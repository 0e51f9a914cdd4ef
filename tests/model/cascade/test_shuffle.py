"""The second stage of the shipped weights listens to the first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.model import checkpoint
from spectile.model.cascade.cascade import SpectralCascade
from spectile.model.cascade.shuffle import shuffle_factor
from spectile.model.data.crops import CropSource, TrainingScene
from spectile.model.registry import load_network


def test_coarse_bands_of_other_pixels_spoil_the_second_stage() -> None:
    rng = np.random.default_rng(0)
    level, slope = rng.uniform(0.05, 0.4, (2, 1, 64, 64))
    nm = (np.asarray(VNIR48.centre_nm)[:, None, None] - 380.0) / 670.0
    cube = (level + slope * nm).astype(np.float32)
    scene = TrainingScene("family", cube, VNIR48, np.ones((64, 64), bool))
    batch = CropSource([scene], VNIR48, RGB_CAMERA).every_pixel((0,), size=64, crops=2)
    shipped = load_network(checkpoint.load("vnir48"))
    assert isinstance(shipped, SpectralCascade)
    assert shuffle_factor(shipped, batch, seed=0) >= 2.0
    alone = torch.zeros_like(batch.valid)
    alone[0, 0, 0] = 1.0
    # A single pixel that counts can be given no other's bands.
    assert shuffle_factor(shipped, replace(batch, valid=alone), seed=0) == 1.0
