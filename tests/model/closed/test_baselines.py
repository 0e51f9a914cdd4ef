"""Baselines recover what they can represent, and are chosen on validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spectile.catalog.errors import CheckpointError
from spectile.model import checkpoint
from spectile.model.closed.baselines import (
    Pixels,
    fit_lookup,
    fit_ridge,
    load_baselines,
    pixel_rmse,
    to_tensors,
)


def _pixels(seed: int, count: int = 3000) -> Pixels:
    rng = np.random.default_rng(seed)
    rgb = rng.uniform(0.02, 0.6, (count, 3)).astype(np.float32)
    r, g, b = rgb.T
    spectra = np.stack([r, r * g, b**2 + 0.1, g], axis=1).astype(np.float32)
    return Pixels(rgb, spectra)


def test_ridge_recovers_a_polynomial() -> None:
    ridge = fit_ridge(_pixels(0), _pixels(1))
    assert int(str(ridge.chosen["degree"])) >= 2
    assert pixel_rmse(ridge, _pixels(2)) < 1e-3


def test_ridge_is_bounded_beyond_its_training_range() -> None:
    ridge = fit_ridge(_pixels(0), _pixels(1))
    far = np.full((3, 1, 1), 50.0, dtype=np.float32)
    edge = np.full((3, 1, 1), 0.6, dtype=np.float32)
    assert np.allclose(ridge.predict(far), ridge.predict(edge), atol=1e-2)


def test_lookup_finds_the_nearest_spectra() -> None:
    lookup = fit_lookup(_pixels(0, 20000), _pixels(1), seed=0)
    assert pixel_rmse(lookup, _pixels(2)) < 0.02
    assert lookup.colours.shape[0] <= 4096


def test_predictions_keep_the_image_axes() -> None:
    pixels = _pixels(0)
    lookup = fit_lookup(pixels, _pixels(1), seed=0)
    rgb = np.moveaxis(pixels.rgb[:12].reshape(3, 4, 3), -1, 0)
    single = np.stack(
        [lookup.predict(rgb[:, r : r + 1, c : c + 1])[:, 0, 0] for r in range(3) for c in range(4)]
    )
    assert np.array_equal(lookup.predict(rgb), single.T.reshape(4, 3, 4))


def test_what_is_saved_predicts_the_same(tmp_path: Path) -> None:
    ridge, lookup = fit_ridge(_pixels(0), _pixels(1)), fit_lookup(_pixels(0), _pixels(1), seed=0)
    checkpoint.save(tmp_path, {}, {"name": "tiny"}, to_tensors(ridge, lookup))
    loaded = load_baselines(str(tmp_path))
    rgb = np.random.default_rng(3).uniform(0, 0.7, (3, 5, 5)).astype(np.float32)
    assert np.array_equal(loaded["ridge"].predict(rgb), ridge.predict(rgb))
    assert np.array_equal(loaded["lookup"].predict(rgb), lookup.predict(rgb))


def test_missing_baselines_are_one_line(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {}, {"name": "tiny"})
    with pytest.raises(CheckpointError, match="baselines"):
        load_baselines(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ridge/weight", torch.zeros(7, 6)),
        ("ridge/weight", torch.zeros(())),
        ("ridge/low", torch.zeros(4)),
        ("lookup/codes", torch.zeros(())),
        ("lookup/spectra", torch.zeros(1, 6)),
        ("lookup/neighbours", torch.tensor(0)),
        ("lookup/neighbours", torch.tensor(10**9)),
        ("lookup/odd", torch.zeros(3)),
    ],
)
def test_baselines_that_do_not_go_together_are_one_line(
    tmp_path: Path, name: str, value: torch.Tensor
) -> None:
    known = to_tensors(fit_ridge(_pixels(0), _pixels(1)), fit_lookup(_pixels(0), _pixels(1), seed=0))
    checkpoint.save(tmp_path, {}, {"name": "tiny"}, {**known, name: value})
    with pytest.raises(CheckpointError):
        load_baselines(str(tmp_path))
