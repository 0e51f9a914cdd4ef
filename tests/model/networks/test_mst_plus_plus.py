"""MST++: its published size, its attention, and images of any size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spectile.model.networks.mst_plus_plus import MSTPlusPlus, SpectralAttention


def _weights(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def test_mst_plus_plus_has_the_published_number_of_weights_at_width_31() -> None:
    # Cai et al. 2022, table 1: 1.62 M.
    assert _weights(MSTPlusPlus(31, width=31)) == pytest.approx(1.62e6, rel=0.005)


def test_the_bands_of_mst_plus_plus_do_not_change_its_body() -> None:
    few, many = MSTPlusPlus(31), MSTPlusPlus(102)
    assert _weights(few.body) == _weights(many.body)


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


@pytest.mark.parametrize("size", [(16, 16), (9, 14)])
def test_it_gives_the_bands_at_the_size_of_any_image(size: tuple[int, int]) -> None:
    assert MSTPlusPlus(7, width=8)(torch.randn(2, 3, *size)).shape == (2, 7, *size)


def test_what_is_padded_by_reflection_is_cut_off_again() -> None:
    torch.manual_seed(0)
    network, rgb = MSTPlusPlus(5, width=4, stages=1), torch.randn(1, 3, 10, 13)
    whole = network(torch.nn.functional.pad(rgb, (0, 3, 0, 2), mode="reflect"))
    torch.testing.assert_close(network(rgb), whole[..., :10, :13])
