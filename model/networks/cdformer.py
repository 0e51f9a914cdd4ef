"""CDFormer, the network of HSR-Diff (Wu et al. 2023, section 3.3): two streams of transformer layers.

The SR stream sees the two inputs and does not know the noise, so one pass serves all steps. Each layer of the
denoising stream looks at the SR stream's features of the same depth. No code was published; what the text
leaves open is read so:

- Spatial attention is within windows that lie fixed on the tile, as in Swin, with its relative position bias.
  The shift of Swin is not mentioned and left out: the 3×3 convolutions of the other two parts cross the
  windows.
- Spectral attention and the gated feed-forward network are those of Restormer (Zamir et al. 2022), which the
  text cites: 1×1 and depthwise 3×3 convolutions, attention between channels over all pixels of the tile.
- Cross attention has the windows of the spatial attention.
- At first a pixel looks at itself as much as at all others of its window together. From a bias of zero it
  would take the window's mean, and the MSI's details come through this attention alone.
- The addition at the end is that of the upsampled HSI.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from spectile.catalog.errors import UsageError
from spectile.catalog.fields import Positive, Width
from spectile.model.networks.denoiser import Denoiser

Layers = Annotated[int, Field(ge=1, le=64)]
"""A number of layers."""
Window = Annotated[int, Field(ge=1, le=64)]
"""Side of an attention window, pixels."""
Features = tuple[Tensor, ...]
"""(N, h, w, C) of each layer of the SR stream."""


@dataclass(frozen=True)
class CDFormerSizes:
    """The sizes of a ``CDFormer`` that do not follow from the data."""

    width: Width = 256
    """Channels C (paper, 4.3)."""
    layers: Layers = 4
    """Of each stream (ours: the paper shows several and gives no number)."""
    heads: Width = 8
    """Of each attention (ours)."""
    window: Window = 8
    """Side of the windows of the spatial attention, pixels (ours; 7 in Swin)."""
    expansion: Annotated[float, Field(gt=0, le=16)] = 2.66
    """Width of the feed-forward network divided by C (Restormer)."""
    level_scale: Positive = 5000.0
    """What the noise level γ is multiplied with before its sinusoids: 5000 as in WaveGrad, which the paper
    follows. Its equation 7 prints γ itself, 1.0, under which all sinusoids of γ in [0, 1] but the first are
    nearly constant."""

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 2:
            raise UsageError(
                "a width that does not fit the heads",
                got=f"width {self.width}, heads {self.heads}",
                expected="an even width that is a multiple of the heads",
            )


@dataclass(frozen=True)
class CDFormerConfig(CDFormerSizes):
    """Everything that fixes the structure of a ``CDFormer``."""

    bands: Width = field(kw_only=True)
    """B, of the noisy state, the HSI and the output."""
    msi_bands: Width = field(kw_only=True)
    """Of the MSI."""

    @property
    def components(self) -> int:
        """Channels that are diffused: all bands."""
        return self.bands


class CDFormer(Denoiser):
    """Predicts the cube Z_0 (N, B, h, w) from a noisy state of that shape, its level γ and both inputs.

    Heights and widths are multiples of ``window``.
    """

    calls = ("encode", "predict")
    narrow = ("encode",)  # features alone

    def __init__(self, config: CDFormerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.sr_stem = nn.Conv2d(config.msi_bands + config.bands, width, 3, padding=1)
        self.sr_layers = nn.ModuleList(SpatioSpectralLayer(config) for _ in range(config.layers))
        self.stem = nn.Conv2d(config.bands, width, 3, padding=1)
        self.layers = nn.ModuleList(ConditionalLayer(config) for _ in range(config.layers))
        self.reconstruction = nn.Conv2d(width, config.bands, 3, padding=1)

    def encode(self, msi: Tensor, coarse: Tensor) -> Features:
        """The SR stream: features of each layer, from the MSI and the HSI upsampled to its size."""
        x = _channels_last(self.sr_stem(torch.cat([msi, coarse], dim=1)))
        features = []
        for layer in self.sr_layers:
            x = layer(x)
            features.append(x)
        return tuple(features)

    def predict(self, state: Tensor, level: Tensor, coarse: Tensor, features: Sequence[Tensor]) -> Tensor:
        """The estimate of Z_0 (N, B, h, w).

        Parameters
        ----------
        state : (N, B, h, w) Z_t.
        level : (N,) γ in [0, 1], the share of signal in the state.
        coarse : (N, B, h, w) the upsampled HSI, to which the network adds.
        features : of ``encode``.
        """
        embedded = level_embedding(level, self.config.width, scale=self.config.level_scale)
        x = _channels_last(self.stem(state))
        for layer, condition in zip(self.layers, features, strict=True):
            x = layer(x, embedded, condition)
        out: Tensor = coarse + self.reconstruction(_channels_first(x))
        return out

    def forward(self, state: Tensor, level: Tensor, msi: Tensor, coarse: Tensor) -> Tensor:
        """``predict`` with the features of these inputs."""
        return self.predict(state, level, coarse, self.encode(msi, coarse))

    def first_half(self) -> list[nn.Parameter]:
        """Parameters of both stems and of the first half of the layers."""
        half = (self.config.layers + 1) // 2
        kept = [self.stem, self.sr_stem, *self.sr_layers[:half], *self.layers[:half]]
        return [parameter for module in kept for parameter in module.parameters()]


class SpatioSpectralLayer(nn.Module):
    """S2TL (figure 4): windowed spatial attention, spectral attention, gated feed-forward network."""

    def __init__(self, config: CDFormerSizes) -> None:
        super().__init__()
        width = config.width
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.spatial = WindowAttention(width, config.heads, config.window)
        self.spectral = SpectralAttention(width, config.heads)
        self.feed_forward = GatedFeedForward(width, config.expansion)

    def forward(self, x: Tensor) -> Tensor:
        """(N, h, w, C) of (N, h, w, C)."""
        normed = self.norms[0](x)
        x = x + self.spatial(normed, normed)
        x = x + self.spectral(self.norms[1](x))
        out: Tensor = x + self.feed_forward(self.norms[2](x))
        return out


class ConditionalLayer(nn.Module):
    """NC-S2TL (figure 5): the noise level is added, cross attention to the SR stream, then an S2TL."""

    def __init__(self, config: CDFormerSizes) -> None:
        super().__init__()
        width = config.width
        self.level = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.condition_norm = nn.LayerNorm(width)
        self.cross = WindowAttention(width, config.heads, config.window)
        self.layer = SpatioSpectralLayer(config)

    def forward(self, x: Tensor, embedded: Tensor, condition: Tensor) -> Tensor:
        """(N, h, w, C) of (N, h, w, C), the embedded level (N, C) and SR features (N, h, w, C)."""
        x = x + self.level(embedded)[:, None, None]
        x = x + self.cross(self.norm(x), self.condition_norm(condition))
        out: Tensor = self.layer(x)
        return out


class WindowAttention(nn.Module):
    """Multi-head attention within windows, with a relative position bias (Liu et al. 2021, equation 4)."""

    index: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        bias = torch.zeros((2 * window - 1) ** 2, heads)
        bias[len(bias) // 2] = math.log(max(window**2 - 1, 1))
        self.bias = nn.Parameter(bias)
        at = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        offset = at[:, None] - at[None] + window - 1
        self.register_buffer("index", offset[..., 0] * (2 * window - 1) + offset[..., 1], persistent=False)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """(N, h, w, C): what each pixel of x reads from its window of ``other`` (N, h, w, C)."""
        n, height, width, _ = x.shape
        query = self._windows(self.query(x))
        key, value = (self._windows(part) for part in self.key_value(other).chunk(2, dim=-1))
        bias = self.bias[self.index].permute(2, 0, 1)[None].to(query.dtype)
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        side = self.window
        read = read.transpose(1, 2).reshape(n, height // side, width // side, side, side, -1)
        out: Tensor = self.out(read.transpose(2, 3).reshape(n, height, width, -1))
        return out

    def _windows(self, x: Tensor) -> Tensor:
        """(N·windows, heads, pixels, C / heads)."""
        n, height, width, channels = x.shape
        side = self.window
        cut = x.reshape(n, height // side, side, width // side, side, channels).transpose(2, 3)
        return cut.reshape(-1, side * side, self.heads, channels // self.heads).transpose(1, 2)


class SpectralAttention(nn.Module):
    """Attention between channels over all pixels (Restormer, equation 1: MDTA)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.project = nn.Linear(width, 3 * width)
        self.mix = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, h, w, C) of (N, h, w, C)."""
        n, height, width, channels = x.shape
        mixed = self.mix(_channels_first(self.project(x))).flatten(2)
        query, key, value = mixed.reshape(n, 3, self.heads, channels // self.heads, -1).unbind(1)
        # Normalised over the pixels in float32: a sum over a tile overflows the mantissa of narrower types.
        query, key = (F.normalize(part.float(), dim=-1).to(value.dtype) for part in (query, key))
        weight = ((query @ key.transpose(-2, -1)) * self.temperature).softmax(dim=-1)
        read = (weight.to(value.dtype) @ value).reshape(n, channels, height, width)
        out: Tensor = self.out(_channels_last(read))
        return out


class GatedFeedForward(nn.Module):
    """The feed-forward network whose one half gates the other (Restormer, equation 2: GDFN)."""

    def __init__(self, width: int, expansion: float) -> None:
        super().__init__()
        hidden = max(1, int(width * expansion))
        self.project = nn.Linear(width, 2 * hidden)
        self.mix = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)
        self.out = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, h, w, C) of (N, h, w, C)."""
        gate, value = _channels_last(self.mix(_channels_first(self.project(x)))).chunk(2, dim=-1)
        out: Tensor = self.out(F.gelu(gate) * value)
        return out


def level_embedding(level: Tensor, channels: int, *, scale: float) -> Tensor:
    """(N, channels) sinusoids of the noise level (N,), equation 7: sines and cosines in turn."""
    half = channels // 2
    exponent = 2.0 * torch.arange(1, half + 1, device=level.device, dtype=torch.float32) / channels
    angle = scale * level.float()[:, None] / 10_000.0**exponent
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)
