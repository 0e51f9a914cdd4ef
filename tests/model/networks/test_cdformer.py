"""CDFormer: its parameters, its equations against naive versions, and what each part sees."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from spectile.catalog.errors import UsageError
from spectile.model.networks.cdformer import (
    CDFormer,
    CDFormerConfig,
    CDFormerSizes,
    SpectralAttention,
    WindowAttention,
    level_embedding,
)

TINY = CDFormerConfig(width=8, layers=2, heads=2, window=4, bands=6, msi_bands=3)


def _tiny() -> CDFormer:
    torch.manual_seed(0)
    return CDFormer(TINY).eval()


@pytest.mark.parametrize(("bands", "msi"), [(103, 6), (48, 4)])
def test_published_width_has_the_parameters_counted_by_hand(bands: int, msi: int) -> None:
    c, heads, window = 256, 8, 8
    hidden = int(2.66 * c)
    spatial = 4 * (c * c + c) + (2 * window - 1) ** 2 * heads
    spectral = heads + 3 * (c * c + c) + 3 * c * 10 + c * c + c
    feed_forward = 2 * hidden * (c + 1) + 2 * hidden * 10 + hidden * c + c
    layer = 3 * 2 * c + spatial + spectral + feed_forward
    conditional = layer + spatial + 2 * 2 * c + c * c + c
    stems = (9 * (msi + bands) * c + c) + (9 * bands * c + c) + (9 * c * bands + bands)
    with torch.device("meta"):
        network = CDFormer(CDFormerConfig(bands=bands, msi_bands=msi))
    assert sum(p.numel() for p in network.parameters()) == stems + 4 * (layer + conditional)


def test_window_attention_is_the_naive_one() -> None:
    torch.manual_seed(0)
    attention = WindowAttention(8, 2, 4)
    torch.nn.init.normal_(attention.bias)
    x, other = torch.randn(1, 8, 12, 8), torch.randn(1, 8, 12, 8)
    out = attention(x, other)
    row, col = 4, 8  # the window whose first pixel is there
    table = attention.bias.detach()
    at = [(r, c) for r in range(4) for c in range(4)]
    query = attention.query(x[0, row : row + 4, col : col + 4].reshape(16, 8))
    key, value = attention.key_value(other[0, row : row + 4, col : col + 4].reshape(16, 8)).chunk(2, -1)
    read = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        bias = torch.tensor([[float(table[(r - s + 3) * 7 + c - d + 3, head]) for s, d in at] for r, c in at])
        weight = (query[:, part] @ key[:, part].T / 2.0 + bias).softmax(-1)
        read.append(weight @ value[:, part])
    expected = attention.out(torch.cat(read, -1)).reshape(4, 4, 8)
    torch.testing.assert_close(out[0, row : row + 4, col : col + 4], expected, atol=1e-5, rtol=1e-5)


def test_at_first_a_pixel_looks_at_itself_as_much_as_at_its_window() -> None:
    attention = WindowAttention(4, 1, 4)
    for layer in (attention.query, attention.key_value, attention.out):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    attention.key_value.weight.data[4:] = torch.eye(4)  # values as they are, equal scores
    attention.out.weight.data = torch.eye(4)
    x = torch.rand(1, 4, 4, 4)
    others = (x.sum((1, 2), keepdim=True) - x) / 15
    torch.testing.assert_close(attention(x, x), 0.5 * x + 0.5 * others)


def test_spectral_attention_is_the_naive_one() -> None:
    torch.manual_seed(0)
    attention = SpectralAttention(4, 2)
    x = torch.randn(1, 5, 6, 4)
    mixed = attention.mix(attention.project(x).permute(0, 3, 1, 2))[0].flatten(1)
    query, key, value = mixed[:4], mixed[4:8], mixed[8:]
    read = []
    for head in range(2):
        rows = slice(2 * head, 2 * head + 2)
        scores = torch.stack(
            [
                torch.stack([F.cosine_similarity(query[rows][i], key[rows][j], dim=0) for j in range(2)])
                for i in range(2)
            ]
        )
        read.append((scores * attention.temperature[head]).softmax(-1) @ value[rows])
    expected = attention.out(torch.cat(read).reshape(4, 5, 6).permute(1, 2, 0))
    torch.testing.assert_close(attention(x)[0], expected, atol=1e-5, rtol=1e-5)


def test_the_level_s_embedding_is_equation_7() -> None:
    gamma, channels = 0.37, 6
    (out,) = level_embedding(torch.tensor([gamma]), channels, scale=5000.0)
    for i in range(1, 4):
        angle = 5000.0 * gamma / 10_000 ** (2 * i / channels)
        assert out[2 * i - 2] == pytest.approx(math.sin(angle), abs=1e-4)
        assert out[2 * i - 1] == pytest.approx(math.cos(angle), abs=1e-4)


def test_the_output_depends_on_state_level_and_both_inputs() -> None:
    network = _tiny()
    given = [torch.rand(1, 6, 8, 8), torch.tensor([0.5]), torch.rand(1, 3, 8, 8), torch.rand(1, 6, 8, 8)]
    with torch.inference_mode():
        out = network(*given)
        assert out.shape == (1, 6, 8, 8)
        for index in range(4):
            changed = [value * 0.9 if i == index else value for i, value in enumerate(given)]
            assert not torch.allclose(network(*changed), out, atol=1e-6), index


def test_without_attention_between_channels_a_pixel_sees_its_surroundings_alone() -> None:
    network = _tiny()
    for module in network.modules():
        if isinstance(module, SpectralAttention):
            torch.nn.init.zeros_(module.out.weight)
    state, msi, coarse = (torch.rand(1, channels, 16, 128) for channels in (6, 3, 6))
    level = torch.tensor([0.3])
    with torch.inference_mode():
        whole = network(state, level, msi, coarse)
        tile = network(state[..., 32:96], level, msi[..., 32:96], coarse[..., 32:96])
    # Two layers, each of a window and a 3×3 convolution, twice, and the stems: less than 24 px to either
    # side.
    torch.testing.assert_close(tile[..., 24:40], whole[..., 56:72], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(tile[..., :2], whole[..., 32:34], atol=1e-5)


def test_the_first_half_is_both_stems_and_half_of_the_layers() -> None:
    network = _tiny()
    kept = {id(parameter) for parameter in network.first_half()}
    names = {
        name.split(".")[0] + name.split(".")[1] for name, p in network.named_parameters() if id(p) in kept
    }
    assert names == {"stemweight", "stembias", "sr_stemweight", "sr_stembias", "layers0", "sr_layers0"}


@pytest.mark.parametrize("sizes", [{"width": 9, "heads": 3}, {"width": 8, "heads": 3}])
def test_widths_that_do_not_fit_the_heads_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="does not fit the heads"):
        CDFormerSizes(**sizes)
