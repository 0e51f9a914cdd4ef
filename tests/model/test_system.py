"""What every system's network has from its base."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spectile.catalog.bands import RGB_CAMERA
from spectile.model.data.crops import Batch
from spectile.model.system import DrawStage, Network


class Stage(nn.Module):
    """A stage that diffuses so many channels."""

    def __init__(self, components: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(components=components)
        self.weight = nn.Parameter(torch.zeros(1))


class Drawn(Network):
    """A network whose sample is what it was given and what it drew."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(response=RGB_CAMERA)
        self.stages = nn.ModuleList([Stage(2), Stage(5)])
        self.stride = 4

    def finish(self, begun: Any, draw: DrawStage, *, steps: int | None = None, number: int = 0) -> Tensor:
        return torch.cat([begun + number, draw(0, 1), draw(1, 1)], dim=1)


def test_a_network_that_cannot_sample_says_so() -> None:
    with pytest.raises(TypeError, match="Network has no way to sample"):
        Network().sample(torch.zeros(1, 3, 4, 4), lambda stage, step: torch.zeros(1))


def test_its_input_is_a_colour_scene_as_its_camera_sees_it_with_the_fill() -> None:
    (spec,) = Drawn().inputs([0.1, 0.2, 0.3])
    assert (spec.name, spec.bands, spec.fill, spec.ratio) == ("rgb", RGB_CAMERA, (0.1, 0.2, 0.3), 1)


def test_a_sample_goes_from_what_was_begun_with_its_number() -> None:
    network, rgb = Drawn(), torch.rand(2, 3, 4, 4)
    draw = network.drawn_by(torch.Generator(), 2, 4, 4)
    cube = network.sample(rgb, draw, number=7)
    assert cube.shape == (2, 3 + 2 + 5, 4, 4)
    assert torch.equal(cube[:, :3], rgb + 7)
    assert torch.equal(network.sample([rgb], draw)[:, :3], rgb), "inputs may be given in a list"


def test_what_is_observed_of_crops_is_their_colours() -> None:
    crops = Batch(torch.rand(2, 3, 4, 4), *(torch.zeros(1) for _ in range(5)))
    (seen,) = Drawn().observe(crops)
    assert seen is crops.rgb
    assert Drawn().channels == 3


def test_drawn_noise_goes_on_in_its_generator_and_starts_again_with_it() -> None:
    network = Drawn()

    def draws(seed: int) -> list[Tensor]:
        draw = network.drawn_by(torch.Generator().manual_seed(seed), 2, 8, 6)
        return [draw(1, 1), draw(1, 1)]

    first, second = draws(0)
    assert first.shape == (2, 5, 8, 6)
    assert not torch.equal(first, second), "each call draws anew"
    assert all(torch.equal(a, b) for a, b in zip(draws(0), (first, second), strict=True))
    assert not torch.equal(first, draws(1)[0])


def test_noise_on_places_has_the_channels_of_its_stage() -> None:
    asked: list[dict[str, Any]] = []

    def white(**named: Any) -> Tensor:
        asked.append(named)
        return torch.zeros(1)

    network, origins = Drawn(), torch.tensor([[-8, 64]])
    network.noise(1, white, origins, 16, 24)
    network.lattice = 4
    network.noise(1, white, origins - 2, 16, 24)
    assert [one.pop("origins").tolist() for one in asked] == [[[-8, 64]], [[-3, 15]]]
    assert asked == [{"channels": 5, "height": 16, "width": 24}, {"channels": 5, "height": 4, "width": 6}]


def test_what_a_system_need_not_have_is_empty() -> None:
    network = Drawn()
    assert network.estimates(torch.zeros(1, 3, 4, 4)) == {}
    assert list(network.parts(0)) == []
