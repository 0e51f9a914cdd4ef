"""The registry's entry for SDP."""

from __future__ import annotations

import torch

from spectile.model.measure.benchmark import count
from spectile.model.sdp.system import SYSTEM


def test_the_published_fusion_costs_what_its_network_does() -> None:
    assert SYSTEM.published is not None
    with torch.device("meta"):
        network = SYSTEM.build(SYSTEM.published())
    costs = count(network, tile=16, steps=2)
    # Two times of three Adam steps, forward alone: what autograd adds is among the rest.
    assert costs[1, "denoiser"] == 6 * 1_060_721
