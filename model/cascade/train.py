"""Training of the spectral cascade: closed-form means first, then both stages' networks together.

A stage learns two things at once: the correction of its mean, under the squared error and the spectral
angle, and the denoiser of what the corrected mean leaves over.

The stages are trained at the same time: the second one on true coarse bands with noise of the first stage's
residual added (noise conditioning, Ho et al. 2022), as the paper's Table III asks for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spectile.catalog.errors import UsageError
from spectile.model.cascade.cascade import CascadeConfig, SpectralCascade, Stage
from spectile.model.cascade.config import TrainConfig
from spectile.model.cascade.means import Means, fit_means, perturb
from spectile.model.cascade.sites import leave_sites_out, site_factor
from spectile.model.cascade.spread import CALIBRATION_CROPS, calibrate_stages
from spectile.model.closed.closed_form import Prepared, colour_features
from spectile.model.closed.factors import calibrate_bands
from spectile.model.data.crops import Batch, CropSource, TrainingScene
from spectile.model.device import resolve_device
from spectile.model.diffusion.grain import fit_grain, random_grained
from spectile.model.diffusion.losses import spectral_loss
from spectile.model.diffusion.parameterization import add_noise
from spectile.model.diffusion.schedule import Schedule
from spectile.model.networks.unet_compact import CompactUNet
from spectile.model.training.ahead import Ahead, crop_threads
from spectile.model.training.ema import Ema
from spectile.model.training.run import Progress, generator_of, run_steps, scene_facts

MAX_WEIGHT = 5.0
"""The loss on x̂_0 counts min(SNR + 1, 5) times: SNR + 1 times it is the loss on v; the limit is as of Hang et
al. (2023), whose weight for x̂_0 is min(SNR, 5)."""
MAX_COMPONENT = 4.0
"""Whitened residuals are clipped to ±4 deviations in training."""
DEVIATION_RATE = 0.02
"""Share of a batch in the running deviation of the components …"""
GRAIN_RATE = 0.01
"""… and their grain."""
CALIBRATION_SAMPLES = 16
VALIDATION_CROPS = 2
"""Most validation crops of each scene."""


def train(
    config: TrainConfig,
    cascade: CascadeConfig,
    scenes: Sequence[TrainingScene],
    validation: Sequence[TrainingScene],
    out_dir: Path,
    *,
    metadata: Mapping[str, Any],
    device: str = "auto",
    progress: Progress = lambda record: None,
    stop_after: int | None = None,
) -> SpectralCascade:
    """The trained cascade, on the device, whose checkpoint is in ``out_dir`` with its log and its state.

    A run that finds its own state in ``out_dir`` continues from it. On a CPU it ends with the same weights,
    to the bit, as one that was never interrupted; on CUDA as far as its kernels repeat themselves.

    Parameters
    ----------
    config, cascade : what to train and how.
    scenes, validation : training scenes; scenes to measure on, and to calibrate the spread, the grain, the
        factors of the bands and the factor of new places. No weight of a network depends on validation.
    out_dir : the checkpoint's folder.
    metadata : facts for the checkpoint: name, recipe, data, held-out metrics.
    device : ``auto``, ``cpu`` or ``cuda``; the closed forms are fitted on the CPU, in float64.
    progress : is called with each record that goes to the log.
    stop_after : end early after this step, as an interruption would.

    Raises
    ------
    UsageError
        Where the scenes, the size of the crops or the device cannot be used, or no scene has every band.
    CheckpointError
        Where the state in ``out_dir`` is of another configuration, or damaged.
    """
    where = resolve_device(device)
    if config.crop % CompactUNet.stride:
        raise UsageError(
            "crops do not fit the network", got=config.crop, expected=f"a multiple of {CompactUNet.stride}"
        )
    torch.manual_seed(config.seed)
    model = SpectralCascade(cascade)
    means = fit_means(model, CropSource(scenes, cascade.bands, cascade.response), config).to(where)
    fill = means.fill
    source, watch = (CropSource(part, cascade.bands, cascade.response, fill) for part in (scenes, validation))
    model.to(where)
    facts = {**metadata, "fill": fill.tolist(), "cascade": cascade.to_json(), "training": asdict(config)}
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=config.weight_decay)
    ema = Ema(model, decay=config.ema_decay, start=config.warmup)
    finished: list[SpectralCascade] = []

    def finish() -> tuple[dict[str, Tensor], dict[str, Any]]:
        finished.append(averaged(cascade, ema).to(where))
        return _finish(finished[-1], means, source, watch, config)

    with Ahead(partial(crops_of, source, config), config.steps, threads=crop_threads(where)) as batches:
        run_steps(
            model,
            optimiser,
            ema,
            out_dir,
            identity={
                "training": asdict(config),
                "cascade": cascade.to_json(),
                "scenes": scene_facts(scenes),
                "validation": scene_facts(validation),
            },
            facts=facts,
            steps=config.steps,
            log_every=config.log_every,
            validate_every=config.validate_every,
            step=lambda step: train_step(model, batches(step), optimiser, config, step, means),
            validate=lambda: validate(averaged(cascade, ema).to(where), watch, config),
            progress=progress,
            finish=finish,
            stop_after=stop_after,
        )
    return (finished[-1] if finished else averaged(cascade, ema)).to(where)


def _finish(
    model: SpectralCascade, means: Means, source: CropSource, watch: CropSource, config: TrainConfig
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Round the networks to half precision and calibrate the rounded ones; their tensors and facts."""
    networks = dict(model.named_parameters())
    model.load_state_dict({k: v.half() if k in networks else v for k, v in model.state_dict().items()})
    batch = watch.every_pixel((config.seed, 8), size=config.crop, crops=CALIBRATION_CROPS)
    calibrate_stages(model, batch.to(model.device), seed=config.seed)
    factors = calibrate_bands(model, batch, samples=CALIBRATION_SAMPLES, seed=config.seed)
    sites = leave_sites_out(model, means, source.scenes, watch.scenes, config)
    factors = factors.widened(site_factor(sites))
    tensors = {k: v.half() if k in networks else v for k, v in model.state_dict().items()}
    return tensors, {"calibration": factors.to_json(), "sites": {k: v._asdict() for k, v in sites.items()}}


