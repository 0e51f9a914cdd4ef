"""The denoiser of SDP (Liu et al. 2023, section III-A, table I): a perceptron on one pixel's spectrum.

The layers are those of the skip-connected MLP of diffusion autoencoders (Preechakul et al. 2022), which the
text cites. Each layer but the last is a linear layer, then the time as a scale and a shift, a layer norm,
SiLU and dropout; each but the first sees the input spectrum again. One time vector is both scale and shift,
as in the authors' code: h ← h·(1 + c) + c.
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
from spectile.catalog.fields import Share, Width
from spectile.model.networks.denoiser import Denoiser


@dataclass(frozen=True)
class SpectralMLPSizes:
    """The sizes of a ``SpectralMLP`` that do not follow from the data."""

    layers: Annotated[int, Field(ge=2, le=64)] = 5
    """Linear layers: 5 in the authors' code; 4 in the paper's table I."""
    width: Width = 512
    """N_out, outputs of each layer but the last (paper, table I; code)."""
    time_width: Width = 64
    """Length of the time's sinusoid (paper, table I; code)."""
    dropout: Share = 0.001
    """After each layer but the last (paper, table I; code)."""

    def __post_init__(self) -> None:
        if self.time_width % 2:
            raise UsageError("the time's sinusoid has pairs", got=self.time_width, expected="an even number")


@dataclass(frozen=True)
class SpectralMLPConfig(SpectralMLPSizes):
    """Everything that fixes the structure of a ``SpectralMLP``."""

    bands: Width = field(kw_only=True)
    """B, of a spectrum."""

    @property
    def components(self) -> int:
        """Channels that are diffused: all bands."""
        return self.bands


class SpectralMLP(Denoiser):
    """Predicts the noise (P, B) in noisy spectra (P, B) at times (P,) or (1,)."""

    calls = ("embed", "predict")

    def __init__(self, config: SpectralMLPConfig) -> None:
        super().__init__()
        self.config = config
        bands, width = config.bands, config.width
        # Sinusoid → B → B, as in the authors' code.
        self.time = nn.Sequential(nn.Linear(config.time_width, bands), nn.SiLU(), nn.Linear(bands, bands))
        inner = range(config.layers - 1)
        self.modulations = nn.ModuleList(nn.Linear(bands, width) for _ in inner)
        self.layers = nn.ModuleList(nn.Linear(bands if i == 0 else width + bands, width) for i in inner)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in inner)
        self.out = nn.Linear(width + bands, bands)

    def embed(self, t: Tensor) -> tuple[Tensor, ...]:
        """The time's part of each layer, (P, width) or (1, width): once a step serves all pixels."""
        half = self.config.time_width // 2
        rate = torch.exp(-math.log(10_000.0) * torch.arange(half, device=t.device) / half)
        angle = t.float()[:, None] * rate
        embedded = F.silu(self.time(torch.cat([angle.cos(), angle.sin()], dim=1)))
        return tuple(layer(embedded) for layer in self.modulations)

    def predict(self, spectra: Tensor, embedded: Sequence[Tensor]) -> Tensor:
        """The noise (P, B) in spectra (P, B) for the time that ``embed`` was given."""
        x = spectra
        for layer, norm, time in zip(self.layers, self.norms, embedded, strict=True):
            x = F.silu(norm(layer(x) * (1.0 + time) + time))
            x = torch.cat([F.dropout(x, self.config.dropout, self.training), spectra], dim=1)
        out: Tensor = self.out(x)
        return out

    def forward(self, spectra: Tensor, t: Tensor) -> Tensor:
        """``predict`` at these times."""
        return self.predict(spectra, self.embed(t))
