"""The ladder's regressions that draw: by independent noise, and by quantiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spectile.model.measure.ladder_regression import LEVELS, Noisy, Quantiles, Regressor


class Repeat(nn.Module):
    """The red channel, once for each of a number of bands, plus so much for each."""

    def __init__(self, added: Tensor) -> None:
        super().__init__()
        self.added = added

    def forward(self, rgb: Tensor) -> Tensor:
        return rgb[:, :1] + self.added[:, None, None]


RGB = np.full((3, 30, 21), 0.5, np.float32)


def test_an_estimate_has_the_images_own_size() -> None:
    estimate = Regressor(Repeat(torch.tensor([0.0, 1.0])), {}).predict(RGB)
    assert estimate.shape == (2, 30, 21)
    np.testing.assert_allclose(estimate[1], 1.5)


def test_noise_is_as_wide_as_the_errors_of_each_band_and_fixed_by_its_seed() -> None:
    model = Noisy(Repeat(torch.tensor([0.0, 1.0])), {}, np.array([0.1, 0.4], np.float32))
    drawn = model.samples(RGB, 20, seed=0)
    assert drawn.shape == (20, 2, 30, 21)
    np.testing.assert_allclose(drawn.std(axis=(0, 2, 3)), [0.1, 0.4], rtol=0.05)
    np.testing.assert_array_equal(drawn, model.samples(RGB, 20, seed=0))
    assert not np.array_equal(drawn, model.samples(RGB, 20, seed=1))


def test_quantiles_are_drawn_at_one_level_for_all_bands_of_a_pixel() -> None:
    steps = torch.linspace(-1.0, 1.0, len(LEVELS))
    model = Quantiles(Repeat(torch.stack([steps, 2.0 * steps], dim=1).flatten()), {})
    np.testing.assert_allclose(model.predict(RGB), 0.5, atol=1e-6)
    drawn = model.samples(RGB, 12, seed=0) - 0.5
    np.testing.assert_allclose(drawn[:, 1], 2.0 * drawn[:, 0], atol=1e-5)
    assert float(np.abs(drawn[:, 0]).max()) == pytest.approx(1.0, abs=1e-6)
    assert float(np.quantile(drawn[:, 0], 0.5)) == pytest.approx(0.0, abs=0.05)
