"""Sampling from SCDM as published (Chen et al. 2024, algorithm 2), one stage and the cascade."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.guidance import guide, null_condition
from model.networks.unet_shared_encoder import SharedEncoderUNet
from model.noise import noise
from model.parameterization import to_x0
from model.presets import ScdmPreset, StagePreset
from model.sampler import Draw, ancestral
from model.schedule import Schedule, uniform_grid
from model.truncation import percentile, truncate


@torch.no_grad()
def sample_stage(
    network: SharedEncoderUNet,
    condition: Tensor,
    *,
    stage: StagePreset,
    schedule: Schedule,
    times: Sequence[float],
    draw: Draw,
) -> Tensor:
    """One sample of a stage, (N, B, h, w) normalised.

    Parameters
    ----------
    network : in evaluation mode, on the condition's device.
    condition : (N, C, h, w), normalised.
    stage : guidance and truncation.
    schedule : the forward process, T steps.
    times : falling from T to 0, T + 1 of them as published.
    draw : the noise of each step, (N, B, h, w) standard normal.
    """
    conditions = [condition] if stage.guidance == 0.0 else [condition, null_condition(condition)]
    fixed = network.config.condition_time == "fixed"
    zero = condition.new_zeros(len(condition))
    features = [network.encode_condition(each, zero) for each in conditions] if fixed else []

    def clamp(values: Tensor, t: float) -> Tensor:
        return truncate(values, percentile(t, steps=schedule.steps, p_T=stage.p_T))

    def denoise(x_t: Tensor, t: float) -> Tensor:
        time = zero + (t - 1.0)  # the published network counts 0 to T - 1
        seen = features or [network.encode_condition(each, time) for each in conditions]
        eps, *unconditional = (network.predict(x_t, time, each) for each in seen)
        for null in unconditional:
            eps = guide(eps, null, stage.guidance)
        if stage.truncation == "eps":
            eps = clamp(eps, t)
        return to_x0(eps, x_t, schedule.alpha_bar_at(t), "eps")

    on_state = clamp if stage.truncation == "x_t" else None
    return ancestral(denoise, schedule, times=times, draw=draw, truncate=on_state)


def sample_cascade(
    networks: Sequence[SharedEncoderUNet],
    rgb: Tensor,
    *,
    preset: ScdmPreset,
    origins: Tensor,
    seed: int,
    sample: int = 0,
    steps: int | None = None,
) -> Tensor:
    """One sample of the whole cascade, (N, B, h, w) float32, digital numbers.

    Parameters
    ----------
    networks : one for each stage, in evaluation mode.
    rgb : (N, 3, h, w) float32, digital numbers, in the order R, G, B; sides are multiples of the stride.
    preset : bands, normalisation and stages.
    origins : (N, 2) int64, (row, col) of each tile's first pixel on the scene's grid, which keys the noise.
    seed, sample : of the noise.
    steps : evaluations a stage, all T if None.
    """
    times = uniform_grid(preset.schedule, preset.schedule.steps if steps is None else steps)
    x = (rgb - preset.offset) / preset.scale
    for index, (network, stage) in enumerate(zip(networks, preset.stages, strict=True)):

        def draw(step: int, index: int = index, channels: int = stage.network.channels) -> Tensor:
            return noise(
                seed=seed,
                stage=index,
                step=step,
                sample=sample,
                channels=channels,
                origins=origins,
                height=rgb.shape[-2],
                width=rgb.shape[-1],
                device=rgb.device,
            )

        x = sample_stage(network, x, stage=stage, schedule=preset.schedule, times=times, draw=draw)
    return x * preset.scale + preset.offset
