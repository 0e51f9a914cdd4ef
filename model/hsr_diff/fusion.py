"""Fusion with HSR-Diff (Wu et al. 2023, section 3.2.2): samples of the sharp cube given both scenes."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectile.model.diffusion.sampler import ancestral
from spectile.model.diffusion.schedule import uniform_grid
from spectile.model.hsr_diff.preset import HsrDiffConfig
from spectile.model.networks.cdformer import CDFormer, Features
from spectile.model.system import REFLECTANCE_LIMIT, DrawStage, FusionNetwork

FORWARD_MAPS = 16
"""Maps of ``width`` channels at the peak of a forward pass, beside the windows' scores: at or above what was
measured on a CPU at widths 32, 64 and 128."""


class Begun(NamedTuple):
    """What all samples of a pair share."""

    coarse: Tensor
    """(N, B, h, w) the upsampled HSI, normalised."""
    features: Features
    """Of the SR stream."""


class HsrDiff(FusionNetwork):
    """The CDFormer from reflectance to reflectance.

    A pixel depends on its whole tile, through the attention between channels.
    """

    config: HsrDiffConfig
    levels: Tensor
    """(T + 1,) γ_t of the schedule."""

    def __init__(self, config: HsrDiffConfig) -> None:
        super().__init__(config)
        self.schedule = config.schedule
        # On the device, because copying the table at each step would make it wait.
        self.register_buffer("levels", torch.tensor(config.schedule.alpha_bar), persistent=False)
        self.stages = nn.ModuleList([CDFormer(config.sizes)])

    def stage(self, index: int) -> CDFormer:
        """The network."""
        network = self.stages[index]
        assert isinstance(network, CDFormer)
        return network

    @property
    def stride(self) -> int:  # type: ignore[override]
        """Whole windows and whole coarse pixels."""
        return self.config.stride

    @property
    def bytes_per_pixel(self) -> int:  # type: ignore[override]
        """Peak activations of one tile, the SR stream's features included."""
        network = self.config.network
        scores = 2 * network.heads * network.window**2
        maps = (FORWARD_MAPS + network.layers) * network.width
        return 4 * (maps + scores + 6 * len(self.config.bands))

    @property
    def begun_bytes_per_pixel(self) -> int:  # type: ignore[override]
        """The SR stream's features, and the upsampled HSI."""
        network = self.config.network
        return 4 * (network.layers * network.width + len(self.config.bands))

    def normalise(self, reflectance: Tensor) -> Tensor:
        """What the network sees of a reflectance."""
        return (reflectance - self.config.offset) / self.config.scale

    def upsampled(self, hsi: Tensor) -> Tensor:
        """(N, B, h·r, w·r) of a normalised (N, B, h, w): bicubic between the centres of pixels (ours)."""
        return F.interpolate(
            hsi, scale_factor=float(self.config.pair.ratio), mode="bicubic", align_corners=False
        )

    def begin(self, msi: Tensor, hsi: Tensor) -> Begun:  # type: ignore[override]
        """The SR stream, once for all samples and steps.

        Parameters
        ----------
        msi : (N, C, h, w) reflectance.
        hsi : (N, B, h / r, w / r) reflectance.
        """
        coarse = self.upsampled(self.normalise(hsi))
        return Begun(coarse, self.stage(0).encode(self.normalise(msi), coarse))

    def estimate(self, state: Tensor, level: Tensor, begun: Begun) -> Tensor:
        """Ẑ_0 normalised, (N, B, h, w), of a state at (N,) noise levels γ."""
        return self.stage(0).predict(state, level, begun.coarse, begun.features)

    def finish(self, begun: Begun, draw: DrawStage, *, steps: int | None = None, number: int = 0) -> Tensor:
        """One sample of the cube, (N, B, h, w) reflectance in [0, 1.6], by equation 6."""
        config = self.config

        def denoise(state: Tensor, t: float) -> Tensor:
            return self.estimate(state, state.new_full((len(state),), self.schedule.alpha_bar_at(t)), begun)

        times = uniform_grid(self.schedule, config.steps if steps is None else steps)
        cube = ancestral(denoise, self.schedule, times=times, draw=partial(draw, 0), variance=config.variance)
        return (cube * config.scale + config.offset).clamp(0.0, REFLECTANCE_LIMIT)
