"""What every denoiser says of its calls."""

from __future__ import annotations

import pytest

from spectile.model.networks.denoiser import Denoiser
from spectile.model.networks.unet_compact import CompactUNet
from spectile.model.networks.unet_shared_encoder import SharedEncoderUNet


@pytest.mark.parametrize("network", [CompactUNet, SharedEncoderUNet])
def test_a_denoiser_names_a_condition_branch_and_a_denoiser_that_it_has(network: type[Denoiser]) -> None:
    assert issubclass(network, Denoiser)
    assert len(set(network.calls)) == 2
    assert all(callable(getattr(network, name)) for name in network.calls)
    assert set(network.narrow) <= set(network.calls)
