"""What the networks are made of: residual blocks, attention, and the way down from pixels to a code."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectile.model.networks.unet_compact import ChannelNorm


def norm_of(kind: str, channels: int) -> nn.Module:
    """``channel``: each pixel by itself; ``group``: over the tile, in up to 32 groups."""
    return ChannelNorm(channels) if kind == "channel" else nn.GroupNorm(math.gcd(32, channels), channels)


class ResBlock(nn.Module):
    """A residual block; the time scales and shifts what its second convolution gets (equation 20)."""

    def __init__(self, inputs: int, outputs: int, norm: str, time_width: int | None = None) -> None:
        super().__init__()
        self.norm_in = norm_of(norm, inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm_out = norm_of(norm, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        self.modulate = nn.Linear(time_width, 2 * outputs) if time_width else None
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """(N, inputs, h, w) → (N, outputs, h, w); ``time`` is the embedding (N, time_width)."""
        hidden = self.norm_out(self.first(functional.silu(self.norm_in(x))))
        if self.modulate is not None and time is not None:
            scale, shift = self.modulate(functional.silu(time))[:, :, None, None].chunk(2, dim=1)
            hidden = torch.addcmul(shift, hidden, 1.0 + scale)
        out: Tensor = self.shortcut(x) + self.second(functional.silu(hidden))
        return out


class Attention(nn.Module):
    """Self-attention over all pixels of a tile, added to its input."""

    def __init__(self, channels: int, norm: str, heads: int) -> None:
        super().__init__()
        self.heads = math.gcd(heads, channels)
        self.norm = norm_of(norm, channels)
        self.project = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) → (N, C, h, w)."""
        count, channels, height, width = x.shape
        split = self.project(self.norm(x)).reshape(count, 3, self.heads, channels // self.heads, -1)
        query, key, value = split.transpose(3, 4).unbind(1)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = x + self.out(mixed.transpose(2, 3).reshape(count, channels, height, width))
        return out


class Descent(nn.Module):
    """From pixels to the size of the code: features at each level, the finest first."""

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        *,
        fold: int,
        blocks: int,
        norm: str,
        time_width: int | None = None,
    ) -> None:
        super().__init__()
        self.fold = nn.PixelUnshuffle(fold)
        self.stem = nn.Conv2d(channels * fold**2, widths[0], 3, padding=1)
        self.levels, self.downs = nn.ModuleList(), nn.ModuleList()
        before = widths[0]
        for level, width in enumerate(widths):
            self.downs.append(nn.Conv2d(before, width, 3, stride=2, padding=1) if level else nn.Identity())
            self.levels.append(nn.ModuleList(ResBlock(width, width, norm, time_width) for _ in range(blocks)))
            before = width

    def forward(self, x: Tensor, time: Tensor | None = None) -> list[Tensor]:
        """(N, channels, h, w) → one (N, width, …) a level."""
        x = self.stem(self.fold(x).contiguous(memory_format=torch.channels_last))
        kept = []
        for down, blocks in zip(self.downs, self.levels, strict=True):
            x = down(x)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, time)
            kept.append(x)
        return kept


class Up(nn.Module):
    """Twice the size: nearest neighbours, then a convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) → (N, outputs, 2h, 2w)."""
        out: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out
