"""The U-Net of SCDM (Chen et al. 2024, section III-B), whose two encoders share their weights.

The text leaves much open. This reading has the parameters and multiply-adds measured on the authors' network
(tests/model/networks/test_unet_shared_encoder.py checks the counts to 0.1 %):

- The encoder runs twice, on the noisy state and on the condition; only the 3x3 stems differ. Both runs
  include the bottom level, because its blocks feed the decoder too.
- Skips are kept after the stem, each residual block and each downsampling. Each of the decoder's
  blocks (one more per level than in the encoder) takes one skip from each run: cat[x, skip, condition].
- Attention has one head over all pixels, biased 1x1 projections and a 1x1 output, and follows each
  residual block of its levels, in both encoder runs and the decoder, and the first of two middle blocks.
- The middle gets the noisy branch only. Shortcuts have a 1x1 convolution where widths differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from spectile.catalog.errors import UsageError
from spectile.catalog.fields import Count, Depth, Share, Width
from spectile.model.networks.denoiser import Denoiser


@dataclass(frozen=True)
class SharedEncoderSizes:
    """The sizes of a ``SharedEncoderUNet`` that do not follow from the data; defaults are as published."""

    width: Width = 128
    """Channels after the stems; also the length of the time's sinusoid."""
    multipliers: Annotated[tuple[Width, ...], Field(min_length=1, max_length=12)] = (1, 2, 2, 2, 2, 2, 2)
    """Width of each level divided by ``width``; the size halves from level to level."""
    blocks: Depth = 2
    """Residual blocks per level in the encoder; the decoder has one more."""
    attention_levels: tuple[int, ...] = (3,)
    """Levels with attention after each residual block, counted from 0 at full size."""
    time_width: Width = 512
    """Length of the time embedding."""
    groups: Count = 32
    """Groups of the group normalisation."""
    dropout: Share = 0.1
    """Dropout before each block's second convolution, in training."""
    condition_time: Literal["step", "fixed"] = "step"
    """The time input of the condition's encoder: the step's time, as in the authors' code, or 0. With 0 one
    pass serves all steps. The paper leaves it open."""

    def __post_init__(self) -> None:
        widths = [self.width * multiplier for multiplier in (1, *self.multipliers)]
        if self.width % 2 or self.groups < 1 or min(widths) < 1 or any(w % self.groups for w in widths):
            raise UsageError(
                "widths that do not fit the normalisation",
                got=f"widths {widths}, groups {self.groups}",
                expected="an even width, and multiples of the groups at every level",
            )

    @property
    def stride(self) -> int:
        """Pixels along one pixel of the bottom level; heights and widths must be multiples."""
        return 1 << (len(self.multipliers) - 1)


@dataclass(frozen=True)
class SharedEncoderConfig(SharedEncoderSizes):
    """Everything that fixes the structure of a ``SharedEncoderUNet``."""

    channels: Width = field(kw_only=True)
    """Channels B of the noisy state and of the output."""
    condition_channels: Width = field(kw_only=True)
    """Channels C of the condition."""

    @property
    def components(self) -> int:
        """Channels that are diffused: all bands."""
        return self.channels


