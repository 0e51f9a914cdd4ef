"""A Gaussian mixture of spectra in the subspace, learned from all that a pair shows, and its posterior.

Three kinds of data take part in one expectation maximisation: coarse spectra, which are noisy; sharp pixels
of the multispectral scene, which tell C numbers of each; and clean spectra, where somebody has them. Each
sees a through its own matrix, as in mixtures with missing data (Ghahramani and Jordan 1994).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STEPS = 40
"""Of expectation maximisation at most."""
ENOUGH = 1e-4
"""It ends where a step raises the mean log likelihood by less."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """Of M components in p dimensions."""

    weights: Floats
    """(M,), sum to one."""
    means: Floats
    """(M, p)."""
    covariances: Floats
    """(M, p, p)."""

    def moments(self) -> tuple[Floats, Floats]:
        """(p,) mean and (p, p) covariance of the whole."""
        mean = self.weights @ self.means
        apart = self.means - mean
        within = np.einsum("m,mpq->pq", self.weights, self.covariances)
        return mean, within + np.einsum("m,mp,mq->pq", self.weights, apart, apart)

    def single(self) -> Mixture:
        """The Gaussian of the same moments."""
        mean, covariance = self.moments()
        return Mixture(np.ones(1), mean[None], covariance[None])


@dataclass(frozen=True, eq=False)
class Seen:
    """Data of one kind: y = H a + n."""

    values: Floats
    """(C, n) y."""
    matrix: Floats
    """(C, p) H."""
    noise: Floats
    """(C, C) covariance of n."""
    weight: float
    """What one of the n counts."""


def fit_mixture(
    kinds: Sequence[Seen], prior: Floats, *, components: int, strength: float, start: Floats, seed: int
) -> Mixture:
    """The mixture under which the data are most likely, held near to a prior.

    Parameters
    ----------
    prior : (p, p) covariance that every component is drawn to …
    strength : … by so many pixels' worth.
    start : (p, n) values of a to find the first means in.
    seed : of the choice among them.
    """
    size = len(prior)
    scale = np.sqrt(np.diag(prior))
    means = _spread(start / scale[:, None], components, seed).T * scale
    covariances = np.repeat(prior[None] * (0.5 if components > 1 else 1.0), components, axis=0)
    mixture = Mixture(np.full(components, 1.0 / components), means, covariances)
    before = -np.inf
    for _ in range(STEPS):
        total, first = np.zeros(components), np.zeros((components, size))
        second, likelihood, counted = np.zeros((components, size, size)), 0.0, 0.0
        for seen in kinds:
            shares, log_likelihood, values, spread = _expectation(mixture, seen)
            shares *= seen.weight
            sums = shares.sum(axis=1)
            total += sums
            first += np.einsum("mn,mpn->mp", shares, values)
            # Σ w a aᵀ as matrix products, with the spread of what was not seen.
            second += (values * shares[:, None]) @ values.transpose(0, 2, 1) + sums[:, None, None] * spread
            likelihood += seen.weight * float(log_likelihood.sum())
            counted += seen.weight * seen.values.shape[1]
        means = first / np.maximum(total, 1e-9)[:, None]
        about = second - total[:, None, None] * means[:, :, None] * means[:, None, :]
        covariances = (about + strength * prior) / (total + strength)[:, None, None]
        covariances = (covariances + covariances.transpose(0, 2, 1)) / 2.0
        mixture = Mixture(np.maximum(total / total.sum(), 1e-12), means, covariances)
        if likelihood / counted - before < ENOUGH:
            break
        before = likelihood / counted
    return mixture


def _expectation(mixture: Mixture, seen: Seen) -> tuple[Floats, Floats, Floats, Floats]:
    """(M, n) shares, (n,) log likelihood, (M, p, n) expected a and its (M, p, p) covariance."""
    gain, factor, covariances = _gains(mixture, seen.matrix, seen.noise)
    apart = seen.values[None] - (mixture.means @ seen.matrix.T)[:, :, None]
    log_density = _log_density(mixture, factor, apart)
    highest = log_density.max(axis=0)
    shares = np.exp(log_density - highest)
    sums = shares.sum(axis=0)
    likelihood: Floats = highest + np.log(sums)
    probable: Floats = shares / sums
    expected: Floats = mixture.means[:, :, None] + gain @ apart
    return probable, likelihood, expected, covariances


def _gains(mixture: Mixture, matrix: Floats, noise: Floats) -> tuple[Floats, Floats, Floats]:
    """(M, p, C) gains, (M, C, C) Cholesky factors of the data's covariance, (M, p, p) what is left of a."""
    joint = mixture.covariances @ matrix.T
    data = matrix @ joint + noise
    gain = np.asarray(np.linalg.solve(data, joint.transpose(0, 2, 1)).transpose(0, 2, 1), dtype=np.float64)
    factor = np.asarray(np.linalg.cholesky(data), dtype=np.float64)
    left = mixture.covariances - gain @ joint.transpose(0, 2, 1)
    return gain, factor, (left + left.transpose(0, 2, 1)) / 2.0


def _log_density(mixture: Mixture, factor: Floats, apart: Floats) -> Floats:
    whitened = np.linalg.inv(factor) @ apart
    scale = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1) - np.log(mixture.weights)
    found: Floats = -0.5 * np.einsum("mcn,mcn->mn", whitened, whitened) - scale[:, None]
    return found


def _spread(values: Floats, count: int, seed: int) -> Floats:
    """(p, count) centres of the (p, n) values, by k-means++ (Arthur and Vassilvitskii 2007)."""
    generator = np.random.default_rng(seed)
    centres = values[:, generator.integers(values.shape[1])][:, None]
    for _ in range(count - 1):
        distance = _distances(values, centres).min(axis=0) + 1e-12
        at = generator.choice(values.shape[1], p=distance / distance.sum())
        centres = np.concatenate([centres, values[:, at][:, None]], axis=1)
    for _ in range(10):
        nearest = _distances(values, centres).argmin(axis=0)
        centres = np.stack(
            [
                values[:, nearest == one].mean(axis=1) if (nearest == one).any() else centres[:, one]
                for one in range(count)
            ],
            axis=1,
        )
    return centres


def _distances(values: Floats, centres: Floats) -> Floats:
    return np.stack([((values - centre[:, None]) ** 2).sum(axis=0) for centre in centres.T])
