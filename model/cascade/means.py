"""The closed-form means of a cascade, fitted to the pixels of training scenes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from spectile.catalog.errors import UsageError
from spectile.model.cascade.cascade import SpectralCascade, Stage
from spectile.model.closed.closed_form import (
    COLOUR_FEATURES,
    ClosedForm,
    Coefficients,
    Prepared,
    colour_features,
)
from spectile.model.closed.places import Fit, complete_groups, draw_groups, fit_by_places
from spectile.model.closed.spectra import complete_spectra
from spectile.model.data import crops as crops_module
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


class Means(NamedTuple):
    """What was fitted, beside the closed forms themselves."""

    fill: Floats
    """(3,) the mean input, which stands in for masked pixels."""
    first: Coefficients
    """(scenes, …) coefficients of the first stage without the group of each training scene."""
    second: Coefficients
    """Of the second."""

    def without(self, stage: int, scene: Tensor) -> Coefficients:
        """A stage's coefficients without the groups of scenes (N,), where those are."""
        mine = self.second if stage else self.first
        return Coefficients(*(part[scene.to(part.device)] for part in mine))

    def to(self, device: torch.device | str) -> Means:
        """The same on a device."""
        first, second = (
            Coefficients(*(part.to(device) for part in stage)) for stage in (self.first, self.second)
        )
        return Means(self.fill, first, second)


def fit_means(model: SpectralCascade, source: CropSource, config: TrainConfig) -> Means:
    """Set both stages' closed-form parts, chosen on places that are left out (``closed.places``).

    The networks learn what the means leave of places that they were fitted without: what they leave of
    their own places is smaller, and not what there is to correct elsewhere.
    """
    numbers = source.groups()
    crops = max(crops_module.FIT_CROPS // len(numbers), 10)
    groups = complete_groups(
        draw_groups(source, config.augmentation, seed=config.seed, crop=config.crop, crops=crops)
    )
    generator = generator_of(config.seed, 4, 0)
    colours = {group.name: colour_features(group.values) for group in groups}
    parts = [group.of_bands(model.config.coarse_bands) for group in groups]
    first = fit_by_places(model.stage(0).closed, parts, colours, [COLOUR_FEATURES], generator)
    given = {}
    for part in parts:
        colour = colours[part.name]
        # All pixels as one image, which is fast, then each as an image of its own, with an error of its own.
        image = model.stage(0).closed.prepare(colour.T[None, :, :, None])
        known = Prepared(*(field.permute(2, 1, 0, 3) for field in image[:3]))
        exact = part.spectra[:, :, None, None]
        noisy = perturb(model.stage(0), known, exact, config.coarse_noise, generator)
        given[part.name] = torch.cat([colour, noisy[:, :, 0, 0]], dim=1)
    features = COLOUR_FEATURES + model.config.coarse
    second = fit_by_places(model.stage(1).closed, groups, given, [features], generator)
    fill = sum((group.share * group.values.mean(0) for group in groups), torch.zeros(3))
    by_number = {number: name for name, part in numbers.items() for number in part}
    names = [by_number[number] for number in sorted(by_number)]
    return Means(
        fill.numpy(),
        _coefficients(model.stage(0).closed, first, names),
        _coefficients(model.stage(1).closed, second, names),
    )


def _coefficients(closed: ClosedForm, fit: Fit, names: Sequence[str]) -> Coefficients:
    """Coefficients (S, …) of a mean without the group of each name; the expected size is the same for all."""
    weights = torch.stack([fit.without[name].T for name in names]).float()
    own_weight, own_bias = closed.weight[-1:], closed.bias[-1:]
    count = len(names)
    return Coefficients(
        torch.cat([weights[:, :, 1:], own_weight.expand(count, -1, -1)], dim=1),
        torch.cat([weights[:, :, 0], own_bias.expand(count, -1)], dim=1),
    )


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
