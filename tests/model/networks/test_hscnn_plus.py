"""HSCNN+: its reach, and images of any size."""

from __future__ import annotations

import torch
from torch import nn

from spectile.model.networks.hscnn_plus import HSCNNPlus
from tests.model.networks.reach import reach_of


def test_hscnn_plus_reaches_one_pixel_for_each_convolution() -> None:
    # 34 layers: one in, sixteen blocks of two, one out (Shi et al. 2018).
    torch.manual_seed(0)
    assert reach_of(HSCNNPlus(4, width=4)) == 34


def test_it_gives_the_bands_at_the_size_of_the_image() -> None:
    assert HSCNNPlus(7, width=8, blocks=2)(torch.randn(2, 3, 9, 14)).shape == (2, 7, 9, 14)


def test_blocks_that_add_nothing_leave_twice_the_features() -> None:
    # The long skip and the short ones each hand the features on.
    network = HSCNNPlus(3, width=3, blocks=2)
    for block in network.body:
        nn.init.zeros_(block.second.weight)
        nn.init.zeros_(block.second.bias)
    rgb = torch.randn(1, 3, 5, 6)
    features = network.enter(rgb).relu()
    torch.testing.assert_close(network(rgb), network.leave(2 * features))
