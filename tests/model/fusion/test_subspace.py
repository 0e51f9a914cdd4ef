"""Noise and directions of spectra that were made for it."""

from __future__ import annotations

import numpy as np
import pytest

from spectile.model.fusion.subspace import clean_subspace, coefficients, find_subspace, noise_of_bands


def _spectra(count: int, noise: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(B, n) smooth spectra of three directions with and without noise."""
    generator = np.random.default_rng(seed)
    at = np.linspace(0.0, 1.0, len(noise))
    directions = np.stack([at, np.sin(3 * at), np.cos(2 * at)], axis=1)
    clean = 0.3 + 0.1 * directions @ generator.standard_normal((3, count))
    return clean, clean + noise[:, None] * generator.standard_normal(clean.shape)


def test_the_noise_of_each_band_is_found() -> None:
    noise = np.linspace(0.002, 0.006, 40)
    _, noisy = _spectra(2000, noise)
    np.testing.assert_allclose(noise_of_bands(noisy)[2:-2], noise[2:-2], rtol=0.15)


def test_what_stands_out_of_the_noise_is_kept_and_no_more() -> None:
    noise = np.full(60, 0.01)
    clean, noisy = _spectra(400, noise)
    found = find_subspace(noisy, noise)
    assert found.basis.shape == (60, 3)
    expected = clean_subspace(clean, noise)
    np.testing.assert_allclose(found.variances[:2], expected.variances[:2], rtol=0.1)
    # Pure noise has no direction; one is kept all the same.
    only = find_subspace(np.random.default_rng(1).standard_normal((60, 400)) * 0.01, noise)
    assert only.basis.shape == (60, 1)


def test_coefficients_have_noise_of_unit_variance() -> None:
    noise = np.linspace(0.005, 0.02, 60)
    clean, noisy = _spectra(3000, noise)
    found = clean_subspace(clean, noise)
    left = coefficients(found, noise, noisy) - coefficients(found, noise, clean)
    np.testing.assert_allclose(np.cov(left), np.eye(len(left)), atol=0.1)
    back = found.mean[:, None] + found.basis @ coefficients(found, noise, clean)
    assert np.abs(back - clean).max() < 1e-3


def test_few_spectra_give_smaller_variances_than_their_own() -> None:
    noise = np.full(60, 0.05)
    _, noisy = _spectra(20, noise)
    found = find_subspace(noisy, noise)
    sample = (
        np.linalg.svd((noisy - noisy.mean(1, keepdims=True)) / noise[:, None], compute_uv=False) ** 2 / 19
    )
    assert (found.variances < sample[: len(found.variances)]).all()
    assert found.variances[0] == pytest.approx(sample[0], rel=0.6)
