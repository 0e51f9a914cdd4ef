"""The two discriminators of the VQGAN: of surroundings, and of single spectra (equation 6).

The paper takes them from earlier work and gives no sizes; these are our reading: patches (Isola et al. 2017)
and one-dimensional convolutions along the spectrum, with the hinge loss of VQGAN (Esser et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

SPECTRA = 256
"""Spectra of each crop that the spectral discriminator judges."""


class Discriminators(nn.Module):
    """A score of each patch and a score of each spectrum; high ones are taken for real."""

    def __init__(self, bands: int, widths: Sequence[int]) -> None:
        super().__init__()
        spatial: list[nn.Module] = []
        spectral: list[nn.Module] = []
        before, along = bands, 1
        for width in widths:
            spatial += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            spectral += [nn.Conv1d(along, width, 5, stride=2, padding=2), nn.LeakyReLU(0.2)]
            before = along = width
        self.spatial = nn.Sequential(*spatial, nn.Conv2d(before, 1, 3, padding=1))
        self.spectral = nn.Sequential(*spectral)
        self.spectral_out = nn.Linear(along, 1)

    def forward(self, cube: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of patches, and of spectra at ``places`` (P,), which number the pixels of (N, B, h, w)."""
        spectra = cube.movedim(1, -1).flatten(0, 2)[places]
        judged = self.spectral_out(self.spectral(spectra[:, None]).mean(2))
        return self.spatial(cube), judged


def opponents_loss(discriminators: Discriminators, real: Tensor, made: Tensor, places: Tensor) -> Tensor:
    """The hinge loss of both discriminators, of real and made cubes (N, B, h, w)."""
    losses = []
    for true, false in zip(discriminators(real, places), discriminators(made, places), strict=True):
        losses.append(functional.relu(1.0 - true).mean() + functional.relu(1.0 + false).mean())
    return torch.stack(losses).sum()


def deceit_loss(discriminators: Discriminators, made: Tensor, places: Tensor) -> Tensor:
    """What the generator minimises: minus the scores of what it made."""
    return torch.stack([-scores.mean() for scores in discriminators(made, places)]).sum()
