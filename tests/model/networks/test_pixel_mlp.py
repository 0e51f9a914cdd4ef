"""The MLP on single pixels."""

from __future__ import annotations

import torch

from spectile.model.networks.pixel_mlp import PixelMLP
from tests.model.networks.reach import reach_of


def test_the_pixel_mlp_sees_its_own_pixel_alone() -> None:
    assert reach_of(PixelMLP(4)) == 0


def test_it_gives_the_bands_at_the_size_of_the_image() -> None:
    assert PixelMLP(7, width=8)(torch.randn(2, 3, 9, 14)).shape == (2, 7, 9, 14)


def test_equal_pixels_have_equal_spectra_wherever_they_lie() -> None:
    torch.manual_seed(0)
    network, colours = PixelMLP(4, width=8), torch.randn(1, 3, 1, 5)
    order = torch.tensor([3, 3, 0, 4, 1])
    torch.testing.assert_close(network(colours[..., order]), network(colours)[..., order])
