"""Maps and indices of a fused window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spectile.model.fusion.consistency import hsi_difference, indices, msi_difference
from tests.model.fusion.scenes import case, pair_of


def test_the_truth_differs_from_both_scenes_by_their_noise() -> None:
    known, pair = case(), pair_of()
    truth = known.truth.astype(np.float32)
    maps = (hsi_difference(pair, known.window, truth), msi_difference(pair, known.window, truth))
    for found, noise in zip(maps, known.noise, strict=True):
        assert np.sqrt(np.square(found).mean()) == pytest.approx(noise, rel=0.1)


def test_masked_pixels_have_no_difference() -> None:
    window = case().window
    valid = window.hsi_valid.copy()
    valid[3, 5] = False
    found = hsi_difference(pair_of(), replace(window, hsi_valid=valid), case().truth.astype(np.float32))
    assert np.isnan(found[3, 5])
    assert np.isfinite(found).sum() == found.size - 1


def test_indices_are_small_for_the_truth_and_larger_for_less() -> None:
    window, pair = case().window, pair_of()
    best = indices(pair, window, case().truth.astype(np.float32))
    even = np.broadcast_to(pair.mean[:, None, None], case().truth.shape).astype(np.float32)
    worst = indices(pair, window, even + 0.05 * np.random.default_rng(0).random(even.shape, dtype=np.float32))
    assert 0.0 <= best.d_lambda < 0.1
    assert best.d_s < 0.1
    assert worst.d_lambda > 0.5
    assert worst.d_s > best.d_s
