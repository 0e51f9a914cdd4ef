"""Methods of fusion scored on pairs that are made of a cube, as in Wald's protocol (Wald et al. 1997)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spectile.catalog.bands import FWHM_PER_SIGMA, Bands
from spectile.catalog.counts import Moments
from spectile.catalog.inputs import Batch, Raster
from spectile.model.data.degrade import Border, Sampling, coarsen, degrade
from spectile.model.fusion.estimate import estimate_pair
from spectile.model.fusion.pair import PairModel, PairWindow
from spectile.model.fusion.predictor import DEFAULT, PREFIX, load_fusion
from spectile.model.fusion.wald import wald_on_own_pair
from spectile.model.measure.metrics import (
    band_peaks,
    ergas,
    mpsnr,
    mssim,
    rmse,
    spectral_angle,
    uiqi,
)

Floats = NDArray[np.float64]

WINDOW = 8
"""Of the universal image quality index, pixels."""
VALUES_AT_ONCE = 1 << 22
"""Of the indices over windows."""
DARKENED = 0.99
"""Share of the PSF inside the scene below which zeros beyond the border have made a coarse pixel darker."""


@dataclass(frozen=True)
class Degradation:
    """How a cube becomes a pair."""

    ratio: int
    """Fine pixels along a coarse one."""
    psf_sigma: float
    """Standard deviation of the Gaussian PSF along both axes, fine pixels."""
    snr_db: tuple[float, float] | None
    """Signal to noise of the HSI and of the MSI, one deviation for all bands of each; None is without."""
    psf_size: int | None = None
    """Taps of the PSF along an axis; None takes all that matter."""
    psf_phase: float | None = None
    """The PSF's centre, as of ``degrade.taps``; None is the middle of the coarse pixel."""
    border: Border = "mirrored"
    """What lies beyond the cube."""

    @classmethod
    def of_width(cls, ratio: int, fwhm: float, snr_db: tuple[float, float] | None) -> Degradation:
        """One whose PSF has a full width at half maximum of ``fwhm`` coarse pixels."""
        return cls(ratio, fwhm * ratio / FWHM_PER_SIGMA, snr_db)

    @property
    def sampling(self) -> Sampling:
        """How the PSF is cut and placed."""
        return Sampling(size=self.psf_size, phase=self.psf_phase)


@dataclass(frozen=True, eq=False)
class KnownPair:
    """A pair and the cube that it was made of."""

    truth: Floats
    """(B, H, W)."""
    bands: Bands
    """Its B bands."""
    msi_bands: Bands
    """The C bands of the sharp sensor."""
    response: Floats
    """(C, B) R."""
    degradation: Degradation
    """How the pair was made."""
    window: PairWindow
    """What both sensors see."""

    @classmethod
    def of(
        cls, truth: Floats, bands: Bands, msi_bands: Bands, response: Floats, how: Degradation, *, seed: int
    ) -> KnownPair:
        """The pair of a cube, with noise of a seed.

        Coarse pixels that zeros beyond the border darken are masked: no method takes them for dark ground.

        Raises
        ------
        UsageError : the cube is no whole number of coarse pixels.
        """
        sigma = (how.psf_sigma, how.psf_sigma)
        seen = degrade(
            truth, how.ratio, sigma, response, snr_db=how.snr_db, seed=seed, border=how.border, **how.sampling
        )
        whole = np.ones((1, *truth.shape[1:]))
        share = coarsen(whole, how.ratio, sigma, border=how.border, **how.sampling)[0]
        window = PairWindow(
            seen.hsi.astype(np.float32), share >= DARKENED,
            seen.msi.astype(np.float32), np.ones(truth.shape[1:], dtype=bool),
        )  # fmt: skip
        return cls(truth, bands, msi_bands, response, how, window)


