"""The latent U-Net begins at zero, takes its condition once or at every step, and uses every skip."""

from __future__ import annotations

from dataclasses import replace

import torch

from spectile.model.hyperldm.latent_unet import LatentUNet
from tests.model.hyperldm.tiny import compact, narrow_paper


def test_it_begins_at_zero_and_depends_on_state_time_and_colour() -> None:
    torch.manual_seed(0)
    for config in (compact(), narrow_paper()):
        network = LatentUNet(config).eval()
        state, colour = (
            torch.randn(2, config.components, 8, 8),
            torch.rand(2, config.condition_channels, 32, 32),
        )
        t = torch.tensor([3.0, 50.0])
        assert torch.count_nonzero(network(state, t, network.encode(colour))) == 0
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.normal_(layer.weight, std=0.1)
        out = network(state, t, network.encode(colour))
        assert out.shape == state.shape
        assert not torch.allclose(out, network(state + 1.0, t, network.encode(colour)))
        assert not torch.allclose(out, network(state, t + 9.0, network.encode(colour)))
        assert not torch.allclose(out, network(state, t, network.encode(colour * 0.5)))


def test_a_condition_without_time_is_encoded_once_and_one_with_time_at_every_step() -> None:
    config, colour = compact(), torch.rand(1, 19, 16, 16)
    once = LatentUNet(config)
    assert once.encode(colour).shape == (1, 6, 4, 4)
    stepped = LatentUNet(replace(config, denoiser=replace(config.denoiser, condition_time="step")))
    assert stepped.encode(colour) is colour
