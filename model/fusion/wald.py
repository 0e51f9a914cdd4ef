"""A pair judged by itself: degraded once more, fused, and compared with its HSI (Wald et al. 1997).

What does best there is the pair's default, and the errors there say how far a predicted spread can be
trusted. Ratio and details are coarser than in the fusion itself, so that both hold as far as scale does not
matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from spectile.catalog.inputs import Batch, Raster
from spectile.model.data.degrade import CENTRED, Sampling, coarsen, taps
from spectile.model.fusion.estimate import estimate_pair
from spectile.model.fusion.fuser import CLOSED
from spectile.model.fusion.pair import PairModel, PairWindow
from spectile.model.fusion.predictor import PREFIX, load_fusion
from spectile.model.fusion.radiometry import COVERED, averaged
from spectile.model.measure.metrics import band_peaks, rmse_by_band, spectral_angle, uiqi

Floats = NDArray[np.float64]

SMALLEST = 3
"""Pixels along a window after it was degraded again."""
FEWEST = 12
"""Pixels, of all windows, below which nothing is judged."""
CHOOSING = 100
"""Pixels of the coarse scene, degraded again, from which a mixture has all its components."""
MARGIN_DB = 0.2
DRAWS = 12
"""Samples whose spread is compared with the errors."""
GROUPS = 8
"""Groups of neighbouring bands with a factor each."""
FACTORS = (0.7, 4.0)
WINDOW = 8
"""Of the quality index, pixels."""
FINER, CLEAN_FINER = 2.0, 1.3
"""What the factor found is multiplied with, for the pair itself has details that its coarse pixels do not
show; scenes on which no score is reported needed about as much."""
TAIL = 5.0
"""Per cent of errors beyond each end of an interval."""


def degrade_windows(
    windows: Sequence[PairWindow], pair: PairModel, seed: int
) -> tuple[list[PairWindow], list[PairWindow], int]:
    """Both scenes of windows once more degraded, what they were on the coarse grid, and their ratio.

    The MSI, calibrated, is averaged to the HSI's grid; the HSI is degraded by the same ratio, or by a
    smaller one where its windows are too small. Windows that are too small for a ratio of two are left out.
    Averaging takes nearly all noise away; it is put back, or methods that pass it on would be judged too
    well.
    """
    sides = [min(one.hsi_valid.shape) for one in windows if min(one.hsi_valid.shape) >= 2 * SMALLEST]
    ratio = min(pair.ratio, min(sides, default=0) // SMALLEST)
    if ratio < 2:
        return [], [], ratio
    sigma = (pair.psf_sigma[0] * ratio / pair.ratio, pair.psf_sigma[1] * ratio / pair.ratio)
    generator = np.random.default_rng(seed)
    degraded, kept = [], []
    for window in windows:
        height, width = (side // ratio * ratio for side in window.hsi_valid.shape)
        if min(height, width) < 2 * SMALLEST:
            continue
        inner = (slice(None), slice(0, height), slice(0, width))
        mean, _, ok = averaged(window, pair.ratio, pair.psf_sigma, pair.sampling)
        valid, hsi = ok[inner[1:]], window.hsi[inner]
        msi = ((mean - pair.offset[:, None, None]) / pair.gain[:, None, None])[inner]
        share = coarsen(valid[None].astype(np.float64), ratio, sigma)[0]
        coarse = coarsen(np.where(valid, hsi, 0.0).astype(np.float64), ratio, sigma) / np.maximum(share, 1e-6)
        coarse += _missing_noise(pair.hsi_noise, ratio, sigma, coarse.shape, generator)
        msi += _missing_noise(
            pair.msi_noise / pair.gain, pair.ratio, pair.psf_sigma, msi.shape, generator, pair.sampling
        )
        sharp = msi.astype(np.float32)
        degraded.append(PairWindow(coarse.astype(np.float32), share >= COVERED, sharp, valid, window.origin))
        kept.append(PairWindow(hsi, valid, sharp, valid, window.origin))
    return degraded, kept, ratio


def _missing_noise(
    noise: Floats,
    ratio: int,
    sigma: tuple[float, float],
    shape: tuple[int, ...],
    generator: np.random.Generator,
    sampling: Sampling = CENTRED,
) -> Floats:
    """Noise that brings what the PSF left of white noise back to its level."""
    left = np.prod([np.square(taps(ratio, one, **sampling)[1]).sum() for one in sigma])
    added: Floats = generator.standard_normal(shape) * (np.abs(noise) * np.sqrt(1.0 - left))[:, None, None]
    return added


def wald_on_own_pair(
    windows: Sequence[PairWindow],
    pair: PairModel,
    *,
    methods: Sequence[str] = tuple(CLOSED),
    clean: Floats | None = None,
    seed: int = 0,
) -> PairModel:
    """The pair with the scores of methods on itself, the best of them as its default, and a calibration.

    Unchanged where the windows are too small to be degraded again. The default changes for a method whose
    PSNR is ``MARGIN_DB`` higher, unless the windows allow a smaller ratio alone, or leave so few pixels that
    the mixture learns less from them than from the pair.

    Parameters
    ----------
    windows : those that it was estimated from.
    methods : names, without the prefix.
    clean : (B, n) the spectra that it was estimated with, if any.
    seed : of the choice of pixels and of draws.
    """
    degraded, truths, ratio = degrade_windows(windows, pair, seed)
    if sum(int(one.hsi_valid.sum()) for one in degraded) < FEWEST:
        return pair
    sigma = (pair.psf_sigma[0] * ratio / pair.ratio, pair.psf_sigma[1] * ratio / pair.ratio)
    again = estimate_pair(
        degraded, ratio, pair.hsi_bands, pair.msi_bands, response=pair.response, psf=sigma, scaled=False,
        clean=clean, seed=seed,
    )  # fmt: skip
    scores = {}
    for name in methods:
        fused = [_fuse(name, again, one, seed)[0] for one in degraded]
        scores[name] = _scores(truths, fused, ratio, pair.hsi_noise)
    best = max(scores, key=lambda name: scores[name]["psnr"])
    judged = sum(int(one.hsi_valid.sum()) for one in degraded)
    gained = scores[best]["psnr"] - scores.get(pair.method, scores[best])["psnr"]
    if ratio < pair.ratio or judged < CHOOSING or gained < MARGIN_DB:
        best = pair.method
    calibration = _calibrate(pair, again, degraded, truths, seed)
    calibration[0] *= FINER if clean is None else CLEAN_FINER
    return replace(pair, method=best, wald=scores, calibration=calibration)


def _fuse(
    name: str, pair: PairModel, window: PairWindow, seed: int, draws: int = 1
) -> list[NDArray[np.float32]]:
    """(B, H, W) the mean, or so many samples."""
    predictor = load_fusion(PREFIX + name, pair, seed=seed, device="cpu", samples=draws)
    rasters = {
        "hsi": Raster(window.hsi[None], window.hsi_valid[None]),
        "msi": Raster(window.msi[None], window.msi_valid[None]),
    }
    origin = np.array([window.origin], dtype=np.int64) * pair.ratio
    filled = {spec.name: spec.filled(rasters[spec.name]) for spec in predictor.inputs}
    return [one[0] for one in predictor.predict(Batch(filled, origin, 1), range(draws))]


def _scores(
    truths: Sequence[PairWindow], fused: Sequence[NDArray[np.float32]], ratio: int, noise: Floats
) -> dict[str, float]:
    """Scores over all pixels of all windows.

    PSNR, RMSE and ERGAS are freed of the noise of the HSI, which is the truth here; SAM and the quality
    index, which is averaged over windows, are not.
    """
    truth, estimate = (
        torch.from_numpy(
            np.concatenate([cube[:, one.hsi_valid] for cube, one in zip(cubes, truths, strict=True)], axis=1)
        ).double()
        for cubes in ([one.hsi for one in truths], fused)
    )
    flat = (truth[:, None], estimate[:, None], torch.ones((1, truth.shape[1]), dtype=torch.bool))
    # The error without the truth's noise cannot be less than a little of it.
    variance = torch.from_numpy(np.square(noise))
    error = (rmse_by_band(*flat).square() - variance).clamp_min(0.05 * variance)
    mean, peak = truth.mean(1), band_peaks(flat[0], flat[2])
    quality = [
        uiqi(
            torch.from_numpy(one.hsi), torch.from_numpy(cube), torch.from_numpy(one.hsi_valid), window=WINDOW
        )
        for one, cube in zip(truths, fused, strict=True)
    ]
    known = [one for one in quality if not math.isnan(one)]
    found = {
        "psnr": float(10.0 * torch.log10(peak.square() / error).mean()),
        "rmse": math.sqrt(float(error.mean())),
        "sam_deg": math.degrees(spectral_angle(*flat).radians),
        "ergas": 100.0 / ratio * math.sqrt(float((error / mean.square()).mean())),
    }
    return {**found, "uiqi": float(np.mean(known))} if known else found


def _calibrate(
    pair: PairModel,
    again: PairModel,
    degraded: Sequence[PairWindow],
    truths: Sequence[PairWindow],
    seed: int,
) -> Floats:
    """(3, B): factor, and low and high quantile of the errors over it, of the mixture's samples.

    The HSI as truth has noise of its own, which is taken off the errors' variance; the quantiles are of
    errors over both. A group of bands in which the noise hides the errors takes the factor of all.
    """
    errors, spreads = [], []
    for window, truth in zip(degraded, truths, strict=True):
        ok = truth.hsi_valid
        drawn = np.stack([one[:, ok] for one in _fuse("mixture", again, window, seed, DRAWS)]).astype(
            np.float64
        )
        mean = _fuse("mixture", again, window, seed)[0][:, ok]
        errors.append(truth.hsi[:, ok].astype(np.float64) - mean)
        spreads.append(drawn.var(axis=0, ddof=1))
    error, spread = np.concatenate(errors, axis=1), np.concatenate(spreads, axis=1)
    noise = np.square(pair.hsi_noise)[:, None]
    everything = _factor(error, spread, noise, 1.0)
    found = np.empty((3, len(error)))
    for group in np.array_split(np.arange(len(error)), min(GROUPS, len(error))):
        factor = _factor(error[group], spread[group], noise[group], everything)
        scaled = error[group] / np.sqrt(factor**2 * spread[group] + noise[group])
        low, high = np.percentile(scaled, [TAIL, 100.0 - TAIL])
        found[:, group] = np.array([factor, min(low, -0.5), max(high, 0.5)])[:, None]
    return found


def _factor(error: Floats, spread: Floats, noise: Floats, otherwise: float) -> float:
    """What the samples' spread must be multiplied with; ``otherwise`` where noise hides it."""
    power = np.square(error)
    excess, doubt = float((power - noise).mean()), 3.0 * math.sqrt(2.0 / error.size) * float(power.mean())
    if excess <= doubt:
        return otherwise
    return float(np.clip(math.sqrt(excess / max(float(spread.mean()), 1e-300)), *FACTORS))
