"""Per band, what turns the spread of samples into that of the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from spectile.catalog.calibration import Calibration
from spectile.model.data.crops import Batch

LEAST_DEVIATION = 1e-5
"""Standard deviations of samples are held above this, reflectance."""
QUANTILES = (0.05, 0.95)
NORMAL = (1.0, -1.6448536, 1.6448536)
"""Spread, low and high of a normal law that the samples follow."""


class Sampling(Protocol):
    """What draws samples, as a network does."""

    @property
    def device(self) -> torch.device:
        """Where it is."""
        ...

    def drawn_by(
        self, generator: torch.Generator, count: int, height: int, width: int
    ) -> Callable[[int, int], Tensor]:
        """The noise of (stage, step)."""
        ...

    def sample(self, rgb: Tensor, draw: Callable[[int, int], Tensor], *, number: int) -> Tensor:
        """(N, B, h, w) reflectance of (N, 3, h, w)."""
        ...


@torch.inference_mode()
def calibrate_bands(model: Sampling, batch: Batch, *, samples: int, seed: int) -> Calibration:
    """The factors of each band, from ``samples`` draws of each crop at the default steps."""
    draw = model.drawn_by(torch.Generator().manual_seed(seed), 1, *batch.rgb.shape[2:])
    deviations, errors = [], []
    for rgb, target in zip(batch.rgb, batch.target, strict=True):
        given = rgb[None].to(model.device)
        drawn = torch.stack([model.sample(given, draw, number=k)[0].cpu() for k in range(samples)])
        deviations.append(drawn.std(0))
        errors.append(target - drawn.mean(0))
    counts = (batch.weight[:, None, None] * batch.valid)[:, None] * batch.bands[:, :, None, None]
    return fit_factors(torch.stack(errors), torch.stack(deviations), counts, samples=samples)


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
