"""The closed-form means of a cascade, fitted to the pixels of training scenes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spectile.catalog.errors import UsageError
from spectile.model.cascade.cascade import SpectralCascade, Stage
from spectile.model.closed.closed_form import Prepared, colour_features
from spectile.model.closed.spectra import complete_spectra
from spectile.model.data.crops import Augmentation, CropSource, Floats
from spectile.model.diffusion.grain import random_grained
from spectile.model.training.run import generator_of

if TYPE_CHECKING:
    from spectile.model.cascade.config import TrainConfig


def training_pixels(
    source: CropSource,
    seed: int,
    augmentation: Augmentation | None,
    *,
    crop: int = 64,
    crops: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Spectra for closed-form fits: rgb (P, 3) and reflectance (P, B) of valid pixels.

    Missing bands are estimated from the others by ridge regression on complete pixels.
    """
    if not any(source.complete):
        raise UsageError("no training scene has every band of the model", remedy="add one that covers them")
    rgb, target, bands = source.pixels(seed, augmentation, crop=crop, crops=crops)
    return rgb, complete_spectra(target, bands)


def fit_means(model: SpectralCascade, source: CropSource, config: TrainConfig) -> Floats:
    """Set both stages' closed-form parts; returns the (3,) mean input, which stands in for masked pixels."""
    rgb, target = training_pixels(source, config.seed, config.augmentation, crop=config.crop)
    colour = colour_features(rgb)
    coarse = target[:, list(model.config.coarse_bands)]
    generator = generator_of(config.seed, 4, 0)
    model.stage(0).closed.fit(colour, coarse, ridge=config.ridge, generator=generator)
    known = model.stage(0).closed.prepare(colour[:, :, None, None])
    noisy = perturb(model.stage(0), known, coarse[:, :, None, None], config.coarse_noise, generator)
    given = torch.cat([colour, noisy[:, :, 0, 0]], dim=1)
    model.stage(1).closed.fit(given, target, ridge=config.ridge, generator=generator)
    fill: Floats = rgb.mean(0).numpy()
    return fill


def perturb(
    stage: Stage, prepared: Prepared, coarse: Tensor, scale: float, generator: torch.Generator
) -> Tensor:
    """Coarse bands (N, n, h, w) with the errors of an imperfect first stage.

    The error has the residual's covariance and a random size per crop; half of its variance is shared by
    the crop, because the first stage's errors concern whole objects rather than pixels.
    """
    count, _, height, width = coarse.shape
    components = stage.config.components
    where = coarse.device
    size = scale * torch.rand((count, 1, 1, 1), generator=generator).to(where) * math.sqrt(0.5)
    own = random_grained(stage.grain, count, height, width, generator)
    shared = torch.randn((count, components, 1, 1), generator=generator).to(where)
    exact = prepared._replace(mean=coarse)
    error = stage.add_residual(exact, stage.diffused * stage.deviation, size * (own + shared))
    return error.mean.clamp_min(0.0)
