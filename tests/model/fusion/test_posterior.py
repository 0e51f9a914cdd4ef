"""The posterior of a mixture against sums over a grid of draws."""

from __future__ import annotations

import numpy as np
import torch

from spectile.model.fusion.mixture import Mixture
from spectile.model.fusion.posterior import PixelPosterior

MIXTURE = Mixture(
    np.array([0.3, 0.7]),
    np.array([[-1.0, 0.5], [1.0, -0.5]]),
    np.array([[[0.5, 0.1], [0.1, 0.3]], [[0.2, 0.0], [0.0, 0.4]]]),
)
MATRIX, NOISE = np.array([[1.0, 0.5]]), np.array([[0.1]])


def _weighed() -> tuple[np.ndarray, np.ndarray]:
    """Draws of a, and how likely each is for a z of 0.4."""
    generator = np.random.default_rng(0)
    kind = (generator.random(400_000) > 0.3).astype(int)
    factor = np.linalg.cholesky(MIXTURE.covariances)
    drawn = MIXTURE.means[kind] + np.einsum(
        "npq,nq->np", factor[kind], generator.standard_normal((len(kind), 2))
    )
    weight = np.exp(-0.5 * (0.4 - drawn @ MATRIX[0]) ** 2 / NOISE[0, 0])
    return drawn, weight / weight.sum()


def test_mean_and_variance_are_those_of_weighed_draws() -> None:
    drawn, weight = _weighed()
    posterior = PixelPosterior.of(MIXTURE, MATRIX, NOISE, dtype=torch.float64)
    z = torch.full((1, 1), 0.4, dtype=torch.float64)
    shares = posterior.shares(z)
    mean = posterior.mean(z, shares)
    np.testing.assert_allclose(mean[:, 0], weight @ drawn, atol=0.01)
    angle = 0.3
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = posterior.turned(torch.from_numpy(axes))
    found = turned.variance(z, shares, turned.mean(z, shares))
    expected = weight @ np.square((drawn - weight @ drawn) @ axes)
    np.testing.assert_allclose(found[:, 0], expected, rtol=0.03)
    np.testing.assert_allclose(
        torch.diagonal(torch.from_numpy(axes).T @ posterior.covariance(z) @ torch.from_numpy(axes)),
        found[:, 0],
    )


def test_a_pixel_far_from_everything_has_shares_all_the_same() -> None:
    posterior = PixelPosterior.of(MIXTURE, MATRIX, NOISE)
    shares = posterior.shares(torch.tensor([[1e4, -1e4]]))
    torch.testing.assert_close(shares.sum(0), torch.ones(2))