def score_methods(
    known: KnownPair,
    methods: Sequence[str],
    *,
    clean: Floats | None,
    samples: int,
    seed: int,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """A row for each method: its name, ``seconds`` of estimating and fusing, and what ``scores_of`` gives.

    Response and PSF are known to every method; noise, subspace and mixture are estimated. ``fuse`` is what
    does best on the pair itself, degraded once more, and ``took`` says what that was; its seconds include
    the judging. ``cover`` of ``fuse:mixture`` is the share of the truth within 90 % intervals.

    Parameters
    ----------
    methods : names of ``load_fusion``, or folders of trained networks.
    clean : (B, n) spectra without noise from beside the truth; None takes the pair's own.
    samples : for ``cover``; fewer than two leave it out.
    seed : of what is chosen by chance, and of samples.

    Raises
    ------
    SceneError : the pair is too small.
    UsageError, CheckpointError : a method cannot be used for the pair.
    """
    how = known.degradation
    start = time.perf_counter()
    pair = estimate_pair(
        [known.window], how.ratio, known.bands, known.msi_bands, response=known.response,
        psf=(how.psf_sigma, how.psf_sigma), sampling=how.sampling, scaled=False, clean=clean, seed=seed,
    )  # fmt: skip
    estimated = time.perf_counter() - start
    start = time.perf_counter()
    judged = wald_on_own_pair([known.window], pair, clean=clean, seed=seed)
    waited = time.perf_counter() - start
    rows = []
    for method in methods:
        start = time.perf_counter()
        mean = next(_draws(method, judged, known.window, seed, 1, device))
        seconds = time.perf_counter() - start + estimated + (waited if method == DEFAULT else 0.0)
        row: dict[str, Any] = {
            "method": method,
            "seconds": seconds,
            **scores_of(known.truth, mean, how.ratio),
        }
        if method == PREFIX + "mixture" and samples > 1:
            drawn = _draws(method, judged, known.window, seed, samples, device)
            row["cover"] = cover_of(known.truth, drawn, judged.calibration)
        if method == DEFAULT:
            row["took"] = judged.method
        rows.append(row)
    return rows


def scores_of(truth: Floats, estimate: NDArray[np.float32], ratio: int) -> dict[str, float]:
    """The scores of a fused cube (B, H, W), in the unit of the truth.

    ``psnr`` has each band's largest value as peak, ``psnr_at_1`` the value 1; both are means over bands, dB.
    ``sam`` is in degrees, ``ssim`` at the range 1, ``uiqi`` over windows of 8 pixels. NaN where an image is
    smaller than a window.
    """
    cubes = torch.from_numpy(truth), torch.from_numpy(estimate)
    valid = torch.ones(truth.shape[1:], dtype=torch.bool)
    step = max(VALUES_AT_ONCE // valid.numel(), 1)
    some = list(zip(*(torch.split(cube, step) for cube in cubes), strict=True))
    shares = [len(one) / len(truth) for one, _ in some]
    return {
        "psnr": mpsnr(*cubes, valid, peak=band_peaks(cubes[0], valid)),
        "psnr_at_1": mpsnr(*cubes, valid, peak=1.0),
        "sam": math.degrees(spectral_angle(*cubes, valid).radians),
        "rmse": rmse(*cubes, valid),
        "ergas": ergas(*cubes, valid, ratio=ratio),
        # Some bands at a time: in float64, all of a large scene would take gigabytes.
        "uiqi": float(np.dot(shares, [uiqi(one, other, valid, window=WINDOW) for one, other in some])),
        "ssim": float(np.dot(shares, [mssim(one, other, valid, peak=1.0) for one, other in some])),
    }


def _draws(
    method: str, pair: PairModel, window: PairWindow, seed: int, count: int, device: str
) -> Iterator[NDArray[np.float32]]:
    """(B, H, W) the mean, or samples; the window is mirrored to the sides that the method takes."""
    predictor = load_fusion(method, pair, seed=seed, device=device, samples=count)
    height, width = window.msi_valid.shape
    more = [-side % predictor.stride for side in (height, width)]

    def raster(values: NDArray[np.float32], valid: NDArray[np.bool_], step: int) -> Raster:
        missing = [(0, side // step) for side in more]
        padded = np.pad(values, [(0, 0), *missing], mode="symmetric")
        return Raster(padded[None], np.pad(valid, missing, mode="symmetric")[None])

    rasters = {
        "hsi": raster(window.hsi, window.hsi_valid, pair.ratio),
        "msi": raster(window.msi, window.msi_valid, 1),
    }
    batch = Batch(rasters, np.zeros((1, 2), dtype=np.int64), 1)
    return (one[0, :, :height, :width] for one in predictor.predict(batch, range(count)))


def cover_of(truth: Floats, samples: Iterable[NDArray[np.float32]], calibration: Floats) -> float:
    """Share of the truth (B, H, W) inside the 90 % intervals of samples, which are held one at a time.

    Parameters
    ----------
    samples : (B, H, W) each, two or more.
    calibration : (3, B) of a pair.
    """
    moments: Moments[Floats] = Moments()
    for sample in samples:
        moments.add(sample.astype(np.float64))
    spread = moments.deviation() * math.sqrt(1.0 + 1.0 / moments.samples)
    low, high = (moments.mean() + side[:, None, None] * spread for side in calibration[1:])
    return float(((truth >= low) & (truth <= high)).mean())
