"""Per band, what turns the spread of samples into that of the truth."""

from __future__ import annotations

import torch
from torch import Tensor

from spectile.catalog.calibration import Calibration

LEAST_DEVIATION = 1e-5
"""Standard deviations of samples are held above this, reflectance."""
QUANTILES = (0.05, 0.95)
NORMAL = (1.0, -1.6448536, 1.6448536)
"""Spread, low and high of a normal law that the samples follow."""


def fit_factors(errors: Tensor, deviations: Tensor, counts: Tensor, *, samples: int) -> Calibration:
    """The factors of each band from errors of the mean and deviations of the samples.

    Parameters
    ----------
    errors, deviations : (N, B, h, w) truth − mean of the samples, and the samples' standard deviation.
    counts : (N, B, h, w) how much each value counts, zero where it is not known or not valid; a band with
        nothing keeps a normal law's factors.
    samples : K, how many samples the mean and the deviation are of.
    """
    factors = []
    for band in range(errors.shape[1]):
        at = counts[:, band] > 0
        if not at.any():
            factors.append(NORMAL)
            continue
        error, deviation, weight = (part[:, band][at].double() for part in (errors, deviations, counts))
        deviation = deviation.clamp_min(LEAST_DEVIATION)
        low, high = _quantiles(error / deviation, weight)
        ratio = float(((error.square() * weight).sum() / (deviation.square() * weight).sum()).sqrt())
        factors.append((max(ratio, 1e-6), low, max(high, low + 1e-6)))
    spread, lows, highs = zip(*factors, strict=True)
    return Calibration(samples, spread, lows, highs)


def _quantiles(values: Tensor, weight: Tensor) -> list[float]:
    """The values that ``QUANTILES`` of the weight lie below."""
    ordered, order = values.sort()
    below = weight[order].cumsum(0)
    at = torch.searchsorted(below / below[-1], torch.tensor(QUANTILES, dtype=below.dtype))
    return [float(value) for value in ordered[at.clamp_max(len(values) - 1)]]
