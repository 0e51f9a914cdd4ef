"""The few directions in which spectra differ by more than noise, and the noise itself, from noisy spectra."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

Floats = NDArray[np.float64]

MOST = 12
"""Directions at most."""
SHARED = 100
"""Spectra, from which on the noise of each band is its own."""
NEIGHBOURS = 2
"""Bands on each side that a band is predicted from, to find its noise."""


class Subspace(NamedTuple):
    """Spectra are mean + E a, and the noise of the coarse scene is white and of unit variance in a."""

    mean: Floats
    """(B,) reflectance."""
    basis: Floats
    """(B, p) E, with Eᵀ diag(1 / noise²) E = 1."""
    variances: Floats
    """(p,) of the signal in a, in units of the noise's; the largest first."""


def noise_of_bands(spectra: Floats) -> Floats:
    """(B,) standard deviation of each band's noise, from the spectra (B, n) of a scene.

    A band is regressed on its neighbours, as in HySime (Bioucas-Dias and Nascimento 2008) on all others,
    which takes fewer spectra. What it differs by is its own noise and a weighted sum of theirs; they are
    taken to be as noisy as it is. What is narrower than the neighbours tell counts as noise.
    """
    bands, count = spectra.shape
    centred = spectra - spectra.mean(axis=1, keepdims=True)
    noise = np.empty(bands)
    for band in range(bands):
        around = range(max(band - NEIGHBOURS, 0), min(band + NEIGHBOURS + 1, bands))
        others = [at for at in around if at != band]
        if count <= len(others) + 2:
            noise[band] = centred[band].std()
            continue
        weights = np.linalg.lstsq(centred[others].T, centred[band], rcond=None)[0]
        left = centred[band] - weights @ centred[others]
        noise[band] = np.sqrt(left @ left / (count - 1 - len(others)) / (1.0 + weights @ weights))
    # Few spectra tell each band's noise badly; neighbouring bands then share theirs.
    shared = uniform_filter1d(np.square(noise), 1 + 2 * int(SHARED / count), mode="nearest")
    noise = np.sqrt(np.asarray(shared, dtype=np.float64))
    # A dead band would weigh infinitely.
    least = max(float(np.median(noise)) * 1e-2, float(np.finfo(np.float32).tiny))
    return noise.clip(least)


def find_subspace(spectra: Floats, noise: Floats, *, most: int = MOST) -> Subspace:
    """The directions of noisy spectra (B, n) that stand out of their noise, of (B,).

    Principal components of the spectra over their noise. In a spiked covariance model with γ = B / n, those
    above (1 + √γ)² (1 + 2 n^(−2/3)), which noise alone hardly reaches, are signal; their variances are freed
    of the noise's share (Baik and Silverstein 2006) and multiplied with the squared cosine between the
    component and the true direction (Paul 2007), to which the rest of the variance does not belong. One
    direction is kept where none stands out.
    """
    mean = spectra.mean(axis=1)
    left, power = _main_directions((spectra - mean[:, None]) / noise[:, None])
    count = max(spectra.shape[1] - 1, 1)
    gamma, sample = len(spectra) / count, power / count
    edge = (1.0 + np.sqrt(gamma)) ** 2 * (1.0 + 2.0 * count ** (-2.0 / 3.0))
    kept = int(np.clip((sample > edge).sum(), 1, min(most, len(sample))))
    sample = np.maximum(sample[:kept], (1.0 + np.sqrt(gamma)) ** 2 * (1.0 + 1e-9))
    spike = sample + 1.0 - gamma
    signal = (spike + np.sqrt(np.maximum(spike**2 - 4.0 * sample, 0.0))) / 2.0 - 1.0
    cosine = np.maximum((1.0 - gamma / signal**2) / (1.0 + gamma / signal), 1e-3)
    return Subspace(mean, left[:, :kept] * noise[:, None], signal * cosine)


def _main_directions(values: Floats) -> tuple[Floats, Floats]:
    """(B, m) orthonormal directions of values (B, n), and (m,) their sums of squares, the largest first.

    Of the matrix of the bands by themselves, which takes a fraction of a decomposition of all spectra; m is
    the smaller of B and n.
    """
    power, axes = np.linalg.eigh(values @ values.T)
    kept = slice(None, -min(values.shape) - 1, -1)
    return axes[:, kept], np.maximum(power[kept], 0.0)


def clean_subspace(spectra: Floats, noise: Floats, *, most: int = MOST) -> Subspace:
    """The main directions of spectra (B, n) without noise, down to a thousandth of the noise.

    Parameters
    ----------
    noise : (B,) standard deviation of the coarse scene's noise, in whose units bands are compared.
    """
    mean = spectra.mean(axis=1)
    left, power = _main_directions((spectra - mean[:, None]) / noise[:, None])
    variances = power / max(spectra.shape[1] - 1, 1)
    kept = int(np.clip((variances > 1e-3).sum(), 1, most))
    return Subspace(mean, left[:, :kept] * noise[:, None], variances[:kept])


def coefficients(subspace: Subspace, noise: Floats, spectra: Floats) -> Floats:
    """(p, n) a of spectra (B, n)."""
    weights = subspace.basis / noise[:, None] ** 2
    found: Floats = weights.T @ (spectra - subspace.mean[:, None])
    return found
