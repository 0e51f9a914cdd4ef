"""How far a cascade's samples must spread, measured on data that it was not trained on.

Two things are measured. The spread of each stage's components: a network leaves less of its training
data than of others, so that its samples are too sure. Then, per band of the finished cube, the factors
that turn the standard deviation of K samples into a standard deviation and quantiles of the truth.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from catalog.calibration import Calibration
from model.cascade import DrawStage, SpectralCascade, colour_features
from model.dataset import Batch

SPREAD_SAMPLES = 8
"""Draws of each stage's components, over all networks."""
LEAST_SPREAD = 0.1
LEAST_DEVIATION = 1e-5
"""Standard deviations of samples are held above this, reflectance."""
QUANTILES = (0.05, 0.95)
NORMAL = (1.0, -1.6448536, 1.6448536)
"""Spread, low and high of a normal law that the samples follow."""


@torch.inference_mode()
def calibrate_spread(model: SpectralCascade, batch: Batch, *, seed: int) -> None:
    """Set both stages' ``spread`` so that each component's spread is its error on the crops, in place.

    The second stage is given true coarse bands, so that it does not answer for the first one's errors.
    """
    positions = list(model.config.coarse_bands)
    colour = colour_features(batch.rgb)
    coarse = batch.target[:, positions]
    for index, given, target, bands in (
        (0, colour, coarse, batch.bands[:, positions]),
        (1, torch.cat([colour, coarse], dim=1), batch.target, batch.bands),
    ):
        stage = model.stage(index)
        draw = seeded_draw(model, batch, seed)
        error, within, between, total = (torch.zeros(stage.config.components) for _ in range(4))
        for n in range(len(given)):
            prepared = stage.prepare(given[n : n + 1])
            means, drawn = [], []
            for member in range(model.config.members):
                encoded = stage.encode(prepared, member)
                left, known = stage.components(
                    (target[n : n + 1] - encoded.prepared.mean) / prepared.size, bands[n : n + 1]
                )
                means.append(left[0])
                for _ in range(max(SPREAD_SAMPLES // model.config.members, 2)):
                    z = stage.sample(encoded, model.schedule, model.config.steps, partial(draw, index))
                    drawn.append(z[0] * stage.deviation[:, None, None])
            # Errors count as reflectance: dark pixels, whose relative errors are large, do not.
            weight = known[0, :, None, None] * batch.valid[n] * prepared.size[0].square()
            off = torch.stack(means)
            error += (off.mean(0).square() * weight).sum((1, 2))
            between += (off.var(0, unbiased=False) * weight).sum((1, 2))
            within += (torch.stack(drawn).square().mean(0) * weight).sum((1, 2))
            total += weight.sum((1, 2))
        # What the networks disagree about is spread already.
        ratio = (error - between) / within.clamp_min(1e-12)
        # A component that no crop shows keeps its spread.
        stage.spread.copy_(torch.where(total > 0, ratio.clamp_min(LEAST_SPREAD**2).sqrt(), stage.spread))


@torch.inference_mode()
def calibrate_bands(model: SpectralCascade, batch: Batch, *, samples: int, seed: int) -> Calibration:
    """The factors of each band, from ``samples`` draws of each crop at the default steps."""
    draw = seeded_draw(model, batch, seed)
    deviations, errors = [], []
    for n in range(len(batch.rgb)):
        drawn = torch.stack([model.sample(batch.rgb[n : n + 1], draw, number=k)[0] for k in range(samples)])
        deviations.append(drawn.std(0))
        errors.append(batch.target[n] - drawn.mean(0))
    counted = (batch.valid[:, None] * batch.bands[:, :, None, None]) > 0
    return fit_factors(torch.stack(errors), torch.stack(deviations), counted, samples=samples)


def fit_factors(errors: Tensor, deviations: Tensor, counted: Tensor, *, samples: int) -> Calibration:
    """The factors of each band from errors of the mean and deviations of the samples.

    Parameters
    ----------
    errors, deviations : (N, B, h, w) truth − mean of the samples, and the samples' standard deviation.
    counted : (N, B, h, w) bool, what is known and valid; a band with nothing keeps a normal law's factors.
    samples : K, how many samples the mean and the deviation are of.
    """
    factors = []
    for band in range(errors.shape[1]):
        at = counted[:, band]
        if not at.any():
            factors.append(NORMAL)
            continue
        error, deviation = errors[:, band][at].double(), deviations[:, band][at].double()
        deviation = deviation.clamp_min(LEAST_DEVIATION)
        low, high = (_quantile(error / deviation, q) for q in QUANTILES)
        ratio = float((error.square().mean() / deviation.square().mean()).sqrt())
        factors.append((max(ratio, 1e-6), low, max(high, low + 1e-6)))
    spread, lows, highs = zip(*factors, strict=True)
    return Calibration(samples, spread, lows, highs)


def _quantile(values: Tensor, q: float) -> float:
    """The q-quantile; torch's own refuses more than 2^24 values."""
    return float(values.kthvalue(min(max(round(q * (len(values) + 1)), 1), len(values))).values)


def seeded_draw(model: SpectralCascade, batch: Batch, seed: int) -> DrawStage:
    """Noise for one crop at a time, the next of a generator at each call."""
    generator = torch.Generator().manual_seed(seed)

    def draw(stage: int, step: int) -> Tensor:
        del step  # the solver draws once
        shape = (1, model.stage(stage).config.components, *batch.rgb.shape[2:])
        return torch.randn(shape, generator=generator)

    return draw
