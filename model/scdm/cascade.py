"""Sampling from SCDM as published (Chen et al. 2024, algorithm 2), one stage and the cascade."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from spectile.model.diffusion.guidance import guide, null_condition
from spectile.model.diffusion.parameterization import to_x0
from spectile.model.diffusion.sampler import Draw, ancestral
from spectile.model.diffusion.schedule import Schedule, uniform_grid
from spectile.model.diffusion.truncation import percentile, truncate
from spectile.model.networks.unet_shared_encoder import SharedEncoderUNet
from spectile.model.scdm.preset import ScdmPreset, StagePreset
from spectile.model.system import REFLECTANCE_LIMIT, DrawStage, Network

FORWARD_MAPS = 50
"""Maps of ``width`` channels that the peak of a forward pass amounts to, measured at widths 16 and 32."""
QUANTILE_STATES = 17
"""Arrays of the state's size that the truncation's peak amounts to, measured at 48 and 102 bands."""


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
    features = [network.encode_condition(given, zero) for given in conditions] if fixed else []

    def clamp(values: Tensor, t: float) -> Tensor:
        return truncate(values, percentile(t, steps=schedule.steps, p_T=stage.p_T))

    def denoise(x_t: Tensor, t: float) -> Tensor:
        time = zero + (t - 1.0)  # the published network counts 0 to T - 1
        seen = features or [network.encode_condition(given, time) for given in conditions]
        eps, *unconditional = (network.predict(x_t, time, encoded) for encoded in seen)
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
    draw: DrawStage,
    steps: int | None = None,
) -> Tensor:
    """One sample of the whole cascade, (N, B, h, w) float32, digital numbers.

    Parameters
    ----------
    networks : one for each stage, in evaluation mode.
    rgb : (N, 3, h, w) float32, digital numbers, in the order R, G, B; sides are multiples of the stride.
    preset : bands, normalisation and stages.
    draw : the noise of (stage, step), standard normal, in the shape of the stage's state.
    steps : evaluations a stage; None is the preset's default.
    """
    times = uniform_grid(preset.schedule, preset.steps if steps is None else steps)
    x = (rgb - preset.offset) / preset.scale
    for index, (network, stage) in enumerate(zip(networks, preset.stages, strict=True)):
        x = sample_stage(
            network, x, stage=stage, schedule=preset.schedule, times=times, draw=partial(draw, index)
        )
    return x * preset.scale + preset.offset


class ScdmCascade(Network):
    """The published cascade from reflectance to reflectance, both stages' networks in one module."""

    config: ScdmPreset

    def __init__(self, config: ScdmPreset) -> None:
        super().__init__()
        self.config = config
        self.schedule = config.schedule
        self.stages = nn.ModuleList(SharedEncoderUNet(stage.network) for stage in config.stages)

    def stage(self, index: int) -> SharedEncoderUNet:
        """The first (0) or second (1) stage's network."""
        network = self.stages[index]
        assert isinstance(network, SharedEncoderUNet)
        return network

    @property
    def stride(self) -> int:  # type: ignore[override]
        """The networks' stride in pixels."""
        return self.stage(0).config.stride

    @property
    def bytes_per_pixel(self) -> int:  # type: ignore[override]
        """Peak activations of one tile: those of a forward pass, or of the quantile in the truncation."""
        config = self.stage(1).config
        return 4 * max(FORWARD_MAPS * config.width, QUANTILE_STATES * config.channels)

    def normalise(self, reflectance: Tensor) -> Tensor:
        """What the networks see of a reflectance."""
        return (reflectance * self.config.counts - self.config.offset) / self.config.scale

    def finish(self, begun: Tensor, draw: DrawStage, *, steps: int | None = None, number: int = 0) -> Tensor:
        """One sample of the cube of a colour image, (N, B, h, w) reflectance in [0, 1.6]."""
        counts = self.config.counts
        networks = [self.stage(index) for index in range(len(self.stages))]
        cube = sample_cascade(networks, begun * counts, preset=self.config, draw=draw, steps=steps)
        return (cube / counts).clamp(0.0, REFLECTANCE_LIMIT)
