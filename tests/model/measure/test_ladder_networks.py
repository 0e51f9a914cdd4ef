"""The ladder's trained rungs: how long they train, and how the cascade among them draws."""

from __future__ import annotations

import numpy as np
import pytest

from spectile.model.closed.regressions import Floats
from spectile.model.measure.ladder_networks import Diffusion, trained


def _scene(seed: int, width: int = 24, bands: int = 12) -> tuple[Floats, Floats]:
    """Mixtures of three smooth spectra; the input is bands 9, 5 and 1."""
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 1, bands)[:, None]
    spectra = np.exp(-((at - np.array([0.1, 0.5, 0.9])) ** 2) / 0.1) + 0.1
    amount = rng.uniform(0.05, 0.5, (3, 16, width)).astype(np.float32)
    cube = np.tensordot(spectra, amount, 1).astype(np.float32)
    return cube[[9, 5, 1]], cube


TRAIN, VAL, TEST = _scene(0), _scene(1), _scene(2)


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
