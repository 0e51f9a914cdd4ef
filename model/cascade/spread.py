"""How large the spread of a cascade's samples must be, measured on data that it was not trained on.

The spread and the grain of each stage's components are measured: a network leaves less of its training data
than of others, and what it leaves there is whiter, so that the spread of its samples is too small and their
noise too rough. What the spread of the finished samples means is ``closed.factors``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from spectile.model.cascade.cascade import SpectralCascade, Stage
from spectile.model.closed.closed_form import Prepared, colour_features
from spectile.model.data.crops import Batch
from spectile.model.diffusion.grain import fit_grain

CALIBRATION_CROPS = 4
"""Most crops of each validation scene; a scene no larger than a crop has one, with every pixel."""
SPREAD_SAMPLES = 8
"""Draws of each stage's components, over all networks."""
LEAST_SPREAD = 0.1
GREATEST_SPREAD = 5.0


@torch.inference_mode()
def calibrate_stages(model: SpectralCascade, batch: Batch, *, seed: int) -> None:
    """Set both stages' ``grain`` and ``spread`` to those of each component's error on the crops, in place.

    The second stage gets true coarse bands, so that the first stage's errors do not count for it.
    """
    positions = list(model.config.coarse_bands)
    colour = colour_features(batch.rgb)
    coarse = batch.target[:, positions]
    support = model.support(colour)
    for index, given, target, bands in (
        (0, colour, coarse, batch.bands[:, positions]),
        (1, torch.cat([colour, coarse], dim=1), batch.target, batch.bands),
    ):
        stage = model.stage(index)
        prepared_crops = [
            stage.closed.prepare(given[n : n + 1])._replace(support=support[n : n + 1])
            for n in range(len(given))
        ]
        _calibrate_grain(stage, prepared_crops, target, bands, batch)
        draw = model.drawn_by(torch.Generator().manual_seed(seed), 1, *batch.rgb.shape[2:])
        count = stage.config.components
        sums, total = batch.rgb.new_zeros(2, 3, count), batch.rgb.new_zeros(count)
        repeats = max(SPREAD_SAMPLES // model.config.members, 2)
        for n, prepared in enumerate(prepared_crops):
            left, drawn = [], []
            for member in range(model.config.members):
                encoded = stage.encode(prepared, member)
                off, known = stage.components(
                    (target[n : n + 1] - encoded.prepared.mean) / prepared.size, bands[n : n + 1]
                )
                for _ in range(repeats):
                    z = stage.sample(encoded, model.schedule, model.config.steps, partial(draw, index))
                    left.append(off[0])
                    drawn.append(z[0] * stage.deviation[:, None, None])
            # Errors count as reflectance: dark pixels, whose relative errors are large, do not.
            weight = batch.weight[n] * known[0, :, None, None] * batch.valid[n] * prepared.size[0].square()
            sums += _moments(torch.stack(left), torch.stack(drawn), weight)
            total += weight.sum((1, 2))
        matched = _matching(sums, model.config.members * repeats)
        # A component without data in any crop keeps its spread.
        stage.spread.copy_(torch.where(total > 0, matched, stage.spread))


def _calibrate_grain(
    stage: Stage, prepared_crops: Sequence[Prepared], target: Tensor, bands: Tensor, batch: Batch
) -> None:
    """Set the grain to that of the mean's error, if a crop has data for it."""
    left, weights = [], []
    for n, prepared in enumerate(prepared_crops):
        error = (target[n : n + 1] - stage.posterior_mean(prepared)) / prepared.size
        off, known = stage.components(error, bands[n : n + 1])
        left.append(off)
        # The grain comes from products of two pixels, each with its weight.
        counts = batch.weight[n].sqrt() * batch.valid[n]
        weights.append(known[:, :, None, None] * counts * prepared.size.square())
    weight = torch.cat(weights)
    shown = weight.sum((0, 2, 3)) > 0
    stage.grain[shown] = fit_grain(torch.cat(left), weight).to(stage.grain.device)[shown]


def _moments(left: Tensor, drawn: Tensor, weight: Tensor) -> Tensor:
    """(2, 3, K) sums over pixels of products of the draws' means, and of their covariances over draws.

    Of draws (R, K, h, w): what a network's mean leaves over with itself, with what was drawn, and the latter
    with itself.
    """
    pairs = ((left, left), (left, drawn), (drawn, drawn))
    means = [a.mean(0) * b.mean(0) for a, b in pairs]
    covariances = [((a - a.mean(0)) * (b - b.mean(0))).sum(0) / (len(a) - 1) for a, b in pairs]
    stacked = torch.stack([torch.stack(means), torch.stack(covariances)])
    return (stacked * weight).sum((-2, -1))


def _matching(sums: Tensor, draws: int) -> Tensor:
    """(K,) factors on the draws, so that the truth is like one more draw.

    Then the mean of R draws errs by (1 + 1/R) times their variance; both are quadratic in it. The
    disagreement of the networks is spread already; the average of their draws is error.
    """
    constant, linear, square = sums[0] - (1.0 + 1.0 / draws) * sums[1]
    root = (linear.square() - square * constant).clamp_min(0.0).sqrt()
    # More spread than error at any factor has no root: then the draws' mean alone is too far off.
    factor = torch.where(square < 0, (linear - root) / square, torch.full_like(square, GREATEST_SPREAD))
    return factor.nan_to_num(1.0).clamp(LEAST_SPREAD, GREATEST_SPREAD)
