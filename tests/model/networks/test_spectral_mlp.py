"""The pixel denoiser of SDP: its parameters and cost, and its layers written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from spectile.catalog.errors import UsageError
from spectile.model.networks.spectral_mlp import SpectralMLP, SpectralMLPConfig, SpectralMLPSizes


@pytest.mark.parametrize(("layers", "products"), [(5, 1_060_721), (4, 745_841)])
def test_published_sizes_have_the_known_cost(layers: int, products: int) -> None:
    with torch.device("meta"):
        network = SpectralMLP(SpectralMLPConfig(bands=103, layers=layers))
    linear = [network.layers[0], *network.layers[1:], network.out]
    assert sum(layer.weight.numel() for layer in linear) == products
    inner = layers - 1
    norms_and_biases = inner * 3 * 512 + 103
    time = 64 * 103 + 103 + 103 * 103 + 103 + inner * (103 * 512 + 512)
    assert sum(p.numel() for p in network.parameters()) == products + norms_and_biases + time


def test_the_layers_are_those_written_out() -> None:
    torch.manual_seed(0)
    network = SpectralMLP(SpectralMLPConfig(bands=4, layers=3, width=6, time_width=4)).eval()
    for norm in network.norms:
        torch.nn.init.normal_(norm.weight)
    x, t = torch.randn(5, 4), 37.0
    sinusoid = torch.tensor([[math.cos(t), math.cos(t / 100.0), math.sin(t), math.sin(t / 100.0)]])
    embedded = F.silu(network.time[2](F.silu(network.time[0](sinusoid))))
    h = x
    for i in range(2):
        c = network.modulations[i](embedded)
        h = network.layers[i](h)
        h = h * (1 + c) + c
        h = (h - h.mean(1, keepdim=True)) / (h.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        h = F.silu(h * network.norms[i].weight + network.norms[i].bias)
        h = torch.cat([h, x], dim=1)
    expected = network.out(h)
    torch.testing.assert_close(network(x, torch.full((5,), t)), expected, atol=1e-5, rtol=1e-5)


def test_one_time_for_all_is_that_time_for_each() -> None:
    torch.manual_seed(0)
    network = SpectralMLP(SpectralMLPConfig(bands=4, layers=3, width=8)).eval()
    x = torch.randn(7, 4)
    once = network.predict(x, network.embed(torch.tensor([500.0])))
    torch.testing.assert_close(once, network(x, torch.full((7,), 500)))
    assert not torch.allclose(once, network(x, torch.full((7,), 400)))


def test_an_odd_sinusoid_is_refused() -> None:
    with pytest.raises(UsageError, match="pairs"):
        SpectralMLPSizes(time_width=7)
