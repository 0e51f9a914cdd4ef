"""The scores of a set of images as one JSON-ready mapping: per image first, then the mean over images.

Arrays come in as numpy, so that callers need no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectile.catalog.calibration import Calibration
from spectile.model.measure import metrics

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

LEVELS = (50, 80, 90, 95)
PIXELS_AT_ONCE = 16384
"""Reliability goes by strips of about this many pixels, which bounds its float64 copies."""


def cube_scores(
    truths: Sequence[Array],
    estimates: Sequence[Array],
    *,
    input_bands: Sequence[int],
    peaks: Sequence[float],
    offset: float,
    valid: Sequence[Mask] | None = None,
) -> dict[str, Any]:
    """RMSE, SAM (radians), MPSNR, MSSIM, MRAE and ERGAS (ratio 1), each the mean over images.

    Parameters
    ----------
    truths, estimates : images (B, h, w) in one unit.
    input_bands : positions of bands that the predictor was given; with any, ``without_input`` holds the
        scores of the others beside those of all.
    peaks : of the MPSNR; the first is also the range of the MSSIM. ``mpsnr_at`` has one for each.
    offset : one count in the unit, for the MRAE.
    valid : (h, w) of each image; everywhere if None.
    """
    masks = [np.ones(truth.shape[1:], dtype=bool) for truth in truths] if valid is None else valid
    everything = np.arange(truths[0].shape[0])
    others = np.setdiff1d(everything, np.asarray(input_bands, dtype=np.intp))
    subsets = [everything, others] if len(input_bands) else [everything]
    rows: list[list[dict[str, float]]] = [[] for _ in subsets]
    for truth, estimate, mask in zip(truths, estimates, masks, strict=True):
        images = torch.from_numpy(truth), torch.from_numpy(estimate), torch.from_numpy(mask)
        similarity = metrics.ssim_by_band(*images, peak=peaks[0])
        for kept, subset_rows in zip(subsets, rows, strict=True):
            subset_rows.append(
                {
                    **_errors(images[0][kept], images[1][kept], images[2], peaks, offset),
                    "mssim": float(similarity[kept].mean()),
                }
            )
    result, *without = (_mean_over_images(subset_rows, peaks) for subset_rows in rows)
    if without:
        result["without_input"] = without[0]
    return result


def _errors(
    truth: Tensor, estimate: Tensor, valid: Tensor, peaks: Sequence[float], offset: float
) -> dict[str, float]:
    """The scores of one image; the MPSNR under each peak."""
    angle = metrics.spectral_angle(truth, estimate, valid)
    return {
        "rmse": metrics.rmse(truth, estimate, valid),
        "sam": angle.radians,
        "mrae": metrics.mrae(truth, estimate, valid, offset=offset),
        "ergas": metrics.ergas(truth, estimate, valid, ratio=1.0),
        "zero_spectra": float(angle.zero_spectra),
        **{f"{peak:g}": metrics.mpsnr(truth, estimate, valid, peak=peak) for peak in peaks},
    }


def _mean_over_images(rows: Sequence[dict[str, float]], peaks: Sequence[float]) -> dict[str, Any]:
    mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    at = {f"{peak:g}": mean.pop(f"{peak:g}") for peak in peaks}
    mean["zero_spectra"] *= len(rows)
    # Images smaller than a window have no MSSIM, zero spectra no angle.
    known = {key: _known(value) for key, value in mean.items()}
    return {**known, "mpsnr": at[f"{peaks[0]:g}"], "mpsnr_at": at}


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value


def interval_coverage(
    truths: Sequence[Array], samples: Sequence[Array], factors: Calibration
) -> dict[str, float]:
    """Share of values within the calibrated 5 to 95 % interval, mean + factor·s, and its mean width."""
    low, high = (np.asarray(side, dtype=np.float32)[:, None, None] for side in (factors.low, factors.high))
    inside, width = [], []
    for truth, drawn in zip(truths, samples, strict=True):
        mean, deviation = drawn.mean(axis=0), drawn.std(axis=0, ddof=1)
        inside.append(((truth >= mean + low * deviation) & (truth <= mean + high * deviation)).mean())
        width.append(((high - low) * deviation).mean())
    return {"coverage": float(np.mean(inside)), "width": float(np.mean(width))}


def band_errors(
    truths: Sequence[Array], estimates: Sequence[Array], *, valid: Sequence[Mask] | None = None
) -> list[float]:
    """RMSE of each band, averaged over images."""
    masks = [np.ones(truth.shape[1:], dtype=bool) for truth in truths] if valid is None else valid
    rows = [
        metrics.rmse_by_band(*(torch.from_numpy(part) for part in parts)).numpy()
        for parts in zip(truths, estimates, masks, strict=True)
    ]
    return [float(value) for value in np.mean(rows, axis=0)]


def reliability_scores(
    truths: Sequence[Array], samples: Sequence[Array], *, valid: Sequence[Mask] | None = None
) -> dict[str, Any]:
    """Spread, skill, their ratio, fair CRPS and energy score, coverage and width of samples (K, B, h, w).

    ``variogram`` and ``spectral_covariance`` compare the samples' residuals with the true ones, see
    ``metrics.residual_structure``.
    ``coverage_limit`` is what K exchangeable samples can cover at most, (K − 1) / (K + 1).
    """
    weights: list[int] = []
    parts: list[metrics.Reliability] = []
    energies: list[float] = []
    structures: list[metrics.Structure] = []
    for index, (truth, drawn) in enumerate(zip(truths, samples, strict=True)):
        everywhere = np.ones(truth.shape[1:], dtype=bool) if valid is None else valid[index]
        structures.append(
            metrics.residual_structure(*(torch.from_numpy(part) for part in (truth, drawn, everywhere)))
        )
        rows = max(PIXELS_AT_ONCE // truth.shape[2], 1)
        for top in range(0, truth.shape[1], rows):
            strip = slice(top, top + rows)
            mask = everywhere[strip]
            if not mask.any():
                continue
            images = torch.from_numpy(truth[:, strip]), torch.from_numpy(drawn[:, :, strip])
            weights.append(int(mask.sum()))
            parts.append(metrics.reliability(*images, torch.from_numpy(mask), levels=LEVELS))
            energies.append(metrics.energy_score(*images, torch.from_numpy(mask)))

    def mean(values: Sequence[float]) -> float:
        return float(np.average(values, weights=weights))

    spread = math.sqrt(mean([part.variance for part in parts]))
    # Below zero in some strips: only their sum is held above it.
    skill = math.sqrt(max(mean([part.excess for part in parts]), 0.0))
    count = len(samples[0])
    return {
        "spread": spread,
        "skill": skill,
        "spread_skill": spread / skill if skill > 0 else None,
        "crps": mean([part.crps for part in parts]),
        "energy_score": mean(energies),
        "coverage": {str(level): mean([part.coverage[level] for part in parts]) for level in LEVELS},
        "width": {str(level): mean([part.width[level] for part in parts]) for level in LEVELS},
        "variogram": {
            str(lag): _known(float(np.mean([one.variogram[lag] for one in structures])))
            for lag in structures[0].variogram
        },
        "spectral_covariance": float(np.mean([one.spectral_covariance for one in structures])),
        "coverage_limit": (count - 1) / (count + 1),
        "samples": count,
    }
