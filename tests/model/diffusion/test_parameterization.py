import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spectile.model.diffusion.parameterization import Prediction, add_noise, target, to_x0


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@given(alpha_bar=st.floats(1e-4, 0.9999), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_target_gives_back_the_data(kind: Prediction, alpha_bar: float, seed: int) -> None:
    x_0, eps = torch.randn(2, 50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x_t = add_noise(x_0, eps, alpha_bar)
    output = target(x_0, eps, alpha_bar, kind)
    # Division by sqrt(alpha_bar), at least 0.01: 1e-13 keeps 1e-9.
    torch.testing.assert_close(to_x0(output, x_t, alpha_bar, kind), x_0, rtol=0, atol=1e-9)


def test_tensor_and_float_levels_agree() -> None:
    x_0, eps = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    level = torch.tensor([0.1, 0.5, 0.9]).reshape(3, 1, 1, 1)
    batch = target(x_0, eps, level, "v")
    for i, alpha_bar in enumerate((0.1, 0.5, 0.9)):
        torch.testing.assert_close(batch[i], target(x_0[i], eps[i], alpha_bar, "v"))


def test_preconditioning_of_edm_for_data_of_unit_deviation_is_v() -> None:
    """Karras et al. (2022), table 1: c_skip·x + c_out·F(c_in·x) with x = x_t/√ᾱ and sigma² = (1 − ᾱ)/ᾱ."""
    generator = torch.Generator().manual_seed(0)
    x_t, output = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)
    for alpha_bar in (4e-5, 0.3, 0.999):
        sigma = math.sqrt((1.0 - alpha_bar) / alpha_bar)
        skip, out = 1.0 / (sigma**2 + 1.0), sigma / math.sqrt(sigma**2 + 1.0)
        x = x_t / math.sqrt(alpha_bar)
        torch.testing.assert_close(x / math.sqrt(sigma**2 + 1.0), x_t)
        torch.testing.assert_close(skip * x - out * output, to_x0(output, x_t, alpha_bar, "v"))
