"""A multi-layer perceptron on single pixels: the baseline that sees colour only, no neighbours."""

from __future__ import annotations

from torch import Tensor, nn


class PixelMLP(nn.Module):
    """Three hidden layers as 1×1 convolutions, so that it takes images like the other networks."""

    def __init__(self, bands: int, *, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 1),
            nn.GELU(),
            nn.Conv2d(width, width, 1),
            nn.GELU(),
            nn.Conv2d(width, width, 1),
            nn.GELU(),
            nn.Conv2d(width, bands, 1),
        )

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, bands, h, w) from (N, 3, h, w)."""
        out: Tensor = self.layers(rgb)
        return out
