"""A mixture that is known, learned from each kind of data."""

from __future__ import annotations

import numpy as np
import torch

from spectile.model.fusion.mixture import Mixture, Seen, fit_mixture
from spectile.model.fusion.posterior import PixelPosterior

CENTRES = np.array([[-4.0, 0.0, 1.0], [4.0, 1.0, -1.0]])


def _draw(count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    kind = generator.integers(2, size=count)
    return (CENTRES[kind] + 0.5 * generator.standard_normal((count, 3))).T


def test_noisy_values_give_back_the_components_without_their_noise() -> None:
    values = _draw(4000) + np.random.default_rng(1).standard_normal((3, 4000))
    seen = Seen(values, np.eye(3), np.eye(3), 1.0)
    found = fit_mixture([seen], np.eye(3), components=2, strength=1.0, start=values, seed=0)
    order = found.means[:, 0].argsort()
    np.testing.assert_allclose(found.means[order], CENTRES, atol=0.2)
    np.testing.assert_allclose(found.covariances, np.repeat(0.25 * np.eye(3)[None], 2, axis=0), atol=0.12)
    np.testing.assert_allclose(found.weights, 0.5, atol=0.05)


def test_what_is_seen_in_part_moves_the_whole_along() -> None:
    matrix = np.array([[1.0, 0.0, 0.0]])
    values = _draw(3000)
    whole = Seen(values[:, :100], np.eye(3), 1e-2 * np.eye(3), 1.0)
    part = Seen(matrix @ values, matrix, np.array([[1e-2]]), 1.0)
    found = fit_mixture([whole, part], np.eye(3), components=2, strength=1.0, start=values[:, :100], seed=0)
    order = found.means[:, 0].argsort()
    np.testing.assert_allclose(found.means[order], CENTRES, atol=0.2)


def test_one_component_has_the_moments_of_the_whole() -> None:
    mixture = Mixture(np.array([0.25, 0.75]), CENTRES, np.repeat(np.eye(3)[None], 2, axis=0))
    mean, covariance = mixture.single().moments()
    np.testing.assert_allclose(mean, 0.25 * CENTRES[0] + 0.75 * CENTRES[1])
    apart = CENTRES[1] - CENTRES[0]
    np.testing.assert_allclose(covariance, np.eye(3) + 0.25 * 0.75 * np.outer(apart, apart))


def test_a_strong_prior_keeps_components_near_to_it() -> None:
    values = _draw(50)
    seen = Seen(values, np.eye(3), 1e-3 * np.eye(3), 1.0)
    found = fit_mixture([seen], 9.0 * np.eye(3), components=2, strength=1e6, start=values, seed=0)
    np.testing.assert_allclose(found.covariances, np.repeat(9.0 * np.eye(3)[None], 2, axis=0), atol=0.01)


def test_the_seed_decides_the_start_and_nothing_else_does() -> None:
    values = _draw(200)
    seen = Seen(values, np.eye(3), np.eye(3), 1.0)
    one, other = (
        fit_mixture([seen], np.eye(3), components=3, strength=1.0, start=values, seed=5) for _ in range(2)
    )
    np.testing.assert_array_equal(one.means, other.means)


def test_components_are_never_left_without_a_density() -> None:
    # Two identical values: without the prior a covariance would be singular.
    values = np.zeros((3, 2))
    seen = Seen(values, np.eye(3), 1e-6 * np.eye(3), 1.0)
    found = fit_mixture([seen], np.eye(3), components=2, strength=1.0, start=values, seed=0)
    posterior = PixelPosterior.of(found, np.eye(3), 1e-6 * np.eye(3), dtype=torch.float64)
    assert bool(
        torch.isfinite(posterior.mean(torch.zeros(3, 1).double(), torch.full((2, 1), 0.5).double())).all()
    )
