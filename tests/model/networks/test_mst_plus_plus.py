"""The published regressors: their size, their reach and what they must not depend on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spectile.model.networks.hscnn_plus import HSCNNPlus
from spectile.model.networks.mst_plus_plus import MSTPlusPlus, SpectralAttention
from spectile.model.networks.pixel_mlp import PixelMLP


def _weights(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _reach(module: nn.Module) -> int:
    """How far, in pixels, one output pixel sees."""
    rgb = torch.randn(1, 3, 1, 89, requires_grad=True)
    module(rgb)[0, :, 0, 44].sum().backward()
    assert rgb.grad is not None
    seen = torch.nonzero(rgb.grad.abs().sum((0, 1, 2)))[:, 0]
    return int((seen - 44).abs().max())


def test_mst_plus_plus_has_the_published_number_of_weights_at_width_31() -> None:
    # Cai et al. 2022, table 1: 1.62 M.
    assert _weights(MSTPlusPlus(31, width=31)) == pytest.approx(1.62e6, rel=0.005)


def test_the_bands_of_mst_plus_plus_do_not_change_its_body() -> None:
    few, many = MSTPlusPlus(31), MSTPlusPlus(102)
    assert _weights(few.body) == _weights(many.body)


@pytest.mark.parametrize("size", [(16, 16), (9, 14)])
def test_networks_keep_the_size_of_the_image(size: tuple[int, int]) -> None:
    rgb = torch.randn(2, 3, *size)
    for network in (MSTPlusPlus(7, width=8), HSCNNPlus(7, width=8, blocks=2), PixelMLP(7, width=8)):
        assert network(rgb).shape == (2, 7, *size)


def test_hscnn_plus_reaches_one_pixel_for_each_convolution() -> None:
    # 34 layers: one in, sixteen blocks of two, one out (Shi et al. 2018).
    torch.manual_seed(0)
    assert _reach(HSCNNPlus(4, width=4)) == 34


def test_the_pixel_mlp_sees_its_own_pixel_alone() -> None:
    assert _reach(PixelMLP(4)) == 0


def test_spectral_attention_is_that_of_a_loop_over_heads() -> None:
    torch.manual_seed(0)
    layer = SpectralAttention(6, 2)
    nn.init.zeros_(layer.position[2].weight)
    with torch.no_grad():
        layer.scale.copy_(torch.tensor([1.5, 0.7])[:, None, None])
    x = torch.randn(1, 6, 3, 4)
    query, key, value = torch.nn.functional.conv2d(x, layer.embed.weight)[0].flatten(1).split(6)
    heads = []
    for head, scale in ((0, 1.5), (1, 0.7)):
        rows = slice(3 * head, 3 * head + 3)
        weights = torch.empty(3, 3)
        for i in range(3):
            for j in range(3):
                a, b = key[rows][i], query[rows][j]
                weights[i, j] = scale * (a @ b) / (a.norm() * b.norm())
        weights = weights.exp() / weights.exp().sum(1, keepdim=True)
        heads.append(weights @ value[rows])
    expected = layer.project(torch.cat(heads).reshape(1, 6, 3, 4))
    torch.testing.assert_close(layer(x), expected)
