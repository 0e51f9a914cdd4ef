"""HSCNN+ in its residual form, HSCNN-R (Shi, Chen, Xiong, Liu and Wu 2018, section 3.2), from the paper.

The paper's dense form, HSCNN-D, is a little better and several times as expensive; it is not included.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """conv3 → ReLU → conv3 plus its input, without batch normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) → (N, C, h, w)."""
        out: Tensor = x + self.second(functional.relu(self.first(x)))
        return out


class HSCNNPlus(nn.Module):
    """RGB → features → residual blocks with one long skip → bands; no upsampling of the spectrum first."""

    def __init__(self, bands: int, *, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.leave = nn.Conv2d(width, bands, 3, padding=1)

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, bands, h, w) from (N, 3, h, w)."""
        features = functional.relu(self.enter(rgb))
        out: Tensor = self.leave(features + self.body(features))
        return out
