"""MST++ (Cai et al. 2022): attention between spectral channels, written from the paper.

One difference: the published width is the number of bands (31). Here the width is fixed, and a last
convolution maps it to the bands, so that the network is the same for 48 and 102 bands.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 2


class SpectralAttention(nn.Module):
    """Spectral-wise multi-head self-attention (S-MSA, section 3.2): channels are the tokens.

    Each head's attention is (d, d) over channels, scaled by a learnt factor; its cost is linear in the
    pixels. A depth-wise convolution of the values encodes the position.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.embed = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.scale = nn.Parameter(torch.ones(heads, 1, 1))
        self.project = nn.Conv2d(width, width, 1)
        self.position = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) → (N, C, h, w)."""
        query, key, value = self.embed(x).chunk(3, dim=1)
        queries, keys, values = (
            part.unflatten(1, (self.heads, -1)).flatten(3) for part in (query, key, value)
        )
        queries, keys = functional.normalize(queries, dim=-1), functional.normalize(keys, dim=-1)
        attention = (keys @ queries.mT * self.scale).softmax(dim=-1)
        mixed = (attention @ values).flatten(1, 2).unflatten(2, x.shape[2:])
        out: Tensor = self.project(mixed) + self.position(value)
        return out


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of (N, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) normalised over C at each pixel."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class AttentionBlock(nn.Module):
    """S-MSA and a feed-forward network with a depth-wise convolution, each with a skip (S-A block)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        inner = 4 * width
        self.attention = SpectralAttention(width, heads)
        self.feed_forward = nn.Sequential(
            ChannelLayerNorm(width),
            nn.Conv2d(width, inner, 1, bias=False),
            nn.GELU(),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False),
            nn.GELU(),
            nn.Conv2d(inner, width, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) → (N, C, h, w)."""
        x = x + self.attention(x)
        out: Tensor = x + self.feed_forward(x)
        return out


class SpectralTransformer(nn.Module):
    """The single-stage transformer (SST): a U of three levels, widths 1, 2 and 4 times the first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS + 1)]
        self.enter = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.encoders = nn.ModuleList(AttentionBlock(w, w // width) for w in widths[:-1])
        self.downs = nn.ModuleList(
            nn.Conv2d(w, 2 * w, 4, stride=2, padding=1, bias=False) for w in widths[:-1]
        )
        self.middle = AttentionBlock(widths[-1], widths[-1] // width)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[:-1])
        self.fusions = nn.ModuleList(nn.Conv2d(2 * w, w, 1, bias=False) for w in widths[:-1])
        self.decoders = nn.ModuleList(AttentionBlock(w, w // width) for w in widths[:-1])
        self.leave = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) → (N, C, h, w); h and w are multiples of four."""
        hidden = self.enter(x)
        skips = []
        for encode, down in zip(self.encoders, self.downs, strict=True):
            hidden = encode(hidden)
            skips.append(hidden)
            hidden = down(hidden)
        hidden = self.middle(hidden)
        for level in reversed(range(LEVELS)):
            joined = torch.cat([self.ups[level](hidden), skips[level]], dim=1)
            hidden = self.decoders[level](self.fusions[level](joined))
        out: Tensor = x + self.leave(hidden)
        return out


class MSTPlusPlus(nn.Module):
    """Three single-stage transformers in a row with one long skip; 1.6 M weights at width 31."""

    def __init__(self, bands: int, *, width: int = 32, stages: int = 3) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.body = nn.Sequential(*(SpectralTransformer(width) for _ in range(stages)))
        self.leave = nn.Conv2d(width, bands, 3, padding=1)

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, bands, h, w) from (N, 3, h, w) of any size, padded by reflection to multiples of four."""
        height, width = rgb.shape[2:]
        multiple = 2**LEVELS
        padding = (0, -width % multiple, 0, -height % multiple)
        features = self.enter(functional.pad(rgb, padding, mode="reflect"))
        out: Tensor = self.leave(features + self.body(features))[:, :, :height, :width]
        return out