def averaged(cascade: CascadeConfig, ema: Ema) -> SpectralCascade:
    """The cascade with the averaged weights, in evaluation mode, on the CPU."""
    return ema.averaged(SpectralCascade(cascade))


def crops_of(source: CropSource, config: TrainConfig, step: int) -> Batch:
    """The crops of a step."""
    key = (config.seed, 1, step)
    return source.batch(key, count=config.batch, size=config.crop, augmentation=config.augmentation)


def train_step(
    model: SpectralCascade,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    config: TrainConfig,
    step: int,
    means: Means,
) -> dict[str, float]:
    """One optimiser step on both stages of one member, each in turn; the losses."""
    member = step % model.config.members
    generator = generator_of(config.seed, 2, step)
    first, second = step_losses(model, batch, config, generator, member, means)
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(config, step)
    optimiser.zero_grad(set_to_none=True)
    (first + second).backward()  # type: ignore[no-untyped-call]
    for index in (0, 1):
        torch.nn.utils.clip_grad_norm_(model.stage(index).parameters(), 1.0)
    optimiser.step()
    return {"first": round(first.item(), 5), "second": round(second.item(), 5)}


def step_losses(
    model: SpectralCascade,
    batch: Batch,
    config: TrainConfig,
    generator: torch.Generator,
    member: int,
    means: Means,
) -> tuple[Tensor, Tensor]:
    """Both stages' losses of a batch, computed where the model is; the generator is the CPU's everywhere.

    The means are those without each crop's own place or library.
    """
    batch = batch.to(model.device)
    positions = list(model.config.coarse_bands)
    colour, coarse = colour_features(batch.rgb), batch.target[:, positions]
    first, second = model.stage(0), model.stage(1)
    support = model.support(colour)
    known = first.closed.prepare(colour, means.without(0, batch.scene))._replace(support=support)
    noisy = perturb(first, known, coarse, config.coarse_noise, generator)
    given = torch.cat([colour, noisy], dim=1)
    refined = second.closed.prepare(given, means.without(1, batch.scene))._replace(support=support)
    return (
        stage_loss(
            first, model.schedule, known, coarse, batch.bands[:, positions], batch, config, generator, member
        ),
        stage_loss(
            second, model.schedule, refined, batch.target, batch.bands, batch, config, generator, member
        ),
    )


