"""The factors of each band are the quantiles of errors in units of the samples' deviation."""

from __future__ import annotations

import pytest
import torch

from spectile.model.closed.factors import NORMAL, fit_factors


def test_factors_are_the_quantiles_of_the_standardised_errors() -> None:
    generator = torch.Generator().manual_seed(0)
    deviations = torch.rand(3, 2, 100, 100, generator=generator) + 0.1
    errors = 2.0 * deviations * torch.randn(3, 2, 100, 100, generator=generator)
    counted = torch.ones(3, 2, 100, 100, dtype=torch.bool)
    counted[:, 1] = False
    found = fit_factors(errors, deviations, counted, samples=16)
    assert found.samples == 16
    assert found.spread[0] == pytest.approx(2.0, rel=0.05)
    assert found.low[0] == pytest.approx(2.0 * NORMAL[1], rel=0.05)
    assert found.high[0] == pytest.approx(2.0 * NORMAL[2], rel=0.05)
    assert (found.spread[1], found.low[1], found.high[1]) == NORMAL


def test_factors_count_values_by_their_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    errors = torch.randn(2, 1, 80, 80, generator=generator)
    errors[1] *= 5.0
    counts = torch.ones(2, 1, 80, 80)
    counts[1, :, 8:] = 0.0
    light = fit_factors(errors, torch.ones_like(errors), counts, samples=16)
    counts[1] *= 10.0
    even = fit_factors(errors, torch.ones_like(errors), counts, samples=16)
    assert light.spread[0] ** 2 == pytest.approx((1 + 0.1 * 25) / 1.1, rel=0.1)
    assert even.spread[0] ** 2 == pytest.approx(13.0, rel=0.1)
    assert even.high[0] > 1.5 * light.high[0]
