"""The held-out table: what is in it for each kind of model, and what its numbers are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.catalog.calibration import Calibration
from spectile.model.cascade.cascade import CascadeConfig, StageConfig
from spectile.model.data.crops import Batch
from spectile.model.measure.evaluation import evaluate, groups
from spectile.model.system import DrawStage, Network

CONFIG = CascadeConfig(VNIR48, RGB_CAMERA, stages=(StageConfig(2, 8, 1, 8), StageConfig(3, 8, 1, 8)))


class Known(Network):
    """Its samples are the truth plus noise of a known size; one step leaves the noise out."""

    def __init__(self, truth: Tensor, sd: float) -> None:
        super().__init__()
        self.config, self.truth, self.sd = CONFIG, truth, sd
        self.stages = nn.ModuleList([nn.Identity()])
        self.anchor = nn.Parameter(torch.zeros(1))

    def drawn_by(self, generator: torch.Generator, count: int, height: int, width: int) -> DrawStage:
        return lambda stage, step: torch.randn((count, 48, height, width), generator=generator)

    def finish(self, begun: Tensor, draw: DrawStage, *, steps: int | None = None, number: int = 0) -> Tensor:
        return self.truth + (0.0 if steps == 1 else self.sd * draw(0, 0))

    def estimates(self, rgb: Tensor) -> Mapping[str, Tensor]:
        return {"brighter": self.truth + 0.1}


class Grey:
    """A baseline that is off by 0.02 everywhere."""

    def predict(self, rgb: np.ndarray) -> np.ndarray:
        return np.full((48, *rgb.shape[1:]), 0.32, np.float32)


@pytest.fixture
def batch() -> Batch:
    bands = torch.ones(1, 48)
    bands[:, 40:] = 0.0
    target = torch.full((1, 48, 24, 24), 0.3)
    return Batch(
        torch.full((1, 3, 24, 24), 0.3),
        target,
        bands,
        torch.ones(1, 24, 24),
        torch.ones(1),
        torch.zeros(1).long(),
    )


def test_the_table_has_the_error_of_every_estimate(batch: Batch) -> None:
    table = evaluate(Known(batch.target, 0.01), batch, samples=8, seed=0, baselines={"grey": Grey()})
    assert table["bands"] == 40
    assert table["one_step"]["rmse"] == 0.0
    assert table["brighter"]["rmse"] == pytest.approx(0.1, abs=1e-4)
    assert table["grey"]["rmse"] == pytest.approx(0.02, abs=1e-4)
    assert table["sample"]["rmse"] == pytest.approx(0.01, rel=0.05)
    assert table["mean_of_samples"]["rmse"] == pytest.approx(0.01 / 8**0.5, rel=0.05)
    assert table["spread"] == pytest.approx(0.01, rel=0.02)


def test_calibrated_intervals_are_counted_where_factors_are_known(batch: Batch) -> None:
    wide, none = Calibration(8, (1.0,) * 48, (-9.0,) * 48, (9.0,) * 48), Known(batch.target, 0.01)
    table = evaluate(none, batch, samples=8, seed=0, baselines={}, factors=wide)
    assert table["calibrated_90"] == 1.0
    assert "calibrated_90" not in evaluate(none, batch, samples=8, seed=0, baselines={})


def test_scenes_are_grouped_by_the_first_part_of_their_names() -> None:
    assert groups(["a/1", "b", "a/2/held_out"]) == {"a": [0, 2], "b": [1]}
