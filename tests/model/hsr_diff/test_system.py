"""The registry's entry for HSR-Diff."""

from __future__ import annotations

import torch

from spectile.model.hsr_diff.system import SYSTEM
from spectile.model.measure.benchmark import count
from tests.model.hsr_diff.fusions import tiny_config


def test_the_published_network_costs_what_its_layers_do() -> None:
    assert SYSTEM.published is not None
    with torch.device("meta"):
        network = SYSTEM.build(SYSTEM.published())
    costs = count(network, tile=64, steps=1)
    c, hidden = 256, int(2.66 * 256)
    window = 4 * c * c + 2 * 64 * c
    layer = window + 4 * c * c + 27 * c + 2 * c * c // 8 + 3 * hidden * c + 18 * hidden
    stems = 9 * 109 * c, 9 * 103 * c * 2
    assert abs(costs[1, "condition branch"] / (4 * layer + stems[0]) - 1) < 0.001
    # The level's linear layer is one product a tile.
    assert abs(costs[1, "denoiser"] / (4 * (layer + window) + stems[1]) - 1) < 0.001


def test_one_pass_of_the_first_stream_serves_all_steps() -> None:
    with torch.device("meta"):
        network = SYSTEM.build(tiny_config())
    one, three = (count(network, tile=16, steps=steps) for steps in (1, 3))
    assert one[1, "condition branch"] == three[1, "condition branch"]
    assert 3 * one[1, "denoiser"] == three[1, "denoiser"]
