"""The latent U-Net (Liu et al. 2023, III-C.2) with its condition encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectile.model.hyperldm.layers import Attention, Descent, ResBlock, Up, norm_of
from spectile.model.hyperldm.preset import HyperConfig
from spectile.model.networks.denoiser import Denoiser
from spectile.model.networks.unet_compact import time_features

SINUSOIDS = 128
"""Of the time, as in its model (Dhariwal and Nichol 2021)."""


class LatentUNet(Denoiser):
    """Predicts the noise, or v, of a code (N, n, h, w) at a time, given the colour."""

    calls = ("encode", "forward")
    narrow = ("encode",)

    def __init__(self, config: HyperConfig) -> None:
        super().__init__()
        self.config = config
        shape, time = config.denoiser, config.denoiser.time_width
        self.stride = 1 << (len(shape.widths) - 1)
        """In values of the code."""
        self.time = nn.Sequential(nn.Linear(SINUSOIDS, time), nn.SiLU(), nn.Linear(time, time))
        self.condition = Descent(
            config.condition_channels,
            shape.condition_widths,
            fold=config.autoencoder.fold,
            blocks=shape.condition_blocks,
            norm=shape.norm,
            time_width=time if shape.condition_time == "step" else None,
        )
        self.condition_out = nn.Conv2d(shape.condition_widths[-1], shape.condition, 1)
        self.stem = nn.Conv2d(config.components + shape.condition, shape.widths[0], 3, padding=1)

        def block(inputs: int, outputs: int, attention: bool) -> nn.ModuleList:
            after = Attention(outputs, shape.norm, shape.heads) if attention else nn.Identity()
            return nn.ModuleList([ResBlock(inputs, outputs, shape.norm, time), after])

        now, kept = shape.widths[0], [shape.widths[0]]
        self.down = nn.ModuleList()
        for level, width in enumerate(shape.widths):
            if level:
                self.down.append(nn.Conv2d(now, now, 3, stride=2, padding=1))
                kept.append(now)
            for _ in range(shape.blocks):
                self.down.append(block(now, width, level in shape.attention_levels))
                now = width
                kept.append(now)
        self.middle = nn.ModuleList()
        if shape.middle:
            self.middle.extend([block(now, now, bool(shape.attention_levels)), block(now, now, False)])
        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(shape.widths))):
            for _ in range(shape.blocks + 1):
                self.up.append(block(now + kept.pop(), width, level in shape.attention_levels))
                now = width
            if level:
                self.up.append(Up(now, now))
        self.norm = norm_of(shape.norm, now)
        self.head = nn.Conv2d(now, config.components, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def encode(self, condition: Tensor) -> Tensor:
        """e_c (N, E, h, w) of the colour (N, C, f·h, f·w), for all steps.

        The colour itself where e_c needs the time.
        """
        return condition if self.config.denoiser.condition_time == "step" else self._see(condition, None)

    def forward(self, noisy: Tensor, t: Tensor, seen: Tensor) -> Tensor:
        """The prediction (N, n, h, w) for a state at times t (N,) from 0, given what ``encode`` returned."""
        time = self.time(time_features(t, SINUSOIDS))
        if self.config.denoiser.condition_time == "step":
            seen = self._see(seen, time)
        x = self.stem(torch.cat([noisy, seen], dim=1).contiguous(memory_format=torch.channels_last))
        kept = [x]
        for layer in self.down:
            x = _apply(layer, x, time)
            kept.append(x)
        for layer in self.middle:
            x = _apply(layer, x, time)
        for layer in self.up:
            x = layer(x) if isinstance(layer, Up) else _apply(layer, torch.cat([x, kept.pop()], dim=1), time)
        out: Tensor = self.head(functional.silu(self.norm(x)))
        return out

    def _see(self, condition: Tensor, time: Tensor | None) -> Tensor:
        out: Tensor = self.condition_out(self.condition(condition, time)[-1])
        return out


def _apply(layer: nn.Module, x: Tensor, time: Tensor) -> Tensor:
    if isinstance(layer, nn.ModuleList):
        block, after = layer
        out: Tensor = after(block(x, time))
        return out
    out = layer(x)
    return out
