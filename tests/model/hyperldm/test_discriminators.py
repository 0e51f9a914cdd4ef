"""The discriminators learn to tell, and what deceives them is what they take for real."""

from __future__ import annotations

import torch

from spectile.model.hyperldm.discriminators import Discriminators, deceit_loss, opponents_loss


def test_they_learn_to_tell_real_from_made() -> None:
    torch.manual_seed(0)
    opponents = Discriminators(12, (8, 8))
    optimiser = torch.optim.Adam(opponents.parameters(), lr=1e-2)
    places = torch.arange(0, 2 * 16 * 16, 7)
    ramp = torch.linspace(0.0, 1.0, 12)[:, None, None]
    real, made = ramp + 0.05 * torch.randn(2, 12, 16, 16), 0.5 + 0.05 * torch.randn(2, 12, 16, 16)
    before = float(opponents_loss(opponents, real, made, places).detach())
    deceit = float(deceit_loss(opponents, made, places).detach())
    for _ in range(60):
        optimiser.zero_grad()
        opponents_loss(opponents, real, made, places).backward()
        optimiser.step()
    assert float(opponents_loss(opponents, real, made, places).detach()) < 0.2 * before
    assert float(deceit_loss(opponents, made, places).detach()) > deceit + 1.0
    assert (
        float(deceit_loss(opponents, real, places).detach())
        < float(deceit_loss(opponents, made, places).detach()) - 1.0
    )


def test_the_spectral_one_judges_single_spectra() -> None:
    torch.manual_seed(0)
    opponents, cube = Discriminators(12, (8, 8)), torch.rand(1, 12, 8, 8)
    patches, spectra = opponents(cube, torch.tensor([0, 9]))
    assert patches.shape == (1, 1, 2, 2)
    changed = cube.clone()
    changed[:, :, 5, 5] = 1.0
    assert torch.equal(opponents(changed, torch.tensor([0, 9]))[1], spectra)
    changed[:, :, 1, 1] = 1.0
    assert not torch.equal(opponents(changed, torch.tensor([0, 9]))[1], spectra)
