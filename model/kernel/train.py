"""Fitting a kernel ridge regression: everything is chosen and measured on places that are left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spectile.catalog.errors import UsageError
from spectile.model import checkpoint
from spectile.model.closed.factors import fit_factors
from spectile.model.closed.places import Group, complete_groups, draw_groups, fit_by_places, set_mean
from spectile.model.closed.regressions import monomials
from spectile.model.closed.spectra import components
from spectile.model.data.crops import CropSource, TrainingScene
from spectile.model.diffusion.grain import fit_grain
from spectile.model.kernel.config import KernelConfig, KernelTraining
from spectile.model.kernel.regression import KernelRegression
from spectile.model.training.run import Progress, generator_of

CALIBRATION_CROPS = 8
"""Of each scene at most."""
CALIBRATION_SAMPLES = 16


def train(
    config: KernelConfig,
    training: KernelTraining,
    scenes: Sequence[TrainingScene],
    validation: Sequence[TrainingScene],
    out_dir: Path,
    *,
    metadata: Mapping[str, Any],
    device: str = "auto",
    progress: Progress = lambda record: None,
) -> KernelRegression:
    """The fitted regression, whose checkpoint is in ``out_dir``. It takes a minute, on the CPU, in float64.

    Parameters
    ----------
    config, training : what to fit and how.
    scenes : to learn from. Two places (``site``) at least, which are left out in turn.
    validation : not looked at; the baselines are chosen on it.
    out_dir : the checkpoint's folder.
    metadata : facts for the checkpoint.
    device : not used: the fit is in float64.
    progress : is called with the error of each place, left out.

    Raises
    ------
    UsageError : there are fewer than two places, or no scene has every band.
    """
    del validation, device
    groups = groups_of(config, training, scenes)
    return fit(config, training, groups, out_dir, metadata=metadata, progress=progress)


def groups_of(config: KernelConfig, training: KernelTraining, scenes: Sequence[TrainingScene]) -> list[Group]:
    """The scenes by group, with the pixels that a fit takes."""
    source = CropSource(scenes, config.bands, config.response)
    return draw_groups(
        source, training.augmentation, seed=training.seed, crop=training.crop, crops=training.crops
    )


def fit(
    config: KernelConfig,
    training: KernelTraining,
    groups: Sequence[Group],
    out_dir: Path,
    *,
    metadata: Mapping[str, Any],
    progress: Progress = lambda record: None,
) -> KernelRegression:
    """The regression fitted to groups, as of ``train``; others may be fitted to some of the same groups."""
    model = KernelRegression(config).eval()
    groups = complete_groups(groups)
    places = [group for group in groups if group.is_place]
    if len(places) < 2:
        raise UsageError(
            "a kernel regression is chosen on places that are left out", got=f"{len(places)} places",
            expected="scenes of two sites or more", remedy="see docs/training.md",
        )  # fmt: skip
    stage = model.only
    values = torch.cat([group.values for group in groups])
    stage.low.copy_(values.min(0).values)
    stage.high.copy_(values.max(0).values)
    features = {group.name: stage.features(group.values) for group in groups}
    channels = len(config.response)
    sizes = {len(monomials(degree, channels)): degree for degree in range(1, config.degree + 1)}
    found = fit_by_places(stage.closed, groups, features, list(sizes), generator_of(training.seed, 4, 0))
    fill = sum((group.share * group.values.mean(0) for group in groups), torch.zeros(channels))
    errors = {}
    for number, group in enumerate(places, 1):
        own, left_out = found.errors[group.name]
        errors[group.name] = {"own": own, "left_out": left_out}
        progress({"step": number, "of": len(places), "left_out": group.name, "rmse": round(left_out, 4)})
    _, polynomial, kernel, share = choice = found.choice
    chosen = {
        "degree": sizes[choice.features], "polynomial": polynomial, "kernel": kernel, "share": share
    }  # fmt: skip
    calibration = _calibrate(model, places, found.without, training, fill)
    facts = {
        **metadata, "kind": "kernel-ridge", "preset": config.to_json(), "training": asdict(training),
        "fill": fill.tolist(), "chosen": chosen, "sites": errors,
        "calibration": calibration.to_json(),
    }  # fmt: skip
    checkpoint.save(out_dir, model.state_dict(), facts)
    return model


@torch.inference_mode()
def _calibrate(
    model: KernelRegression,
    places: Sequence[Group],
    without: Mapping[str, Tensor],
    training: KernelTraining,
    fill: Tensor,
) -> Any:
    """Set spread and grain of the components, and the factors of each band, on images of places left out."""
    config, stage = model.config, model.only
    final = stage.closed.weight.clone(), stage.closed.bias.clone()
    batches, means, sizes = [], [], []
    for place in places:
        source = CropSource(place.scenes, config.bands, config.response, fill.numpy())
        batch = source.every_pixel((training.seed, 8), size=training.crop, crops=CALIBRATION_CROPS)
        set_mean(stage.closed, without[place.name])
        expected = model.begin(batch.rgb)
        # A place counts as much as any other, whatever its size.
        pixels = float((batch.weight[:, None, None] * batch.valid).sum())
        batches.append((batch, batch.weight / pixels))
        means.append(expected.mean)
        sizes.append(expected.size)
    stage.closed.weight.copy_(final[0])
    stage.closed.bias.copy_(final[1])
    left, weights = [], []
    for (batch, share), mean, size in zip(batches, means, sizes, strict=True):
        basis = stage.closed.basis[:, : config.components]
        off, known = components(basis, (batch.target - mean) / size, batch.bands)
        left.append(off)
        counts = share[:, None, None] * batch.valid * size[:, 0].square()
        weights.append(known[:, :, None, None] * counts[:, None])
    weight, off = torch.cat(weights), torch.cat(left)
    shown = weight.sum((0, 2, 3))
    variance = (off.square() * weight).sum((0, 2, 3)) / shown.clamp_min(1e-30)
    stage.spread.copy_(torch.where(shown > 0, variance.sqrt(), stage.spread))
    stage.grain[shown > 0] = fit_grain(off, weight.sqrt())[shown > 0]
    deviation = stage.basis.square().sum(1).sqrt()[None, :, None, None]
    generator = generator_of(training.seed, 9, 0)
    errors, deviations, shares = [], [], []
    for (batch, share), mean, size in zip(batches, means, sizes, strict=True):
        spread = size * deviation
        # What the mean and the deviation of so many samples would be.
        of, normal = CALIBRATION_SAMPLES, torch.randn(2, *size.shape, generator=generator)
        errors.append(batch.target - mean.clamp_min(0.0) - spread * normal[0] / math.sqrt(of))
        deviations.append(spread * (1.0 + normal[1] / math.sqrt(2.0 * (of - 1))).clamp_min(0.1))
        shares.append((share[:, None, None] * batch.valid)[:, None] * batch.bands[:, :, None, None])
    parts = (torch.cat(part) for part in (errors, deviations, shares))
    return fit_factors(*parts, samples=CALIBRATION_SAMPLES)
