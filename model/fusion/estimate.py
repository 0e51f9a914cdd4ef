"""Everything that a fusion needs to know of a pair, estimated once from windows of both scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from spectile.catalog.bands import Bands
from spectile.catalog.errors import UsageError
from spectile.model.data.degrade import CENTRED, Sampling, coarsen
from spectile.model.fusion.mixture import Mixture, Seen, fit_mixture
from spectile.model.fusion.pair import PairModel, PairWindow
from spectile.model.fusion.posterior import PixelPosterior
from spectile.model.fusion.radiometry import (
    Radiometry,
    averaged,
    compare,
    fit_radiometry,
    msi_noise,
    noise_on_coarse,
    table_response,
    usual_difference,
)
from spectile.model.fusion.register import default_psf, estimate_psf
from spectile.model.fusion.solve import Solver
from spectile.model.fusion.subspace import (
    Subspace,
    clean_subspace,
    coefficients,
    find_subspace,
    noise_of_bands,
)

Floats = NDArray[np.float64]

COMPONENTS = 5
"""Of the mixture that is learned from the coarse scene; with clean spectra there are …"""
CLEAN_COMPONENTS = 20
"""… so many."""
STRENGTH = 10.0
"""Spectra that the prior of a component's covariance is worth …"""
CLEAN_STRENGTH = 5.0
"""… with clean spectra."""
SHARP_WEIGHT = 3.0
"""Coarse spectra that all sharp pixels together are worth: they tell where spectra lie, hardly how."""
PIXELS = 3000
"""Sharp pixels and clean spectra that the mixture learns from."""
SHARES, CLEAN_SHARES = (0.0, 0.2, 0.5), (0.0, 0.2, 0.5, 0.8)
RANGES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""What is tried for the smoothness of the correction; ranges in coarse pixels."""
ENOUGH = 40
"""Coarse spectra below which what a mixture leaves says more of the mixture than of the scene: then the
correction is taken as white."""
PER_COMPONENT = 20
"""Coarse spectra that a component needs."""
UNJUDGED, CLEAN_UNJUDGED = 2.0, 1.3
"""What predicted standard deviations are multiplied with until the pair was judged by itself: scenes on
which no score is reported needed about as much."""


def estimate_pair(
    windows: Sequence[PairWindow],
    ratio: int,
    hsi_bands: Bands,
    msi_bands: Bands,
    *,
    response: Floats | str = "fit",
    psf: tuple[float, float] | None = None,
    sampling: Sampling = CENTRED,
    scaled: bool = True,
    shift: tuple[float, float] = (0.0, 0.0),
    shift_field: Floats | None = None,
    clean: Floats | None = None,
    seed: int = 0,
) -> PairModel:
    """What windows of a pair tell of it; the method is ``mixture`` until ``wald.choose_method`` was asked.

    Parameters
    ----------
    windows : of both scenes, whose shift has been taken out.
    ratio : fine pixels along a coarse one.
    response : (C, B) R; or ``table`` for the tables of both sensors; or ``fit``: the table with gain and
    offset,
        or one that is learned with an intercept, whichever tells more of coarse pixels that it was not
        fitted to. Where the tables do not reach a band, the learned one.
    psf : standard deviation along rows and columns, fine pixels; None fits it.
    sampling : how a PSF that is given is cut and placed.
    scaled : fit gain and offset to a response that is given.
    shift, shift_field : what ``estimate_shift`` found, to be kept with the rest.
    clean : (B, n) spectra without noise from elsewhere, reflectance; they then tell the subspace and the
    mixture.
    seed : of the choice of pixels.

    Raises
    ------
    SceneError : the scenes share too few valid pixels, or a table does not reach a band.
    UsageError : an argument cannot be used.
    """
    _check(windows, ratio, hsi_bands, msi_bands, clean)
    if psf is None and sampling != CENTRED:
        raise UsageError("a PSF that is fitted lies in the middle of the coarse pixel", got=sampling)
    windows = [window.filled() for window in windows]
    table, fitted = _table(response, hsi_bands, msi_bands)
    sigma = psf or default_psf(ratio)
    pixels = compare(windows, ratio, sigma, sampling)
    spectra = np.concatenate([one.hsi[:, one.hsi_valid] for one in windows], axis=1).astype(np.float64)
    noise = noise_of_bands(spectra)
    own = find_subspace(spectra, noise)
    radiometry = fit_radiometry(pixels, own, noise, table=table, scaled=scaled, fitted=fitted)
    if psf is None:
        sigma = estimate_psf(windows, ratio, radiometry.response)
        pixels = compare(windows, ratio, sigma)
        radiometry = fit_radiometry(pixels, own, noise, table=table, scaled=scaled, fitted=fitted)
    sharp_noise = msi_noise(windows)
    left = radiometry.left(pixels.hsi, pixels.msi)
    least = noise_on_coarse(ratio, sigma, radiometry.response, radiometry.gain, noise, sharp_noise, sampling)
    usual = usual_difference(left, pixels.contrast, least)
    # What the response leaves unexplained beyond the noise is there in every pixel.
    sharp_noise = np.sqrt(np.square(sharp_noise) + np.maximum(np.diag(usual.covariance) - 1.2 * least, 0.0))
    subspace = own if clean is None else clean_subspace(clean, noise)
    mixture, sharp = _learn(windows, spectra, subspace, noise, radiometry, sharp_noise, clean, seed)
    posterior = _posterior(mixture, subspace, radiometry, sharp_noise)
    unjudged = UNJUDGED if clean is None else CLEAN_UNJUDGED
    pair = PairModel(
        ratio=ratio, hsi_bands=hsi_bands, msi_bands=msi_bands,
        response=radiometry.response, gain=radiometry.gain, offset=radiometry.offset,
        psf_sigma=sigma, shift=shift,
        shift_field=np.zeros((0, 4)) if shift_field is None else np.asarray(shift_field, dtype=np.float64),
        hsi_noise=noise, msi_noise=sharp_noise, change=usual.covariance, change_slope=usual.slope,
        mean=subspace.mean, basis=subspace.basis,
        weights=mixture.weights, means=mixture.means, covariances=mixture.covariances,
        unexplained=posterior.covariance(torch.from_numpy(sharp)).numpy(),
        smoothness=np.array([0.0, 1.0]), method="mixture", wald={},
        calibration=np.outer([unjudged, -1.645, 1.645], np.ones(len(hsi_bands))),
        psf_size=sampling["size"], psf_phase=sampling["phase"],
    )  # fmt: skip
    if clean is None and spectra.shape[1] < ENOUGH:
        return pair
    shares = SHARES if clean is None else CLEAN_SHARES
    return replace(pair, smoothness=_smoothness(pair, posterior, windows, shares))


def _check(
    windows: Sequence[PairWindow], ratio: int, hsi_bands: Bands, msi_bands: Bands, clean: Floats | None
) -> None:
    if not windows:
        raise UsageError("no window to estimate a pair from")
    for window in windows:
        if window.ratio() != ratio:
            raise UsageError("a window has another ratio", got=window.ratio(), expected=ratio)
        for name, values, bands in (("HSI", window.hsi, hsi_bands), ("MSI", window.msi, msi_bands)):
            if len(values) != len(bands):
                raise UsageError(f"a window's {name} has other bands", got=len(values), expected=len(bands))
    if clean is not None and (clean.ndim != 2 or len(clean) != len(hsi_bands) or clean.shape[1] < 2):
        raise UsageError("clean spectra", got=clean.shape, expected=f"({len(hsi_bands)}, 2 or more)")


def _table(response: Floats | str, hsi_bands: Bands, msi_bands: Bands) -> tuple[Floats | None, bool]:
    """The response of the tables or as given, None if there is none, and whether one is fitted too."""
    if isinstance(response, str):
        if response == "table":
            return table_response(hsi_bands, msi_bands), False
        if response != "fit":
            raise UsageError("response", got=response, expected="fit, table or an array")
        try:
            return table_response(hsi_bands, msi_bands), True
        except UsageError:
            return None, True
    given = np.asarray(response, dtype=np.float64)
    if given.shape != (len(msi_bands), len(hsi_bands)):
        raise UsageError(
            "the response has another shape", got=given.shape, expected=(len(msi_bands), len(hsi_bands))
        )
    return given, False


def _learn(
    windows: Sequence[PairWindow],
    spectra: Floats,
    subspace: Subspace,
    noise: Floats,
    radiometry: Radiometry,
    sharp_noise: Floats,
    clean: Floats | None,
    seed: int,
) -> tuple[Mixture, Floats]:
    """The mixture, and the (C, n) sharp pixels that it was learned from, beside the mean's."""
    generator = np.random.default_rng(seed)
    size = len(subspace.variances)
    matrix = radiometry.response @ subspace.basis
    fine = np.concatenate([one.msi[:, one.msi_valid] for one in windows], axis=1).astype(np.float64)
    fine = fine[:, generator.permutation(fine.shape[1])[:PIXELS]]
    sharp = (fine - radiometry.offset[:, None]) / radiometry.gain[:, None]
    sharp -= (radiometry.response @ subspace.mean)[:, None]
    sharp_covariance = np.diag(np.square(sharp_noise / radiometry.gain))
    coarse = coefficients(subspace, noise, spectra)
    coarse = coarse[:, generator.permutation(coarse.shape[1])[: 2 * PIXELS]]
    prior, identity = np.diag(subspace.variances), np.eye(size)
    kinds = [
        Seen(coarse, identity, identity, 1.0),
        Seen(sharp, matrix, sharp_covariance, SHARP_WEIGHT / sharp.shape[1]),
    ]
    if clean is None:
        joint = matrix @ prior @ matrix.T + sharp_covariance
        start = prior @ matrix.T @ np.linalg.solve(joint, sharp)
        count = int(np.clip(coarse.shape[1] // PER_COMPONENT, 1, COMPONENTS))
        strength = STRENGTH
    else:
        chosen = clean[:, generator.permutation(clean.shape[1])[:PIXELS]].astype(np.float64)
        start = coefficients(subspace, noise, chosen)
        kinds.append(Seen(start, identity, 1e-3 * identity, 1.0))
        count = int(np.clip(start.shape[1] // PER_COMPONENT, 1, CLEAN_COMPONENTS))
        strength = CLEAN_STRENGTH
    return fit_mixture(kinds, prior, components=count, strength=strength, start=start, seed=seed), sharp


def _posterior(
    mixture: Mixture, subspace: Subspace, radiometry: Radiometry, sharp_noise: Floats
) -> PixelPosterior:
    noise = np.diag(np.square(sharp_noise / radiometry.gain))
    return PixelPosterior.of(mixture, radiometry.response @ subspace.basis, noise, dtype=torch.float64)


def _smoothness(
    pair: PairModel, posterior: PixelPosterior, windows: Sequence[PairWindow], shares: Sequence[float]
) -> Floats:
    """(2,) share and range of the correction's smooth part that make the coarse differences likeliest.

    Whittle's likelihood of the periodograms of all windows, which are mirrored for that.
    """
    values, axes = np.linalg.eigh(pair.unexplained)
    values = np.maximum(values, values.max() * 1e-8)
    scores, known = np.zeros((len(shares), len(RANGES))), dict[tuple[int, ...], Floats]()
    for window in windows:
        power = _periodogram(pair, posterior, window, axes)
        shape = tuple(side * pair.ratio for side in power.shape[1:])
        extents = tuple(one * pair.ratio for one in RANGES)
        if shape not in known:
            known[shape] = Solver.of(
                (shape[0], shape[1]), pair.ratio, pair.psf_sigma, ranges=extents, dtype=torch.float64,
                **pair.sampling,
            ).aliased.numpy()  # fmt: skip
        seen = known[shape]
        for row, share in enumerate(shares):
            for col in range(len(RANGES)):
                colour = (1.0 - share) * seen[0] + share * seen[1 + col]
                expected = values[:, None, None] * colour + 1.0
                scores[row, col] -= float((np.log(expected) + power / expected).sum()) / 4.0
    best = np.unravel_index(int(scores.argmax()), scores.shape)
    return np.array([shares[int(best[0])], RANGES[int(best[1])]])


def _periodogram(pair: PairModel, posterior: PixelPosterior, window: PairWindow, axes: Floats) -> Floats:
    """(p, 2h, 2w) of the coarse scene minus the coarse image of what the MSI tells, mirrored."""
    calibrated = (window.msi - pair.offset[:, None, None]) / pair.gain[:, None, None]
    z = calibrated.reshape(len(calibrated), -1) - (pair.response @ pair.mean)[:, None]
    fine = posterior.turned(torch.from_numpy(axes)).moments(torch.from_numpy(z))[0].numpy()
    seen = coarsen(fine.reshape(-1, *window.msi.shape[1:]), pair.ratio, pair.psf_sigma, **pair.sampling)
    analysis = axes.T @ (pair.basis / pair.hsi_noise[:, None] ** 2).T
    coarse = np.tensordot(analysis, window.hsi - pair.mean[:, None, None], 1)
    _, _, ok = averaged(window, pair.ratio, pair.psf_sigma, pair.sampling)
    missing = np.where(ok, coarse - seen, 0.0)
    mirrored = np.concatenate([missing, missing[:, ::-1]], axis=1)
    mirrored = np.concatenate([mirrored, mirrored[:, :, ::-1]], axis=2)
    # Invalid pixels hold zero: the power of the others is scaled up for them.
    scale = ok.size / max(int(ok.sum()), 1) / mirrored[0].size
    power: Floats = np.square(np.abs(np.fft.fft2(mirrored))) * scale
    return power
