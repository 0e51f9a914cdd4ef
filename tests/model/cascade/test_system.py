"""The compact cascade behind the common door."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.model.cascade import system
from spectile.model.cascade.cascade import CascadeConfig, SpectralCascade, StageConfig
from spectile.model.cascade.config import TrainConfig
from spectile.model.cascade.system import SYSTEM
from spectile.model.data.crops import Batch

CONFIG = CascadeConfig(
    VNIR48, RGB_CAMERA, stages=(StageConfig(2, 8, 1, 8, kernels=8), StageConfig(3, 8, 1, 8))
)


def test_a_checkpoint_without_a_cascade_is_none() -> None:
    assert SYSTEM.config({"cascade": CONFIG.to_json()}) == CONFIG
    with pytest.raises(KeyError):
        SYSTEM.config({"preset": CONFIG.to_json()})


def test_the_trainer_gets_the_configuration_after_how_to_train(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(system, "train", lambda *given, **named: seen.extend([*given, named]))
    SYSTEM.train(CONFIG, TrainConfig(), [], [], "out", metadata={}, device="cpu", progress=print)  # type: ignore[arg-type]
    assert seen == [
        TrainConfig(),
        CONFIG,
        [],
        [],
        "out",
        {"metadata": {}, "device": "cpu", "progress": print},
    ]


@torch.inference_mode()
def test_the_second_stage_is_checked_only_where_every_crop_has_every_band() -> None:
    torch.manual_seed(0)
    model, crops = SpectralCascade(CONFIG).eval(), torch.rand(2, 48, 16, 16) * 0.4
    batch = Batch(
        crops[:, [16, 11, 6]],
        crops,
        torch.ones(2, 48),
        torch.ones(2, 16, 16),
        torch.ones(2),
        torch.zeros(2).long(),
    )
    assert set(SYSTEM.checks(model, batch, 0)) == {"shuffle_factor"}
    lacking = batch.bands.clone()
    lacking[1, 40] = 0.0
    assert SYSTEM.checks(model, replace(batch, bands=lacking), 0) == {}
