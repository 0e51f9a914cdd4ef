"""The conditional VQGAN (Liu et al. 2023, III-A): spectra to a code, code and colour to abundances.

The decoder gives no spectra but shares of a library's spectra, which the linear mixing model adds up and
multiplies by the spectrum of the illumination: Î = t ⊙ (R·A), equation 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectile.model.hyperldm.layers import Attention, Descent, ResBlock, Up, norm_of
from spectile.model.hyperldm.preset import AutoencoderConfig

DEAD = 0.05
"""Codes used less than this share of the average are moved, where a training revives codes."""
USE_RATE = 0.02
"""Share of a batch in the running use of the codes."""


class Codebook(nn.Module):
    """K codes; each value of a code image is replaced by its nearest (equation 1)."""

    use: Tensor

    def __init__(self, codes: int, channels: int, distance: str) -> None:
        super().__init__()
        self.distance = distance
        self.codes = nn.Parameter(torch.empty(codes, channels).uniform_(-1.0 / codes, 1.0 / codes))
        self.register_buffer("use", torch.zeros(codes))

    def nearest(self, code: Tensor) -> Tensor:
        """(N, h, w) number of the nearest code of each value of (N, n, h, w)."""
        values = code.detach().movedim(1, -1)
        flat, codes = values.reshape(-1, values.shape[-1]), self.codes.detach()
        if self.distance == "l1":
            far = torch.cdist(flat, codes, p=1.0)
        else:
            # Squared distance up to what is the same for every code.
            far = codes.square().sum(1) - 2.0 * flat @ codes.T
        return far.argmin(1).reshape(values.shape[:-1])

    def forward(self, code: Tensor) -> Tensor:
        """The nearest codes, (N, n, h, w)."""
        return functional.embedding(self.nearest(code), self.codes).movedim(-1, 1)

    @torch.no_grad()
    def revive(self, code: Tensor, places: Tensor) -> None:
        """Count the use of codes by a batch (N, n, h, w), and move unused ones to its values at ``places``.

        ``places`` (K,) number the batch's values.
        """
        count = len(self.codes)
        used = torch.bincount(self.nearest(code).flatten(), minlength=count) / (code[:, 0].numel() / count)
        self.use.lerp_(used, USE_RATE)
        values = code.movedim(1, -1).flatten(0, -2)[places.to(code.device)]
        dead = self.use < DEAD
        self.codes.copy_(torch.where(dead[:, None], values, self.codes))
        self.use.copy_(torch.where(dead, torch.ones_like(self.use), self.use))


class Decoder(nn.Module):
    """Logits of abundances from a code and features of the colour, and the illumination."""

    def __init__(self, config: AutoencoderConfig, bands: int, endmembers: int) -> None:
        super().__init__()
        self.start = nn.Conv2d(config.latent, config.widths[-1], 3, padding=1)
        self.attention = Attention(config.widths[-1], config.norm, 1) if config.attention else nn.Identity()
        self.levels, self.ups = nn.ModuleList(), nn.ModuleList()
        before = config.widths[-1]
        for level, width in reversed(list(enumerate(config.widths))):
            self.ups.append(Up(before, width) if level + 1 < len(config.widths) else nn.Identity())
            inputs = [2 * width, *[width] * (config.blocks - 1)]
            self.levels.append(nn.ModuleList(ResBlock(n, width, config.norm) for n in inputs))
            before = width
        self.norm = norm_of(config.norm, before)
        self.head = nn.Conv2d(before, endmembers * config.fold**2, 1)
        self.unfold = nn.PixelShuffle(config.fold)
        self.illumination: nn.Module | None = None
        self.light = nn.Parameter(torch.ones(bands))
        if config.illumination == "predicted":
            self.illumination = nn.Linear(config.widths[-1], bands)

    def forward(self, code: Tensor, colour: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (N, G, h, w), and the illumination (N or 1, B), of a code and the colour's features."""
        x = self.attention(self.start(code))
        light = self.light[None]
        if self.illumination is not None:
            light = light + self.illumination(x.mean((2, 3)))
        for up, blocks, seen in zip(self.ups, self.levels, reversed(colour), strict=True):
            x = torch.cat([up(x), seen], dim=1)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x)
        logits: Tensor = self.unfold(self.head(functional.silu(self.norm(x))))
        return logits, light.relu()


class ConditionalVqgan(nn.Module):
    """Encoder, codebook, condition encoder and decoder over a library R (B, G)."""

    library: Tensor

    def __init__(self, config: AutoencoderConfig, library: Tensor, condition: int) -> None:
        super().__init__()
        bands, endmembers = library.shape

        def descent(channels: int) -> Descent:
            return Descent(channels, config.widths, fold=config.fold, blocks=config.blocks, norm=config.norm)

        self.encoder = descent(bands)
        self.encoder_out = nn.Sequential(
            norm_of(config.norm, config.widths[-1]),
            nn.SiLU(),
            nn.Conv2d(config.widths[-1], config.latent, 1),
        )
        self.codebook = Codebook(config.codes, config.latent, config.distance)
        self.condition = descent(condition)
        self.decoder = Decoder(config, bands, endmembers)
        # With torch's own smaller weights the code fades on its way, and the decoder learns the colour alone.
        for name, layer in self.named_modules():
            begins_at_zero = name.endswith((".second", "attention.out"))
            if isinstance(layer, nn.Conv2d) and not begins_at_zero:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        # Not among the weights: it is part of the configuration.
        self.register_buffer("library", library, persistent=False)

    def encode(self, spectra: Tensor) -> Tensor:
        """The code (N, n, h/f, w/f) of spectra (N, B, h, w) before it is quantised."""
        code: Tensor = self.encoder_out(self.encoder(spectra)[-1])
        return code

    def abundances(self, code: Tensor, colour: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Shares (N, G, h, w) of the endmembers, which add up to one, and the illumination (N or 1, B)."""
        logits, light = self.decoder(code, colour)
        return logits.softmax(1), light

    def decode(self, code: Tensor, colour: Sequence[Tensor]) -> Tensor:
        """Reflectance (N, B, h, w), not negative, of a code and the colour's features (equation 3)."""
        return self.mix(*self.abundances(code, colour))

    def mix(self, shares: Tensor, light: Tensor) -> Tensor:
        """Reflectance (N, B, h, w) of what ``abundances`` gives."""
        mixed = (self.library @ shares.flatten(2)).reshape(len(shares), -1, *shares.shape[2:])
        return light[:, :, None, None] * mixed
