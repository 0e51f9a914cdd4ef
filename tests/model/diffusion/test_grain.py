"""Noise with the grain of a residual: of unit variance, fixed to the grid, and fitted to what is seen."""

import numpy as np
import pytest
import torch
from torch import Tensor

from spectile.model.diffusion.grain import LAGS, SPACINGS, fit_grain, grained, random_grained, white_grain
from spectile.model.diffusion.noise import noise

MIXED = torch.tensor([[0.5, 0.0, 0.3, 0.0, 0.2], [0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.4, 0.6]])


def keyed(level: int, first: Tensor, shape: tuple[int, int]) -> Tensor:
    return noise(
        seed=3, stage=0, step=0, sample=0, channels=3, origins=first,
        height=shape[0], width=shape[1], device="cpu", level=level,
    )  # fmt: skip


def at(*places: tuple[int, int]) -> Tensor:
    return torch.tensor(places)


def test_windows_anywhere_agree_bit_for_bit() -> None:
    whole = grained(keyed, MIXED, at((-40, -7)), 120, 90)[0]
    for row, col, height, width in ((0, 0, 33, 50), (13, 22, 64, 17), (-40, -7, 1, 1), (79, 82, 1, 1)):
        part = grained(keyed, MIXED, at((row, col)), height, width)[0]
        assert torch.equal(part, whole[:, row + 40 :, col + 7 :][:, :height, :width])


def test_windows_together_are_as_each_alone() -> None:
    """As an accelerator makes them; their places on the lattices differ."""
    places = [(0, 0), (-3, 7), (13, 22)]
    together = grained(keyed, MIXED, at(*places), 30, 20)
    for window, place in zip(together, places, strict=True):
        assert torch.equal(window, grained(keyed, MIXED, at(place), 30, 20)[0])


@pytest.mark.parametrize("level", range(len(SPACINGS)))
def test_each_spacing_has_unit_variance_at_every_pixel(level: int) -> None:
    grain = torch.zeros(400, len(SPACINGS))
    grain[:, level] = 1.0
    drawn = torch.cat([random_grained(grain, 1, 40, 40, torch.Generator().manual_seed(i)) for i in range(10)])
    at_pixels = drawn.flatten(0, 1).square().mean(0)
    assert torch.allclose(at_pixels, torch.ones(40, 40), atol=0.15)
    assert float(at_pixels.mean()) == pytest.approx(1.0, abs=0.02)


def test_white_grain_is_the_white_noise() -> None:
    place = at((5, 6))
    assert torch.equal(grained(keyed, white_grain(3), place, 20, 30), keyed(0, place, (20, 30)))


def test_levels_are_independent() -> None:
    one, other = (keyed(level, at((0, 0)), (100, 100)) for level in (0, 1))
    assert abs(float((one * other).mean())) < 0.02


def test_the_grain_of_what_is_drawn_is_found_again() -> None:
    drawn = random_grained(MIXED, 40, 96, 96, torch.Generator().manual_seed(0))
    found = fit_grain(drawn, torch.ones_like(drawn))
    assert torch.allclose(found.sum(1), torch.ones(3))
    assert torch.allclose(found, MIXED, atol=0.1)


def test_pixels_without_weight_do_not_count() -> None:
    drawn = random_grained(MIXED, 10, 96, 96, torch.Generator().manual_seed(0))
    weight = torch.ones_like(drawn)
    weight[..., 48:] = 0.0
    spoilt = drawn.clone()
    spoilt[..., 48:] = 1e6
    assert torch.equal(fit_grain(spoilt, weight), fit_grain(drawn, weight))
    assert torch.equal(fit_grain(drawn, torch.zeros_like(drawn)), white_grain(3))


def test_noise_of_a_fitted_grain_has_the_variogram_of_what_it_was_fitted_on() -> None:
    """An exponential covariance, which no sum of splines is."""
    place = np.arange(64)
    covariance = np.exp(-np.abs(place[:, None] - place[None]) / 5.0)
    root = torch.from_numpy(np.linalg.cholesky(covariance)).float()
    white = torch.randn(60, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    field = root @ white @ root.T
    fake = random_grained(
        fit_grain(field, torch.ones_like(field)), 60, 64, 64, torch.Generator().manual_seed(2)
    )
    for lag in LAGS:
        got, want = (_semivariance(x, lag) for x in (fake, field))
        assert got / want == pytest.approx(1.0, abs=0.2), lag


def _semivariance(field: Tensor, lag: int) -> float:
    return float((field[..., lag:] - field[..., :-lag]).square().mean())
