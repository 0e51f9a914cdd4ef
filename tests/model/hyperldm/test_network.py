"""Samples agree where tiles overlap, and what is published about the sampler is done."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from spectile.catalog.inputs import Batch
from spectile.model.hyperldm.network import FIXED_SCALE, HyperLdm
from spectile.model.hyperldm.preset import HyperConfig
from spectile.model.predict.network import NetworkPredictor
from tests.model.hyperldm.tiny import compact, narrow_paper


def network_of(config: HyperConfig) -> HyperLdm:
    """With random weights in every layer, so that all of them count."""
    torch.manual_seed(0)
    network = HyperLdm(config).eval()
    network.requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.normal_(layer.weight, std=0.3 / layer.weight[0].numel() ** 0.5)
    return network


def predictor_of(network: HyperLdm, batch: int = 4, *, shares: bool = False) -> NetworkPredictor:
    return NetworkPredictor(
        network, name="tiny", digest="", fill=np.full(3, 0.2, np.float32), steps=network.config.steps,
        seed=3, batch=batch, device="cpu", dtype="float32", shares=shares,
    )  # fmt: skip


def predict(network: HyperLdm, scene: np.ndarray, windows: list[tuple[int, int, int]]) -> list[np.ndarray]:
    """The windows (row, col, side) of a scene, each as a tile of its own run."""
    out = []
    for row, col, side in windows:
        tile = scene[None, :, row : row + side, col : col + side]
        batch = Batch.of_colours(tile, np.ones((1, side, side), bool), np.array([[row, col]]))
        out.append(next(iter(predictor_of(network).predict(batch, range(2, 3))))[0])
    return out


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return np.random.default_rng(0).random((3, 256, 256), dtype=np.float32) * 0.5


def test_overlapping_tiles_agree_beyond_the_reach_of_their_edges(scene: np.ndarray) -> None:
    network = network_of(compact())
    large, moved = predict(network, scene, [(0, 0, 256), (64, 72, 160)])
    inner = slice(64, 96)
    a, b = large[:, 128:160, 136:168], moved[:, inner, inner]
    assert float(np.abs(a - b).max()) < 1e-5
    # The noise differs from place to place, so that this is no comparison of constants.
    assert float(np.abs(a - moved[:, 72:104, 64:96]).max()) > 1e-3


def test_the_batch_changes_no_bit(scene: np.ndarray) -> None:
    network = network_of(compact())
    tiles = np.stack([scene[:, :32, :32], scene[:, 32:64, 8:40], scene[:, 64:96, :32]])
    origins = np.array([[0, 0], [32, 8], [64, 0]])
    together = Batch.of_colours(tiles, np.ones((3, 32, 32), bool), origins)
    (all_three,) = predictor_of(network).predict(together, range(1))
    alone = Batch.of_colours(tiles[1:2], np.ones((1, 32, 32), bool), origins[1:2])
    (single,) = predictor_of(network, batch=1).predict(alone, range(1))
    assert np.array_equal(all_three[1], single[0])


def test_noise_lies_on_the_lattice_of_the_code_at_any_remainder() -> None:
    network = network_of(compact())
    asked: list[tuple[list[list[int]], int, int]] = []

    def white(*, channels: int, origins: Tensor, height: int, width: int, level: int = 0) -> Tensor:
        asked.append((origins.tolist(), height, width))
        return torch.zeros(len(origins), channels, height, width)

    network.noise(0, white, torch.tensor([[-32, 160], [-30, 162]]), 64, 32)
    assert asked == [([[-8, 40], [-8, 40]], 16, 8)]


def test_samples_differ_and_stay_within_reflectance(scene: np.ndarray) -> None:
    network = network_of(compact())
    batch = Batch.of_colours(scene[None, :, :32, :32])
    first, second = predictor_of(network).predict(batch, range(2))
    assert not np.array_equal(first, second)
    assert first.dtype == np.float32
    assert 0.0 <= first.min() <= first.max() <= 1.6
    assert predictor_of(network).settings["estimate"] == "sample"


def test_the_published_one_samples_all_steps_with_the_posteriors_variance() -> None:
    network = network_of(replace(narrow_paper(), steps=100))
    begun, drawn = network.begin(torch.rand(1, 3, 32, 32)), []

    def draw(stage: int, step: int) -> Tensor:
        drawn.append(step)
        return torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(step))

    code = network.draw_code(begun, draw).detach()
    assert drawn == list(range(100))
    assert float(code.abs().max()) <= 1.0  # the last estimate, clamped
    assert float(network.latent_scale[0]) == pytest.approx(FIXED_SCALE)


def test_a_picture_has_eight_bits_in_the_order_blue_green_red() -> None:
    config = narrow_paper()
    network = HyperLdm(replace(config, autoencoder=replace(config.autoencoder, condition="picture")))
    rgb = torch.tensor([0.4, 0.1, 0.0])[None, :, None, None].expand(1, 3, 32, 32)
    seen = network.condition_of(rgb)[0, :, 0, 0]
    assert seen.tolist() == pytest.approx([-1.0, 63 / 127.5 - 1.0, 1.0])


def test_shares_follow_the_bands_where_they_are_asked_for_and_change_none() -> None:
    network = network_of(compact())
    tile = Batch.of_colours(np.random.default_rng(0).random((1, 3, 32, 32), np.float32))
    plain, mixed = (predictor_of(network, shares=shares) for shares in (False, True))
    assert (plain.endmembers, mixed.endmembers) == ((), tuple(one.name for one in network.config.library))
    (spectra,), (both,) = (list(one.predict(tile, range(1))) for one in (plain, mixed))
    np.testing.assert_array_equal(both[:, :48], spectra)
    shares = both[:, 48:]
    assert shares.shape == (1, 5, 32, 32)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    library = np.array([one.reflectance for one in network.config.library])
    np.testing.assert_allclose(np.einsum("gb,nghw->nbhw", library, shares), spectra, atol=1e-5)
    assert mixed.memory(256) > plain.memory(256)
