"""Structural similarity, the energy score and interval widths against naive loops and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from spectile.model.measure.metrics import energy_score, mssim, reliability, rmse_by_band
from spectile.model.measure.scores import cube_scores, reliability_scores


def _ssim_by_loops(truth: np.ndarray, estimate: np.ndarray, peak: float) -> float:
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c_1, c_2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    values = []
    for a, b in zip(truth, estimate, strict=True):
        for row, col in itertools.product(range(a.shape[0] - 10), range(a.shape[1] - 10)):
            x, y = a[row : row + 11, col : col + 11], b[row : row + 11, col : col + 11]
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            cov = (window * (x - mx) * (y - my)).sum()
            values.append((2 * mx * my + c_1) * (2 * cov + c_2) / ((mx**2 + my**2 + c_1) * (vx + vy + c_2)))
    return float(np.mean(values))


def test_structural_similarity_is_that_of_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 900, (2, 14, 13))
    estimate = truth + rng.normal(0, 80, truth.shape)
    valid = torch.ones(14, 13)
    result = mssim(torch.from_numpy(truth), torch.from_numpy(estimate), valid, peak=1000.0)
    assert result == pytest.approx(_ssim_by_loops(truth, estimate, 1000.0), rel=1e-9)
    assert mssim(torch.from_numpy(truth), torch.from_numpy(truth), valid, peak=1000.0) == pytest.approx(1.0)


def test_structural_similarity_ignores_windows_with_a_masked_pixel() -> None:
    rng = np.random.default_rng(1)
    truth = torch.from_numpy(rng.uniform(0, 1, (1, 12, 24)))
    estimate = truth + 0.1
    valid = torch.ones(12, 24)
    whole = mssim(truth[..., 12:], estimate[..., 12:], valid[:, 12:], peak=1.0)
    estimate[0, 5, 3] = torch.nan
    valid[:, :12] = 0
    assert mssim(truth, estimate, valid, peak=1.0) == pytest.approx(whole)
    assert math.isnan(mssim(truth, estimate, torch.zeros(12, 24), peak=1.0))


def test_the_energy_score_is_the_mean_over_pairs_of_different_samples() -> None:
    rng = np.random.default_rng(2)
    truth, samples = rng.normal(size=(3, 2, 2)), rng.normal(size=(4, 3, 2, 2))
    expected = []
    for row, col in itertools.product(range(2), range(2)):
        y, x = truth[:, row, col], samples[:, :, row, col]
        error = np.mean([np.linalg.norm(s - y) for s in x])
        pairs = np.mean([np.linalg.norm(a - b) for a, b in itertools.permutations(x, 2)])
        expected.append(error - pairs / 2)
    result = energy_score(torch.from_numpy(truth), torch.from_numpy(samples), torch.ones(2, 2))
    assert result == pytest.approx(np.mean(expected), rel=1e-9)


def test_the_energy_score_of_one_band_is_the_crps() -> None:
    rng = np.random.default_rng(3)
    truth = torch.from_numpy(rng.normal(size=(1, 5, 5)))
    samples = torch.from_numpy(rng.normal(size=(6, 1, 5, 5)))
    everywhere = torch.ones(5, 5)
    expected = reliability(truth, samples, everywhere).crps
    assert energy_score(truth, samples, everywhere) == pytest.approx(expected, rel=1e-9)


def test_interval_widths_of_normal_samples_are_their_quantiles() -> None:
    samples = torch.from_numpy(np.random.default_rng(4).normal(0, 2.0, (199, 1, 20, 20)))
    result = reliability(torch.zeros(1, 20, 20), samples, torch.ones(20, 20), levels=(50, 90))
    assert result.width[50] == pytest.approx(2 * 0.6745 * 2.0, rel=0.03)
    assert result.width[90] == pytest.approx(2 * 1.6449 * 2.0, rel=0.03)


def test_errors_by_band_are_those_of_each_band_alone() -> None:
    truth = torch.zeros(2, 3, 3)
    estimate = torch.stack([torch.full((3, 3), 0.5), torch.full((3, 3), -2.0)])
    assert rmse_by_band(truth, estimate, torch.ones(3, 3)).tolist() == [0.5, 2.0]


def test_scores_are_means_over_images_and_leave_the_input_bands_out_beside() -> None:
    truth = [np.full((3, 12, 12), 10.0), np.full((3, 12, 12), 10.0)]
    estimate = [np.full((3, 12, 12), 10.0), np.full((3, 12, 12), 10.0)]
    estimate[0][1] += 3.0
    estimate[1][1] += 6.0
    scores = cube_scores(truth, estimate, input_bands=[0], peaks=[100.0, 50.0], offset=1.0)
    assert scores["rmse"] == pytest.approx((math.sqrt(3.0) + math.sqrt(12.0)) / 2)
    assert scores["without_input"]["rmse"] == pytest.approx((math.sqrt(4.5) + math.sqrt(18.0)) / 2)
    assert scores["mrae"] == pytest.approx((1.0 / 11.0 + 2.0 / 11.0) / 2)
    with_peak = scores["without_input"]["mpsnr_at"]
    assert with_peak["100"] - with_peak["50"] == pytest.approx(20 * math.log10(2))
    assert scores["without_input"]["mpsnr"] == with_peak["100"]


def test_reliability_in_strips_is_the_reliability_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    truth, samples = rng.normal(size=(2, 30, 7)), rng.normal(size=(5, 2, 30, 7))
    everywhere = torch.ones(30, 7)
    whole = reliability(torch.from_numpy(truth), torch.from_numpy(samples), everywhere)
    monkeypatch.setattr("spectile.model.measure.scores.PIXELS_AT_ONCE", 70)
    strips = reliability_scores([truth], [samples])
    assert strips["crps"] == pytest.approx(whole.crps)
    assert strips["spread_skill"] == pytest.approx(whole.spread_skill, rel=1e-6)
    assert strips["coverage"]["90"] == pytest.approx(whole.coverage[90])
    expected = energy_score(torch.from_numpy(truth), torch.from_numpy(samples), everywhere)
    assert strips["energy_score"] == pytest.approx(expected)


def test_the_skill_of_strips_where_samples_spread_too_far_is_that_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # In the upper half the samples' mean errs by less than their number alone would make it.
    rng = np.random.default_rng(6)
    truth, samples = np.zeros((2, 20, 7)), rng.normal(size=(5, 2, 20, 7))
    samples[:, :, :10] -= 0.95 * samples[:, :, :10].mean(axis=0)
    monkeypatch.setattr("spectile.model.measure.scores.PIXELS_AT_ONCE", 70)
    assert reliability(
        torch.from_numpy(truth[:, :10]), torch.from_numpy(samples[:, :, :10]), torch.ones(10, 7)
    ).skill == pytest.approx(0.0)
    samples[:, :, 10:] += 3.0
    whole = reliability(torch.from_numpy(truth), torch.from_numpy(samples), torch.ones(20, 7))
    strips = reliability_scores([truth], [samples])
    assert strips["skill"] == pytest.approx(whole.skill, rel=1e-6)
    assert strips["spread_skill"] == pytest.approx(whole.spread_skill, rel=1e-6)