def stage_loss(
    stage: Stage,
    schedule: Schedule,
    known: Prepared,
    target: Tensor,
    bands: Tensor,
    batch: Batch,
    config: TrainConfig,
    generator: torch.Generator,
    member: int = 0,
) -> Tensor:
    """The loss of the corrected mean plus the weighted loss on ẑ_0, over valid pixels.

    Bands (N, T) that a scene lacks: z_0 is then the most likely one given the others under the residual's
    Gaussian, and each component counts as far as the others determine it.
    """
    encoded = stage.encode(known, member)
    prepared = encoded.prepared
    mask = bands[:, :, None, None] * batch.valid[:, None]
    loss = mean_loss(prepared.mean, target, mask, stage.closed.residual_variance, config.angle)
    left, shown = stage.components((target - prepared.mean.detach()) / prepared.size, bands)
    weight = shown[:, :, None, None] * batch.valid[:, None]
    truth = _whitened(stage, left, weight)
    if config.condition_dropout > 0:
        kept = torch.rand((len(truth), 1, 1, 1), generator=generator) >= config.condition_dropout
        keep = kept.to(truth.device)
        half, quarter = encoded.features
        encoded = encoded._replace(features=(half * keep, quarter * keep))
    t = random_times(len(target), schedule, generator).to(truth.device)
    alpha_bar = schedule.alpha_bar_of(t, truth)
    eps = random_grained(stage.grain, len(truth), truth.shape[2], truth.shape[3], generator)
    estimate = stage.estimate(add_noise(truth, eps, alpha_bar), t, alpha_bar, encoded)
    # Components are weighted by their deviation: equal weights would train the network on sensor noise.
    share = stage.diffused.norm(dim=0) * stage.deviation
    share = share / share.mean()
    snr_weight = (alpha_bar / (1.0 - alpha_bar) + 1.0).clamp_max(MAX_WEIGHT)
    error = (estimate - truth).square() * share[:, None, None] * weight * snr_weight
    pixels = batch.valid.sum().clamp_min(1.0)
    total: Tensor = loss + error.sum() / (pixels * truth.shape[1])
    return total


def mean_loss(mean: Tensor, target: Tensor, mask: Tensor, variance: Tensor, angle: float) -> Tensor:
    """The squared error of (N, T, h, w) in units of ``variance`` plus ``angle`` times 1 − cos."""
    mask = mask.expand_as(target)
    squared = ((mean - target).square() * mask).sum() / mask.sum().clamp_min(1.0)
    loss: Tensor = squared / variance + angle * spectral_loss(mean, target, mask=mask)
    return loss


@torch.no_grad()
def _whitened(stage: Stage, left: Tensor, weight: Tensor) -> Tensor:
    """The components (N, K, h, w) of a batch, clipped to ±4 of the stage's deviations, in units of these.

    Deviation and grain move towards those of the batch, as it was clipped. The clipping depends on the
    deviation, and the deviation on the clipped values. This is intended: from any start they converge to the
    deviation at which the clipped components have unit variance, which is Huber's scale (proposal 2, 1964),
    unless fifteen in sixteen values are zero. Without the clipping the deviation would be that of spikes, and
    the learnt distribution narrower than it says.
    """
    # Spikes of real sensors are larger, and would dominate the gradient.
    limit = MAX_COMPONENT * stage.deviation[:, None, None]
    left = left.clamp(-limit, limit)
    stage.grain.lerp_(fit_grain(left, weight).to(stage.grain.device), GRAIN_RATE)
    deviation = stage.deviation
    total = weight.sum(dim=(0, 2, 3))
    latest = ((left.square() * weight).sum(dim=(0, 2, 3)) / total.clamp_min(1.0)).sqrt()
    deviation.copy_(torch.where(total > 0, deviation.lerp(latest, DEVIATION_RATE), deviation).clamp_min(1e-3))
    return left / deviation[:, None, None]


def random_times(count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """(count,) integer times: a quarter at T, the rest even in log-SNR.

    By default the first of the solver's four evaluations is at T. The denoiser's output there is its average,
    which is subtracted from every sample, so it must be learnt well. Other numbers of steps use other times,
    so the rest is spread over all.
    """
    low, high = schedule.log_snr(schedule.steps), schedule.log_snr(1)
    at = torch.rand(count, generator=generator)
    drawn = [schedule.time_of_log_snr(low + (high - low) * float(u)) for u in at]
    times = torch.tensor(drawn).round().clamp(1, schedule.steps).long()
    times[torch.rand(count, generator=generator) < 0.25] = schedule.steps
    return times


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine to 1 % of the peak."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    share = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * share)))


@torch.inference_mode()
def validate(model: SpectralCascade, source: CropSource, config: TrainConfig) -> dict[str, float]:
    """RMSE on fixed crops: the posterior mean, one sample, and the closed-form mean of both stages."""
    batch = source.every_pixel((0,), size=config.crop, crops=VALIDATION_CROPS)
    batch = batch.to(model.device)
    draw = model.drawn_by(generator_of(0, 5, 0), len(batch.rgb), *batch.rgb.shape[2:])
    return {
        "closed_form_rmse": round(batch.rmse(model.closed_form(batch.rgb)), 5),
        "mean_rmse": round(batch.rmse(model.sample(batch.rgb, draw, steps=1)), 5),
        "sample_rmse": round(batch.rmse(model.sample(batch.rgb, draw)), 5),
    }
