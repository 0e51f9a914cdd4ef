import math

import pytest
import torch
from torch import Tensor

from spectile.model.diffusion.losses import prediction_loss, scdm_loss, spectral_loss
from spectile.model.diffusion.parameterization import add_noise


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_prediction_losses_are_the_mean_square_and_the_mean_magnitude() -> None:
    output, target = torch.zeros(1, 2, 1, 2), torch.tensor([[[[1.0, -2.0]], [[3.0, 0.0]]]])
    assert prediction_loss(output, target, kind="mse") == 14 / 4
    assert prediction_loss(output, target, kind="l1") == 6 / 4


def test_masked_bands_and_pixels_do_not_count_even_as_nan() -> None:
    output, target = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    bands = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    kept = torch.cat([(output - target)[0, :2].flatten(), (output - target)[1, 0].flatten()])
    spoiled = target.clone()
    spoiled[0, 2], spoiled[1, 1:] = torch.nan, torch.nan
    output.requires_grad_()
    for mask in (bands, bands[:, :, None, None].expand(2, 3, 4, 4)):
        loss = prediction_loss(output, spoiled, kind="mse", mask=mask)
        torch.testing.assert_close(loss, kept.square().mean())
        (gradient,) = torch.autograd.grad(loss, output)
        assert gradient.isfinite().all()


def test_nothing_valid_is_no_loss() -> None:
    mask = torch.zeros(1, 3)
    assert prediction_loss(normal(1, 3, 2, 2), normal(1, 3, 2, 2), kind="l1", mask=mask) == 0.0
    assert spectral_loss(normal(1, 3, 2, 2), normal(1, 3, 2, 2), mask=mask) == 0.0


def test_spectral_loss_is_one_minus_the_cosine_whatever_the_brightness() -> None:
    truth = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    estimate = torch.tensor([3.0, 3.0]).reshape(1, 2, 1, 1)
    assert float(spectral_loss(estimate, truth)) == pytest.approx(1 - math.cos(math.pi / 4))
    assert float(spectral_loss(5 * truth, truth)) == pytest.approx(0.0, abs=1e-6)


def test_spectral_loss_takes_the_angle_over_valid_bands_and_the_mean_over_valid_pixels() -> None:
    truth = normal(1, 4, 1, 3).abs()
    estimate = truth.clone()
    estimate[0, 3] = -7.0
    mask = torch.ones(1, 4, 1, 3, dtype=torch.bool)
    mask[0, 3] = False
    assert float(spectral_loss(estimate, truth, mask=mask)) == pytest.approx(0.0, abs=1e-6)
    estimate[0, :, 0, 0] = -truth[0, :, 0, 0]
    mask[0, :, 0, 1] = False
    assert float(spectral_loss(estimate, truth, mask=mask)) == pytest.approx(2 / 2, abs=1e-6)


def test_spectral_loss_of_dark_spectra_has_a_finite_gradient() -> None:
    estimate = torch.zeros(1, 3, 2, 2, requires_grad=True)
    spectral_loss(estimate, torch.zeros(1, 3, 2, 2)).backward()
    assert estimate.grad is not None
    assert estimate.grad.isfinite().all()


def test_the_perfect_noise_has_no_loss_and_high_noise_counts_less() -> None:
    x_0, eps = normal(1, 6, 8, 8).abs(), normal(1, 6, 8, 8, seed=1)

    def loss(level: float, error: float) -> float:
        alpha_bar = torch.full((1, 1, 1, 1), level)
        x_t = add_noise(x_0, eps, alpha_bar)
        settings = {"alpha_bar": alpha_bar, "offset": 0.0, "scale": 1.0}
        wrong = eps + error * normal(1, 6, 8, 8, seed=2)
        return float(scdm_loss(wrong, eps, x_0=x_0, x_t=x_t, **settings) - (wrong - eps).abs().mean())

    assert loss(0.5, 0.0) == pytest.approx(0.0, abs=1e-5)
    assert loss(1e-4, 0.3) < 1e-3 < loss(0.5, 0.3)


def test_scdm_loss_takes_the_angle_of_spectra_as_measured() -> None:
    # Normalised around the mean, a brighter and a darker copy of a spectrum would point opposite ways.
    spectrum = torch.tensor([100.0, 200.0, 300.0]).reshape(1, 3, 1, 1)
    x_0, estimate = (1.5 * spectrum - 200) / 50, (0.8 * spectrum - 200) / 50
    alpha_bar = torch.full((1, 1, 1, 1), 0.5)
    eps = torch.zeros(1, 3, 1, 1)
    x_t = add_noise(x_0, eps, alpha_bar)
    output = x_t - estimate * alpha_bar.sqrt()
    output = output / (1 - alpha_bar).sqrt()
    both = scdm_loss(output, eps, x_0=x_0, x_t=x_t, alpha_bar=alpha_bar, offset=200.0, scale=50.0)
    assert float(both - output.abs().mean()) == pytest.approx(0.0, abs=1e-5)
