"""Blocks begin as the identity, the way down halves the size, and local layers stay local."""

from __future__ import annotations

import pytest
import torch

from spectile.model.hyperldm.layers import Attention, Descent, ResBlock, Up


@pytest.mark.parametrize("norm", ["group", "channel"])
def test_a_block_begins_as_its_shortcut_and_the_time_changes_it_later(norm: str) -> None:
    torch.manual_seed(0)
    block, x, time = ResBlock(8, 8, norm, 4), torch.randn(2, 8, 6, 6), torch.randn(2, 4)
    assert torch.allclose(block(x, time), x + block.second.bias[:, None, None])
    torch.nn.init.normal_(block.second.weight)
    assert not torch.allclose(block(x, time), block(x, time + 1.0))


def test_attention_sees_the_whole_tile_and_takes_as_many_heads_as_fit() -> None:
    torch.manual_seed(0)
    attention = Attention(6, "channel", 4)
    assert attention.heads == 2
    torch.nn.init.normal_(attention.out.weight)
    x = torch.randn(1, 6, 8, 8)
    changed = x.clone()
    changed[:, 0, 0, 0] += 5.0  # of one channel: the norm takes away what all have
    assert not torch.allclose(attention(x)[:, :, 7, 7], attention(changed)[:, :, 7, 7])


def test_the_way_down_folds_and_halves_and_the_way_up_doubles() -> None:
    descent = Descent(3, (8, 12, 16), fold=2, blocks=1, norm="channel")
    shapes = [tuple(x.shape[1:]) for x in descent(torch.zeros(1, 3, 32, 16))]
    assert shapes == [(8, 16, 8), (12, 8, 4), (16, 4, 2)]
    assert Up(16, 12)(torch.zeros(1, 16, 4, 2)).shape == (1, 12, 8, 4)
