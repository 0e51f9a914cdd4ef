"""Pairs on a device: the operators are those of ``degrade``, and crops repeat by their key."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spectile.catalog.bands import Bands
from spectile.catalog.errors import UsageError
from spectile.model.data import degrade
from spectile.model.data.crops import TrainingScene
from spectile.model.data.pairs import (
    PairConfig,
    PairCrops,
    coarsen,
    interpolate,
    observe,
    project,
    response_matrix,
)

BANDS = Bands.evenly_spaced(450.0, 900.0, 5)
MSI = Bands((500.0, 800.0), (80.0, 80.0))


def _scene(name: str, level: float, weight: float = 1.0, size: int = 12) -> TrainingScene:
    rng = np.random.default_rng(len(name))
    cube = level + 0.1 * rng.random((5, size, size), dtype=np.float32)
    return TrainingScene(name, cube, BANDS, np.ones((size, size), bool), weight)


def test_the_operators_are_those_on_arrays() -> None:
    cube = np.random.default_rng(0).random((5, 12, 16), dtype=np.float32)
    seen = torch.from_numpy(cube)[None]
    for size in (None, 7):
        expected = degrade.coarsen(cube, 4, (1.7, 1.2), size=size)
        np.testing.assert_allclose(coarsen(seen, 4, (1.7, 1.2), size=size)[0], expected, atol=1e-6)
    expected = degrade.coarsen(cube, 4, (1.7, 1.2), size=7, phase=0.0)
    np.testing.assert_allclose(coarsen(seen, 4, (1.7, 1.2), size=7, phase=0.0)[0], expected, atol=1e-6)
    response = response_matrix(BANDS, MSI)
    expected = degrade.project(cube, response)
    np.testing.assert_allclose(project(seen, torch.from_numpy(response))[0], expected, atol=1e-6)


def test_an_operator_made_while_inferring_serves_training_too() -> None:
    cube = torch.rand(1, 5, 8, 20, requires_grad=True)
    with torch.inference_mode():
        coarsen(cube, 4, (0.9, 0.9))
    coarsen(cube, 4, (0.9, 0.9)).sum().backward()
    assert cube.grad is not None


def test_noise_is_so_many_decibels_below_each_scene() -> None:
    cube = torch.rand(3, 5, 64, 64)
    pair = PairConfig(ratio=2, psf_sigma=0.8, snr_db=(20.0, 30.0))
    response = torch.from_numpy(response_matrix(BANDS, MSI))
    clean = observe(cube, pair, response, None)
    noisy = observe(cube, pair, response, torch.Generator().manual_seed(0))
    for before, after, ratio in ((clean.hsi, noisy.hsi, 100.0), (clean.msi, noisy.msi, 1000.0)):
        power = before.square().mean((1, 2, 3)) / (after - before).square().mean((1, 2, 3))
        np.testing.assert_allclose(power, ratio, rtol=0.1)


def test_sides_that_are_no_whole_coarse_pixels_are_refused() -> None:
    with pytest.raises(UsageError, match="no whole number of coarse pixels"):
        coarsen(torch.zeros(1, 2, 9, 8), 4, (1.0, 1.0))


def test_an_msi_that_the_bands_do_not_cover_is_refused() -> None:
    with pytest.raises(UsageError, match="do not cover the MSI's"):
        response_matrix(BANDS, Bands((1600.0,), (80.0,)))


def test_crops_repeat_by_their_key_and_come_from_scenes_by_weight() -> None:
    scenes = [_scene("dark", 0.1, 3.0), _scene("bright", 0.8, 1.0)]
    crops = PairCrops(scenes, BANDS, side=8, device=torch.device("cpu"))
    cubes, valid = crops.draw((1, 2), count=200, size=8, turn=True)
    assert torch.equal(crops.draw((1, 2), count=200, size=8, turn=True)[0], cubes)
    assert not torch.equal(crops.draw((1, 3), count=200, size=8, turn=True)[0], cubes)
    assert valid.min() == 1.0
    dark = float((cubes.mean((1, 2, 3)) < 0.5).float().mean())
    assert dark == pytest.approx(0.75, abs=0.1)
    assert float(crops.mean().mean()) == pytest.approx(0.75 * 0.15 + 0.25 * 0.85, abs=0.01)


def test_turned_crops_are_views_of_the_same_scene() -> None:
    crops = PairCrops([_scene("one", 0.2, size=8)], BANDS, side=8, device=torch.device("cpu"))
    held = crops.scenes[0].cube.float()
    views = {
        tuple(torch.rot90(flipped, turns, (-2, -1)).flatten().tolist())
        for flipped in (held, held.flip(-1)) for turns in range(4)
    }  # fmt: skip
    cubes, _ = crops.draw((0,), count=100, size=8, turn=True)
    assert {tuple(cube.flatten().tolist()) for cube in cubes} == views


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_an_interpolation_whose_centres_lie_in_the_middle_is_the_usual_one(mode: str) -> None:
    coarse = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    usual = interpolate(coarse, 8, mode=mode)  # type: ignore[arg-type]
    placed = interpolate(coarse, 8, phase=3.5, mode=mode)  # type: ignore[arg-type]
    torch.testing.assert_close(placed, usual)
    at_first = interpolate(coarse, 8, phase=0.0, mode=mode)  # type: ignore[arg-type]
    torch.testing.assert_close(at_first[..., ::8, ::8], coarse)
