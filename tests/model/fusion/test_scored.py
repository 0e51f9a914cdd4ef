"""Scores of methods on pairs whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spectile.catalog.bands import FWHM_PER_SIGMA
from spectile.model.fusion import scored
from spectile.model.fusion.scored import Degradation, KnownPair, cover_of, score_methods, scores_of
from spectile.model.measure.metrics import mssim, uiqi
from tests.model.fusion.scenes import HSI, MSI, RATIO, case


def _known(how: Degradation) -> KnownPair:
    return KnownPair.of(case().truth, HSI, MSI, case().response, how, seed=0)


PLAIN = Degradation.of_width(RATIO, 1.0, (35.0, 40.0))


def test_a_row_has_every_score_and_says_what_the_default_took() -> None:
    rows = score_methods(_known(PLAIN), ["fuse", "fuse:cubic", "fuse:mixture"], clean=None, samples=4, seed=0)
    by_name = {row["method"]: row for row in rows}
    assert by_name["fuse"]["took"] == "mixture"
    assert by_name["fuse:mixture"]["psnr"] > by_name["fuse:cubic"]["psnr"] + 3
    assert 0.5 < by_name["fuse:mixture"]["cover"] <= 1.0
    assert "cover" not in by_name["fuse:cubic"]
    assert all(row["seconds"] > 0 for row in rows)


def test_scores_are_those_of_a_known_error() -> None:
    truth = np.stack([np.full((16, 16), 0.5), np.full((16, 16), 0.25)])
    truth[:, 0, 0] *= 2.0
    found = scores_of(truth, (truth + 0.01).astype(np.float32), 4)
    assert found["psnr"] == pytest.approx((40.0 + 20 * np.log10(0.5 / 0.01)) / 2, abs=1e-3)
    assert found["psnr_at_1"] == pytest.approx(40.0, abs=1e-3)
    assert found["rmse"] == pytest.approx(0.01, rel=1e-4)
    assert PLAIN.psf_sigma == pytest.approx(RATIO / FWHM_PER_SIGMA)


def test_indices_over_windows_do_not_hang_on_how_many_bands_are_taken_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth = case().truth[:5]
    estimate = (truth + 0.02 * np.random.default_rng(0).standard_normal(truth.shape)).astype(np.float32)
    monkeypatch.setattr(scored, "VALUES_AT_ONCE", 2 * truth[0].size)
    found = scores_of(truth, estimate, 4)
    cubes, valid = (torch.from_numpy(truth), torch.from_numpy(estimate)), torch.ones(truth.shape[1:]) > 0
    assert found["ssim"] == pytest.approx(mssim(*cubes, valid, peak=1.0))
    assert found["uiqi"] == pytest.approx(uiqi(*cubes, valid, window=8))


def test_the_cover_is_that_of_mean_and_deviation() -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((3, 20, 20))
    samples = rng.standard_normal((6, 3, 20, 20)).astype(np.float32)
    calibration = np.outer([1.0, -1.2, 1.5], np.ones(3))
    spread = samples.std(axis=0, ddof=1) * np.sqrt(1 + 1 / 6)
    inside = (truth >= samples.mean(axis=0) - 1.2 * spread) & (truth <= samples.mean(axis=0) + 1.5 * spread)
    assert cover_of(truth, iter(samples), calibration) == pytest.approx(inside.mean(), abs=2e-3)


def test_coarse_pixels_that_the_border_darkens_are_masked() -> None:
    published = replace(PLAIN, psf_size=7, psf_phase=0.0, border="zeros")
    known = _known(published)
    assert not known.window.hsi_valid[0].any()
    assert not known.window.hsi_valid[:, 0].any()
    assert known.window.hsi_valid[1:, 1:].all()
    assert _known(replace(published, border="mirrored")).window.hsi_valid.all()
    (row,) = score_methods(known, ["fuse:mixture"], clean=None, samples=1, seed=0)
    (plain,) = score_methods(_known(PLAIN), ["fuse:mixture"], clean=None, samples=1, seed=0)
    # The border of 4 of 64 px knows the sharp scene alone.
    assert row["psnr"] > plain["psnr"] - 1.0
