"""Metrics against values worked out by hand or by another formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spectile.model.measure.metrics import (
    band_peaks,
    ergas,
    mpsnr,
    mrae,
    reliability,
    residual_structure,
    rmse,
    spectral_angle,
    uiqi,
)

ALL = torch.ones(4, 4, dtype=torch.bool)


def _cube(*spectrum: float) -> torch.Tensor:
    return torch.tensor(spectrum, dtype=torch.float64)[:, None, None].expand(-1, 4, 4).clone()


def test_rmse_counts_only_valid_pixels() -> None:
    truth, estimate = _cube(0.2, 0.4), _cube(0.2, 0.4)
    estimate[:, 0, 0] = 9.0
    valid = ALL.clone()
    valid[0, 0] = False
    assert rmse(truth, estimate, valid) == 0.0
    assert rmse(truth, estimate, ALL) > 2.0


def test_the_spectral_angle_ignores_brightness_and_counts_zero_spectra() -> None:
    truth = _cube(0.3, 0.4)
    truth[:, 1, 1] = 0.0
    result = spectral_angle(truth, 3.0 * _cube(0.3, 0.4), ALL)
    assert result.radians == pytest.approx(0.0, abs=1e-7)
    assert result.zero_spectra == 1


@settings(deadline=None, max_examples=30)
@given(st.floats(1e-4, math.pi / 2))
def test_the_spectral_angle_between_two_directions_is_their_angle(angle: float) -> None:
    estimate = _cube(math.cos(angle), math.sin(angle))
    assert spectral_angle(_cube(1.0, 0.0), estimate, ALL).radians == pytest.approx(angle, rel=1e-9)


def test_mrae_divides_by_the_reference_plus_one_count() -> None:
    assert mrae(_cube(0.1, 0.0), _cube(0.2, 0.1), ALL, offset=0.1) == pytest.approx(
        (0.1 / 0.2 + 0.1 / 0.1) / 2
    )


def test_mpsnr_is_the_mean_over_bands_at_the_given_peak() -> None:
    expected = (10 * math.log10(4 / 0.01) + 10 * math.log10(4 / 0.04)) / 2
    assert mpsnr(_cube(0.0, 0.0), _cube(0.1, 0.2), ALL, peak=2.0) == pytest.approx(expected, rel=1e-5)


def test_ergas_is_relative_to_each_bands_mean_and_to_the_ratio() -> None:
    expected = 100 / 4 * math.sqrt((0.1**2 + 0.25**2) / 2)
    assert ergas(_cube(1.0, 0.4), _cube(1.1, 0.5), ALL, ratio=4.0) == pytest.approx(expected, rel=1e-5)


def test_exchangeable_samples_have_spread_equal_to_skill_and_cover_as_stated() -> None:
    rng = np.random.default_rng(0)
    drawn = torch.from_numpy(rng.normal(0.5, 0.1, (21, 3, 60, 60)))
    result = reliability(drawn[0], drawn[1:], torch.ones(60, 60))
    assert result.spread == pytest.approx(0.1, rel=0.01)
    assert result.spread_skill == pytest.approx(1.0, abs=0.03)
    for level, share in result.coverage.items():
        assert share == pytest.approx(level / 100, abs=0.02)
    # The CRPS of a normal forecast of its own law is sd / √π.
    assert result.crps == pytest.approx(0.1 / math.sqrt(math.pi), rel=0.02)


def test_samples_that_are_too_sure_have_a_spread_below_their_error() -> None:
    rng = np.random.default_rng(1)
    truth = torch.from_numpy(rng.normal(0.5, 0.1, (3, 50, 50)))
    samples = torch.from_numpy(rng.normal(0.5, 0.03, (8, 3, 50, 50)))
    assert reliability(truth, samples, torch.ones(50, 50)).spread_skill == pytest.approx(0.3, abs=0.03)


def test_fair_crps_is_the_mean_over_pairs_of_different_samples() -> None:
    samples = torch.tensor([0.1, 0.4, 0.7])[:, None, None, None]
    truth = torch.full((1, 1, 1), 0.2)
    pairs = (0.3 + 0.6 + 0.3) * 2 / (3 * 2)
    expected = (0.1 + 0.2 + 0.5) / 3 - pairs / 2
    assert reliability(truth, samples, torch.ones(1, 1)).crps == pytest.approx(expected, abs=1e-6)


def test_samples_of_the_truths_own_law_have_its_structure() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(4, 4, generator=generator)

    def draw(count: int) -> torch.Tensor:
        white = torch.randn(count, 4, 67, 64, generator=generator)
        smooth = white.unfold(2, 4, 1).mean(-1)  # correlated over 4 rows
        return torch.einsum("ab,kbhw->kahw", mixing, smooth)

    valid = torch.ones(64, 64)
    alike = residual_structure(draw(1)[0], draw(12), valid)
    assert all(ratio == pytest.approx(1.0, abs=0.1) for ratio in alike.variogram.values())
    assert alike.spectral_covariance < 0.15
    rough = residual_structure(draw(1)[0], torch.randn(12, 4, 64, 64, generator=generator), valid)
    assert rough.variogram[1] / rough.variogram[8] > 1.2
    assert rough.spectral_covariance > 0.5


def test_masked_pixels_do_not_enter_the_structure() -> None:
    truth, samples = torch.randn(3, 16, 16), torch.randn(4, 3, 16, 16)
    valid = torch.ones(16, 16)
    valid[:, :4] = 0.0
    changed = truth.clone()
    changed[:, :, :4] = 99.0
    assert residual_structure(truth, samples, valid) == residual_structure(changed, samples, valid)


def test_the_peak_of_psnr_may_be_each_bands_own() -> None:
    truth = _cube(0.5, 2.0)
    estimate = truth + torch.tensor([0.05, 0.2])[:, None, None]
    assert mpsnr(truth, estimate, ALL, peak=band_peaks(truth, ALL)) == pytest.approx(20.0)


def test_uiqi_is_the_formula_over_every_window_and_leaves_masked_ones_out() -> None:
    generator = torch.Generator().manual_seed(0)
    truth, estimate = (torch.rand((2, 9, 9), generator=generator, dtype=torch.float64) for _ in range(2))
    valid = torch.ones(9, 9, dtype=torch.bool)
    valid[0, 0] = False
    found = []
    for band in range(2):
        for row in range(2):
            for col in range(2):
                if (row, col) == (0, 0):
                    continue
                a, b = (cube[band, row : row + 8, col : col + 8].flatten() for cube in (truth, estimate))
                joint = ((a - a.mean()) * (b - b.mean())).mean()
                level, spread = a.mean() ** 2 + b.mean() ** 2, a.var(correction=0) + b.var(correction=0)
                found.append(float(4.0 * joint * a.mean() * b.mean() / (level * spread)))
    estimate[:, 0, 0] = math.nan
    assert uiqi(truth, estimate, valid, window=8) == pytest.approx(sum(found) / len(found))
    assert uiqi(truth, truth, valid, window=8) == pytest.approx(1.0)
    assert math.isnan(uiqi(truth, truth, valid, window=10))
    even = torch.full((1, 8, 8), 0.5, dtype=torch.float64)
    assert uiqi(even, even, torch.ones(8, 8, dtype=torch.bool), window=8) == pytest.approx(1.0)
