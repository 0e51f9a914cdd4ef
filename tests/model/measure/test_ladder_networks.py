"""The ladder's trained rungs: how long they train, and how the cascade among them draws."""

from __future__ import annotations

import numpy as np
import pytest

from spectile.model.measure.ladder_networks import trained
from spectile.model.measure.ladder_training import Diffusion
from tests.model.measure.test_ladder import TEST, TRAIN, VAL


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ladder_regression", "ladder_networks"):
        monkeypatch.setattr(f"spectile.model.measure.{module}.BATCH", 2)


def test_samples_of_the_cascade_differ_and_are_fixed_by_their_seed() -> None:
    model = trained("cascade", steps=2)(*TRAIN, *VAL, seed=0)
    assert isinstance(model, Diffusion)
    drawn = model.samples(TEST[0], 3, seed=1)
    assert drawn.shape == (3, *TEST[1].shape)
    assert drawn.std(axis=0).max() > 0
    np.testing.assert_array_equal(drawn, model.samples(TEST[0], 3, seed=1))
    assert not np.array_equal(drawn, model.samples(TEST[0], 3, seed=2))


def test_the_length_of_training_is_chosen_or_given() -> None:
    chosen = trained("mlp", steps=8)(*TRAIN, *VAL, seed=0).chosen["steps"]
    assert chosen in (2, 4, 8)
    assert trained("mlp", steps=8, length=3)(*TRAIN, *VAL, seed=0).chosen["steps"] == 3
