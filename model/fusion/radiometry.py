"""How the two scenes of a pair see the same ground: response, gain and offset, noise, and changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve
from scipy.optimize import nnls
from scipy.stats import chi2

from spectile.catalog.bands import Bands, resampling_matrix
from spectile.catalog.errors import SceneError
from spectile.model.data.degrade import CENTRED, Sampling, coarsen, taps
from spectile.model.fusion.pair import PairWindow
from spectile.model.fusion.subspace import Subspace, coefficients

Floats = NDArray[np.float64]

COVERED = 0.99
"""Share of a coarse pixel's PSF that must lie on valid fine pixels for the two to be compared."""
UNCHANGED = 0.9973
"""Share of unchanged coarse pixels that pass: what lies within 3 σ of one normal number."""
FOLDS = 5
BLOCK = 8
QUIET = 0.1
"""The MSI's noise is taken from this share of its blocks, the smoothest."""
LEAST_NOISE = 1e-4
"""Noise below this is not believed, reflectance."""
_HIGH_PASS = np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0]) / 6.0
"""Immerkær (1996): zero on any bilinear surface, and of unit gain for white noise."""


@dataclass(frozen=True, eq=False)
class Compared:
    """Coarse pixels of all windows in which both scenes can be compared."""

    hsi: Floats
    """(B, n)."""
    msi: Floats
    """(C, n) the MSI averaged over their PSF."""
    contrast: Floats
    """(C, n) variance of the MSI under their PSF."""


