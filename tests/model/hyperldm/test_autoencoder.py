"""Codes are the nearest ones, shares add up to one, and spectra are mixtures of the library."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch

from spectile.model.hyperldm.autoencoder import Codebook, ConditionalVqgan
from spectile.model.hyperldm.network import HyperLdm
from spectile.model.hyperldm.preset import HyperConfig
from tests.model.hyperldm.tiny import compact, narrow_paper, spectra


@pytest.mark.parametrize(("distance", "power"), [("l1", 1), ("l2", 2)])
def test_the_nearest_code_is_the_nearest(distance: str, power: int) -> None:
    torch.manual_seed(0)
    book, code = Codebook(9, 3, distance), torch.randn(2, 3, 4, 5)
    torch.nn.init.normal_(book.codes)
    far = (code.movedim(1, -1)[..., None, :] - book.codes).abs().pow(power).sum(-1)
    assert torch.equal(book.nearest(code), far.argmin(-1))
    assert torch.equal(book(code)[1, :, 2, 3], book.codes[book.nearest(code)[1, 2, 3]])


def test_codes_that_nothing_is_near_are_moved_and_used_ones_stay() -> None:
    torch.manual_seed(0)
    book, code = Codebook(4, 2, "l2"), torch.full((1, 2, 8, 8), 0.5)
    with torch.no_grad():
        book.codes.copy_(torch.tensor([[0.5, 0.5], [9.0, 9.0], [8.0, 9.0], [7.0, 9.0]]))
    book.use.copy_(torch.tensor([1.0, 1.0, 1.0, 0.01]))
    book.revive(code, torch.zeros(4, dtype=torch.long))
    assert book.codes[3].tolist() == [0.5, 0.5]
    assert book.codes[:3].tolist() == [[0.5, 0.5], [9.0, 9.0], [8.0, 9.0]]
    assert book.use[0] > 1.0
    assert book.use[1] < 1.0


@pytest.mark.parametrize("config", [compact(), narrow_paper()])
@pytest.mark.parametrize("illumination", ["global", "predicted"])
def test_spectra_are_shares_of_the_library_times_the_light(
    config: HyperConfig, illumination: Literal["global", "predicted"]
) -> None:
    torch.manual_seed(0)
    config = replace(config, autoencoder=replace(config.autoencoder, illumination=illumination))
    network = HyperLdm(config).eval()
    auto, rgb = network.autoencoder, torch.rand(2, 3, 32, 32)
    colour = auto.condition(network.condition_of(rgb))
    code = torch.randn(2, config.components, 8, 8)
    shares, light = auto.abundances(code, colour)
    assert shares.shape == (2, 5, 32, 32)
    assert torch.allclose(shares.sum(1), torch.ones(2, 32, 32), atol=1e-5)
    assert light.shape == (2 if illumination == "predicted" else 1, 48)
    expected = torch.einsum("bg,nghw->nbhw", torch.from_numpy(spectra()).T, shares) * light[:, :, None, None]
    assert torch.allclose(auto.decode(code, colour), expected, atol=1e-6)
    assert "autoencoder.library" not in network.state_dict()


def test_the_code_lies_at_a_quarter_of_the_size() -> None:
    config = compact()
    auto = ConditionalVqgan(config.autoencoder, torch.zeros(48, 5), 19)
    assert auto.encode(torch.zeros(1, 48, 16, 24)).shape == (1, 4, 4, 6)
