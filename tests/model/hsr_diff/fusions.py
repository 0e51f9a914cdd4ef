"""A tiny HSR-Diff and a scene that it learns from."""

from __future__ import annotations

from typing import Any

import numpy as np

from spectile.catalog.bands import Bands
from spectile.model.data.crops import TrainingScene
from spectile.model.data.pairs import PairConfig
from spectile.model.hsr_diff.preset import HsrDiffConfig, HsrDiffTraining, Phase
from spectile.model.networks.cdformer import CDFormerSizes

BANDS = Bands.evenly_spaced(450.0, 900.0, 6)
MSI = Bands((500.0, 650.0, 850.0), (80.0, 80.0, 80.0))
TRAINING = HsrDiffTraining(
    phases=(Phase(8, 2, 3), Phase(16, 1, 2, second_half=True)),
    learning_rate=1e-3, turn=True, ema_decay=0.5, ema_start=2, log_every=1, validate_every=1,
)  # fmt: skip


def tiny_config(training: HsrDiffTraining = TRAINING, **changes: Any) -> HsrDiffConfig:
    values: dict[str, Any] = {
        "pair": PairConfig(ratio=4, psf_sigma=1.7, snr_db=(30.0, 40.0)),
        "network": CDFormerSizes(width=8, layers=2, heads=2, window=4),
        "offset": 0.2, "scale": 0.2, "steps": 3,
    }  # fmt: skip
    return HsrDiffConfig(BANDS, MSI, training=training, **values | changes)


def scene(seed: int = 0, shape: tuple[int, int] = (20, 24), bands: Bands = BANDS) -> TrainingScene:
    """Two materials in smooth shares."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: shape[0], : shape[1]] / 6.0
    share = 0.5 + 0.5 * np.sin(rows + rng.uniform(0, 6)) * np.sin(cols + rng.uniform(0, 6))
    ends = np.linspace(0.1, 0.5, len(bands)), np.linspace(0.4, 0.2, len(bands))
    cube = sum(end[:, None, None] * part for end, part in zip(ends, (share, 1 - share), strict=True))
    return TrainingScene(f"scene {seed}", np.asarray(cube, np.float32), bands, np.ones(shape, bool), 1.0)
