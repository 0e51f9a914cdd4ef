"""The predictor that settings name, and what a tile of it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from spectile.catalog.errors import CheckpointError
from spectile.catalog.inputs import Batch
from spectile.flows.run import predictors
from spectile.flows.run.predictors import predictor_of, time_tile
from spectile.flows.run.settings import SceneSettings
from spectile.pipeline.block.predict import BandsRepeat

SETTINGS = SceneSettings(scene="a.tif", out="a.zarr", model="bands-repeat")


def test_the_stand_in_takes_the_batch_that_is_set() -> None:
    assert [predictor_of(replace(SETTINGS, batch=batch)).batch for batch in (None, 3)] == [1, 3]


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match="unknown model"):
        predictor_of(replace(SETTINGS, model="nothing"))


def test_a_tile_takes_its_share_of_the_quickest_of_three_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, calls = [0.0], []

    class Slow(BandsRepeat):
        def predict(self, batch: Batch, samples: range) -> Iterator[np.ndarray]:
            calls.append((len(batch), batch.rasters["rgb"].values.shape[-2:], len(samples)))
            now[0] += {1: 8.0, 2: 2.0, 3: 4.0}[len(calls)]
            yield np.zeros(1, np.float32)

    monkeypatch.setattr(predictors.time, "perf_counter", lambda: now[0])
    assert time_tile(Slow(batch=4), 32) == 2.0 / 4
    assert calls == [(4, (32, 32), 1)] * 3