def averaged(
    window: PairWindow, ratio: int, sigma: tuple[float, float], sampling: Sampling = CENTRED
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """(C, h, w) mean and variance of the MSI under each coarse PSF, and (h, w) where it can be compared."""
    valid = window.msi_valid.astype(np.float64)
    msi = np.where(window.msi_valid, window.msi, 0.0).astype(np.float64)
    share = coarsen(valid[None], ratio, sigma, **sampling)[0]
    scale = 1.0 / np.maximum(share, 1e-6)
    mean = coarsen(msi, ratio, sigma, **sampling) * scale
    square = coarsen(msi**2, ratio, sigma, **sampling) * scale
    return mean, np.maximum(square - mean**2, 0.0), window.hsi_valid & (share >= COVERED)


def compare(
    windows: Sequence[PairWindow], ratio: int, sigma: tuple[float, float], sampling: Sampling = CENTRED
) -> Compared:
    """All coarse pixels that can be compared.

    Raises
    ------
    SceneError : there are too few to learn from.
    """
    hsi, msi, contrast = [], [], []
    for window in windows:
        mean, variance, ok = averaged(window, ratio, sigma, sampling)
        hsi.append(window.hsi[:, ok].astype(np.float64))
        msi.append(mean[:, ok])
        contrast.append(variance[:, ok])
    if sum(part.shape[1] for part in hsi) < 8:
        raise SceneError(
            "the two scenes share too few valid pixels", got=sum(part.shape[1] for part in hsi),
            expected="8 coarse pixels or more", remedy="check that they overlap and are not masked",
        )  # fmt: skip
    return Compared(*(np.concatenate(parts, axis=1) for parts in (hsi, msi, contrast)))


@dataclass(frozen=True, eq=False)
class Radiometry:
    """Z = gain · (R X) + offset."""

    response: Floats
    """(C, B)."""
    gain: Floats
    """(C,)."""
    offset: Floats
    """(C,) reflectance."""

    def left(self, hsi: Floats, msi: Floats) -> Floats:
        """(C, n) the averaged MSI minus what the HSI says that it should be."""
        return msi - self.gain[:, None] * (self.response @ hsi) - self.offset[:, None]


def table_response(hsi_bands: Bands, msi_bands: Bands) -> Floats:
    """(C, B) R from the sensors' tables.

    Raises
    ------
    SceneError : the HSI does not cover a band of the MSI.
    """
    matrix, covered = resampling_matrix(hsi_bands, msi_bands)
    if not covered.all():
        missing = [f"{msi_bands.centre_nm[at]:g} nm" for at in np.flatnonzero(~covered)]
        raise SceneError(
            "the hyperspectral scene does not cover a band of the sharp one",
            got=", ".join(missing), expected=f"within {hsi_bands}", remedy="leave that band out",
        )  # fmt: skip
    return matrix


def fit_radiometry(
    pixels: Compared, subspace: Subspace, noise: Floats, *, table: Floats | None, scaled: bool, fitted: bool
) -> Radiometry:
    """The radiometry of a pair.

    Parameters
    ----------
    table : (C, B) R of the sensor's tables; None if nobody knows it.
    scaled : fit gain and offset to it; otherwise they are 1 and 0.
    fitted : also try a response that is learned in the subspace, with an intercept, and take that which tells
        coarse pixels better that it was not fitted to.
    """
    known = None if table is None else _from_table(pixels, table, noise, scaled=scaled)
    if known is not None and not fitted:
        return known
    free = _in_subspace(pixels, subspace, noise)
    if known is None or table is None:
        return free
    parts = np.random.default_rng(0).permutation(pixels.hsi.shape[1]) % FOLDS
    errors = np.zeros(2)
    for fold in range(FOLDS):
        kept, held = _subset(pixels, parts != fold), _subset(pixels, parts == fold)
        tried = (_from_table(kept, table, noise, scaled=scaled), _in_subspace(kept, subspace, noise))
        for at, one in enumerate(tried):
            errors[at] += float(np.square(_clipped(one.left(held.hsi, held.msi))).sum())
    return free if errors[1] < errors[0] else known


def _subset(pixels: Compared, at: NDArray[np.bool_]) -> Compared:
    return Compared(pixels.hsi[:, at], pixels.msi[:, at], pixels.contrast[:, at])


def _clipped(values: Floats) -> Floats:
    """Rows cut at three robust standard deviations, so that changed places do not decide."""
    limit = 3.0 * 1.4826 * np.median(np.abs(values - np.median(values, axis=1, keepdims=True)), axis=1)
    return np.clip(values, -limit[:, None], limit[:, None])


def _from_table(pixels: Compared, table: Floats, noise: Floats, *, scaled: bool) -> Radiometry:
    """Gain and offset by least squares with errors in the HSI, without what differs by over 3 σ."""
    bands = len(table)
    if not scaled:
        return Radiometry(table, np.ones(bands), np.zeros(bands))
    seen = table @ pixels.hsi
    own = np.square(table) @ np.square(noise)
    gain, offset = np.ones(bands), np.zeros(bands)
    for band in range(bands):
        x, y = seen[band], pixels.msi[band]
        keep = np.ones(len(x), dtype=bool)
        for _ in range(4):
            variance = max(x[keep].var() - own[band], 0.1 * x[keep].var(), 1e-12)
            gain[band] = float(np.cov(x[keep], y[keep], bias=True)[0, 1] / variance)
            offset[band] = float(y[keep].mean() - gain[band] * x[keep].mean())
            left = y - gain[band] * x - offset[band]
            keep = np.abs(left) <= 3.0 * 1.4826 * max(np.median(np.abs(left[keep])), 1e-9)
    return Radiometry(table, gain, offset)


def _in_subspace(pixels: Compared, subspace: Subspace, noise: Floats) -> Radiometry:
    """R E by least squares on the coarse grid, with an intercept; R itself is the shortest with that R E."""
    values = coefficients(subspace, noise, pixels.hsi)
    count = values.shape[1]
    keep = np.ones(count, dtype=bool)
    known = np.flatnonzero(subspace.variances > 1.0)
    known = known if len(known) else np.arange(1)
    weights = np.zeros((len(pixels.msi), len(subspace.variances)))
    middle, mean = values.mean(axis=1), pixels.msi.mean(axis=1)
    for _ in range(4):
        middle, mean = values[:, keep].mean(axis=1), pixels.msi[:, keep].mean(axis=1)
        apart = values[known][:, keep] - middle[known, None]
        moments = apart @ apart.T / keep.sum()
        # The noise of the coefficients, which has unit variance, would weaken the response.
        own = np.minimum(np.ones(len(known)), 0.9 * np.diag(moments))
        joint = (pixels.msi[:, keep] - mean[:, None]) @ apart.T / keep.sum()
        weights[:, known] = np.linalg.solve(moments - np.diag(own) * 0.999, joint.T).T
        left = pixels.msi - mean[:, None] - weights @ (values - middle[:, None])
        limit = 3.0 * 1.4826 * np.maximum(np.median(np.abs(left[:, keep]), axis=1), 1e-9)
        keep = (np.abs(left) <= limit[:, None]).all(axis=0)
    response = weights @ (subspace.basis / noise[:, None] ** 2).T
    offset = mean - weights @ middle - response @ subspace.mean
    return Radiometry(response, np.ones(len(response)), offset)


def msi_noise(windows: Sequence[PairWindow]) -> Floats:
    """(C,) standard deviation of the MSI's white noise: what a high pass of its smoothest blocks leaves.

    Blocks are chosen by means of three pixels, not by what is measured, which would find too little. Texture
    that is left shows in all bands, noise in each by itself: a band is regressed on the others, as in
    ``subspace.noise_of_bands``, and the smaller value taken.
    """
    found = []
    for window in windows:
        height, width = (side // BLOCK * BLOCK for side in window.msi.shape[1:])
        if not height or not width:
            continue
        msi, valid = window.msi[:, :height, :width].astype(np.float64), window.msi_valid[:height, :width]
        whole = _blocks(valid).all(axis=-1)
        high = np.stack([_blocks(convolve(band, _HIGH_PASS)) for band in msi])
        smooth = np.stack([_blocks(convolve(band, np.ones((3, 3)) / 9.0)) for band in msi]).std(axis=-1)
        found.append((high[:, whole], smooth[:, whole]))
    if not found or not sum(high.shape[1] for high, _ in found):
        return np.full(len(windows[0].msi), LEAST_NOISE)
    high, smooth = (np.concatenate([pair[at] for pair in found], axis=1) for at in (0, 1))
    order = (smooth / np.maximum(np.median(smooth, axis=1, keepdims=True), 1e-9)).sum(axis=0).argsort()
    quiet = high[:, order[: max(int(QUIET * len(order)), min(4, len(order)))]]
    noise: Floats = np.sqrt(np.median(np.square(quiet).mean(axis=-1), axis=1))
    flat = quiet.reshape(len(quiet), -1)
    for band in range(len(flat)) if len(flat) > 1 else ():
        others = np.delete(flat, band, axis=0)
        weights = np.linalg.lstsq(others.T, flat[band], rcond=None)[0]
        left = np.square(flat[band] - weights @ others).mean() / (1.0 + weights @ weights)
        noise[band] = min(noise[band], float(np.sqrt(left)))
    return noise.clip(LEAST_NOISE)


def _blocks(band: NDArray[np.generic]) -> NDArray[np.generic]:
    """(n, BLOCK²) the values of the blocks of an image whose sides are whole blocks."""
    height, width = band.shape
    split = band.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(0, 2, 1, 3)
    return split.reshape(-1, BLOCK * BLOCK)


@dataclass(frozen=True, eq=False)
class Difference:
    """How much the two scenes differ where nothing changed."""

    covariance: Floats
    """(C, C) on even ground; on uneven ground it is larger by …"""
    slope: float
    """… this times ``roughness``: small shifts that are left, and errors of the PSF."""


def roughness(contrast: Floats, covariance: Floats) -> Floats:
    """(…) mean over bands of the contrast (C, …) under the PSF over the difference's own variance."""
    scaled: Floats = np.einsum("c...,c->...", contrast, 1.0 / np.diag(covariance)) / len(covariance)
    return scaled


def distance(left: Floats, covariance: Floats) -> Floats:
    """(…) squared Mahalanobis distance of differences (C, …)."""
    found: Floats = np.einsum("c...,cd,d...->...", left, np.linalg.inv(covariance), left)
    return found


def usual_difference(left: Floats, contrast: Floats, least: Floats) -> Difference:
    """The difference where nothing changed, from (C, n) differences and contrasts of coarse pixels.

    Covariance and slope are fitted in turns to the pixels that lie within the bounds of both.

    Parameters
    ----------
    least : (C,) variance that the known noise alone has there.
    """
    bands, count = left.shape
    spread = np.square(1.4826 * np.median(np.abs(left), axis=1))
    covariance, slope = np.diag(np.maximum(spread, least)), 0.0
    limit = float(chi2.ppf(UNCHANGED, bands))
    for _ in range(6):
        excess = 1.0 + slope * roughness(contrast, covariance)
        kept = distance(left, covariance) / excess < limit
        if kept.sum() < 2 * bands + 2:
            break
        scaled = left[:, kept] / np.sqrt(excess[kept])
        covariance = scaled @ scaled.T / kept.sum()
        low, axes = np.linalg.eigh(covariance / np.sqrt(np.outer(least, least)))
        covariance = (axes * np.maximum(low, 1.0)) @ axes.T * np.sqrt(np.outer(least, least))
        if count >= 30:
            design = np.stack([np.ones(kept.sum()), roughness(contrast[:, kept], covariance)], axis=1)
            even, uneven = nnls(design, distance(left[:, kept], covariance) / bands)[0]
            slope = float(uneven / max(even, 1e-3))
            covariance = covariance * max(float(even), 1e-3)
            covariance += np.diag(np.maximum(least - np.diag(covariance), 0.0))
    return Difference(covariance, slope)


def noise_on_coarse(
    ratio: int,
    sigma: tuple[float, float],
    response: Floats,
    gain: Floats,
    hsi: Floats,
    msi: Floats,
    sampling: Sampling = CENTRED,
) -> Floats:
    """(C,) variance of the averaged MSI minus the projected HSI that their noise alone makes."""
    share = np.prod([np.square(taps(ratio, one, **sampling)[1]).sum() for one in sigma])
    found: Floats = np.square(gain) * (np.square(response) @ np.square(hsi)) + share * np.square(msi)
    return found