class SharedEncoderUNet(Denoiser):
    """Predicts (N, B, h, w) from a noisy state of that shape, a time and a (N, C, h, w) condition.

    The time (N,) is the argument of the sinusoid: 0 to T - 1 in the authors' code.
    """

    calls = ("encode_condition", "predict")
    narrow = ("encode_condition",)  # features alone, some of them at full size

    def __init__(self, config: SharedEncoderConfig) -> None:
        super().__init__()
        self.config = config
        width, time = config.width, config.time_width
        self.time = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        self.stem = nn.Conv2d(config.channels, width, 3, padding=1)
        self.condition_stem = nn.Conv2d(config.condition_channels, width, 3, padding=1)

        now, kept = width, [width]
        self.encoder = nn.ModuleList()
        for level, multiplier in enumerate(config.multipliers):
            if level > 0:
                self.encoder.append(nn.Conv2d(now, now, 3, stride=2, padding=1))
                kept.append(now)
            for _ in range(config.blocks):
                self.encoder.append(_Block(now, width * multiplier, config, level in config.attention_levels))
                now = width * multiplier
                kept.append(now)

        self.middle = nn.ModuleList(_Block(now, now, config, attention) for attention in (True, False))

        self.decoder = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(config.multipliers))):
            for _ in range(config.blocks + 1):
                attention = level in config.attention_levels
                self.decoder.append(_Block(now + 2 * kept.pop(), width * multiplier, config, attention))
                now = width * multiplier
            if level > 0:
                self.decoder.append(_Upsample(now))
        self.head = nn.Sequential(
            nn.GroupNorm(config.groups, now), nn.SiLU(), nn.Conv2d(now, config.channels, 3, padding=1)
        )

    def forward(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Predict from the state, the time and the condition."""
        return self.predict(x, time, self.encode_condition(condition, time))

    def encode_condition(self, condition: Tensor, time: Tensor) -> list[Tensor]:
        """The condition's features, one per skip; they do not depend on ``time`` (N,) if it is ``fixed``."""
        if self.config.condition_time == "fixed":
            time = torch.zeros_like(time)
        return self._encode(self.condition_stem(condition), self.embed(time))

    def predict(self, x: Tensor, time: Tensor, features: Sequence[Tensor]) -> Tensor:
        """The prediction from the state, the time and features from ``encode_condition``.

        Raises
        ------
        UsageError
            Height or width is not a multiple of the stride.
        """
        stride = self.config.stride
        if x.shape[-2] % stride or x.shape[-1] % stride:
            size = f"{x.shape[-2]}x{x.shape[-1]}"
            raise UsageError(
                "tile size does not fit the network", got=size, expected=f"multiples of {stride}"
            )
        embedding = self.embed(time)
        skips = self._encode(self.stem(x), embedding)
        x = skips[-1]
        for block in self.middle:
            x = block(x, embedding)
        pairs = list(zip(skips, features, strict=True))
        for layer in self.decoder:
            x = (
                layer(torch.cat([x, *pairs.pop()], dim=1), embedding)
                if isinstance(layer, _Block)
                else layer(x)
            )
        out: Tensor = self.head(x)
        return out

    def embed(self, time: Tensor) -> Tensor:
        """The (N, time_width) embedding of (N,) times (Vaswani et al. 2017, section 3.5)."""
        half = self.config.width // 2
        index = torch.arange(half, dtype=torch.float32, device=time.device)
        angle = time.float()[:, None] * torch.exp(index * (-math.log(10_000.0) / half))
        sinusoid = torch.cat([angle.sin(), angle.cos()], dim=1)
        out: Tensor = self.time(sinusoid.to(self.stem.weight.dtype))
        return out

    def _encode(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        kept = [x]
        for layer in self.encoder:
            x = layer(x, embedding) if isinstance(layer, _Block) else layer(x)
            kept.append(x)
        return kept


class _Block(nn.Module):
    """A residual block with a bias from the time (Ho et al. 2020, appendix B), and attention after it."""

    def __init__(self, inputs: int, outputs: int, config: SharedEncoderConfig, attention: bool) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(config.groups, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(config.time_width, outputs))
        self.second = nn.Sequential(
            nn.GroupNorm(config.groups, outputs),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.attention = _Attention(outputs, config.groups) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        inner = self.first(x) + self.time(embedding)[:, :, None, None]
        out: Tensor = self.attention(self.second(inner) + self.shortcut(x))
        return out


class _Attention(nn.Module):
    """Self-attention of one head over all pixels, added to its input."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.project = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            self.project(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = x + self.out(mixed.squeeze(1).transpose(1, 2).reshape(x.shape))
        return out


class _Upsample(nn.Module):
    """Twice the size: nearest neighbours, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out
