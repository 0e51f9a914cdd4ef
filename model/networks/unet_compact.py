"""The default model's network: a condition branch that runs once, a light denoiser that runs per step.

Both work on pixels folded 2×2 into channels (Shi et al. 2016, sub-pixel convolution): convolutions of 32 to
128 channels then reach the speed of matrix products on a CPU. The condition branch holds most of the weights
and does not depend on time, so one pass serves all solver steps and all samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectile.model.networks.denoiser import Denoiser

TIME_FEATURES = 64
TIME_WIDTH = 128
FOLD = 2


@dataclass(frozen=True)
class CompactConfig:
    """The shape of a compact network."""

    condition_channels: int
    """Channels of the condition."""
    targets: int
    """Channels of the correction from the condition branch."""
    components: int
    """Channels of the diffused components."""
    condition_width: int = 64
    """Width of the condition branch at half resolution; 3/2 of it below."""
    condition_blocks: int = 2
    """Residual blocks per level in the condition branch."""
    width: int = 48
    """Width of the denoiser at half resolution; 3/2 of it at a quarter."""
    norm: Literal["channel", "group"] = "channel"
    """``channel`` normalises each pixel separately, ``group`` over the tile (8 groups)."""


class ChannelNorm(nn.Module):
    """Normalises the channels of each pixel (LayerNorm over C), without statistics over the tile."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) normalised over C at each pixel."""
        last = x.permute(0, 2, 3, 1)  # a view: tensors are channels-last
        return functional.layer_norm(last, last.shape[-1:], self.weight, self.bias, 1e-5).permute(0, 3, 1, 2)


def _norm(kind: str, channels: int) -> nn.Module:
    return ChannelNorm(channels) if kind == "channel" else nn.GroupNorm(8, channels)


class Block(nn.Module):
    """A pre-activation residual block; if ``timed``, the time scales and shifts between its convolutions."""

    def __init__(self, width: int, norm: str, *, timed: bool) -> None:
        super().__init__()
        self.norm = _norm(norm, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        self.modulate = nn.Linear(TIME_WIDTH, 2 * width) if timed else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """(N, C, h, w) → (N, C, h, w); ``time`` is (N, TIME_WIDTH)."""
        hidden = self.first(functional.silu(self.norm(x)))
        if self.modulate is not None and time is not None:
            scale, shift = self.modulate(time)[:, :, None, None].chunk(2, dim=1)
            hidden = torch.addcmul(shift, hidden, 1.0 + scale)
        out: Tensor = x + self.second(functional.silu(hidden))
        return out


def time_features(t: Tensor, count: int = TIME_FEATURES) -> Tensor:
    """(N, count) sinusoids of the time step t (N,), as in Vaswani et al. 2017."""
    half = count // 2
    rate = torch.exp(-torch.arange(half, device=t.device, dtype=torch.float32) * (9.21 / half))
    angle = t.to(torch.float32)[:, None] * rate[None, :]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


Features = tuple[Tensor, Tensor]
"""Features from the condition branch for the denoiser, at a half and at a quarter of the resolution."""


class CompactUNet(Denoiser):
    """Predicts F(x_t, t, condition), from which ``cascade`` forms x̂_0 = √ᾱ·x_t + √(1−ᾱ)·F."""

    calls = ("encode", "forward")
    narrow = ("encode",)
    stride = 8
    """Tiles are folded by 2 and halved twice in the condition branch."""
    reach = 24
    """Pixels beyond which a neighbour changes less than a stored count (1e-4 reflectance), with ``channel``
    norms: docs/model.md has the measurement. By its convolutions a stage reaches twice as far, but blocks
    are residual and start from zero, so that the outer part has next to no weight."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        norm, wide, width = config.norm, config.condition_width, config.width
        deep, low = wide * 3 // 2, width * 3 // 2
        count = config.condition_blocks

        def blocks(channels: int) -> nn.Sequential:
            return nn.Sequential(*(Block(channels, norm, timed=False) for _ in range(count)))

        self.condition_in = nn.Conv2d(config.condition_channels * FOLD**2, wide, 3, padding=1)
        self.condition_half = blocks(wide)
        self.condition_down = nn.Conv2d(wide, deep, 2, stride=2)
        self.condition_quarter = blocks(deep)
        self.condition_lower = nn.Conv2d(deep, deep, 2, stride=2)
        self.condition_eighth = blocks(deep)
        self.condition_raise = nn.Conv2d(deep, deep, 1)
        self.condition_up = nn.Conv2d(deep, wide, 1)
        self.condition_last = Block(wide, norm, timed=False)
        self.norm_mean = _norm(norm, wide)
        self.correction = nn.Conv2d(wide, config.targets * FOLD**2, 1)
        self.feature_half = nn.Conv2d(wide, width, 1)
        self.feature_quarter = nn.Conv2d(deep, low, 1)

        self.time = nn.Sequential(
            nn.Linear(TIME_FEATURES, TIME_WIDTH), nn.SiLU(), nn.Linear(TIME_WIDTH, TIME_WIDTH), nn.SiLU()
        )
        self.noise_in = nn.Conv2d(config.components * FOLD**2, width, 3, padding=1)
        self.fine = Block(width, norm, timed=True)
        self.down = nn.Conv2d(width, low, 2, stride=2)
        self.coarse = Block(low, norm, timed=True)
        self.up = nn.Conv2d(low, width, 1)
        self.last = Block(width, norm, timed=True)
        self.norm_out = _norm(norm, width)
        self.out = nn.Conv2d(width, config.components * FOLD**2, 1)
        for last in (self.correction, self.out):
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.zeros_(last.bias)

    def encode(self, folded: Tensor) -> tuple[Tensor, Features]:
        """The correction and the features for ``forward``, for a condition (N, C, h, w).

        The condition and the correction are folded, as ``fold`` has it; h and w are multiples of ``stride``.
        In bfloat16 all of them stay so.
        """
        half = self.condition_half(self.condition_in(folded))
        quarter = self.condition_quarter(self.condition_down(half))
        eighth = self.condition_eighth(self.condition_lower(quarter))
        quarter = quarter + _twice(self.condition_raise(eighth))
        half = self.condition_last(half + _twice(self.condition_up(quarter)))
        correction: Tensor = self.correction(functional.silu(self.norm_mean(half)))
        # The denoiser's gradient does not reach the branch, so the mean is that of a simple regression.
        return correction, (self.feature_half(half.detach()), self.feature_quarter(quarter.detach()))

    def forward(self, noisy: Tensor, t: Tensor, features: Features) -> Tensor:
        """F of the noisy components (N, K, h, w) at time steps t (N,); (N, K, h, w) of unit scale."""
        time = self.time(time_features(t))
        x = self.noise_in(fold(noisy))
        half = self.fine(x + features[0], time)
        quarter = self.coarse(self.down(half) + features[1], time)
        half = self.last(half + _twice(self.up(quarter)), time)
        return unfold(self.out(functional.silu(self.norm_out(half))))


def fold(x: Tensor) -> Tensor:
    """(N, C, h, w) → (N, 4 C, h/2, w/2), channels last: two by two pixels as channels."""
    return functional.pixel_unshuffle(x, FOLD).contiguous(memory_format=torch.channels_last)


def unfold(x: Tensor) -> Tensor:
    """(N, 4 C, h/2, w/2) → (N, C, h, w), channel by channel in memory: the inverse of ``fold``."""
    return functional.pixel_shuffle(x.contiguous(), FOLD)


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
