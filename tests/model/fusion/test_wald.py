"""A pair judged by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spectile.model.fusion.estimate import estimate_pair
from spectile.model.fusion.predictor import load_fusion
from spectile.model.fusion.wald import degrade_windows, wald_on_own_pair
from tests.model.fusion.scenes import HSI, MSI, RATIO, SIGMA, batch_of, case, pair_of


def test_degraded_windows_are_as_noisy_as_the_pair_itself() -> None:
    (low,), (truth,), ratio = degrade_windows([case(128).window], pair_of(128), 0)
    assert ratio == RATIO
    assert low.ratio() == RATIO
    np.testing.assert_array_equal(truth.hsi, case(128).window.hsi)
    (other,), _, _ = degrade_windows([case(128).window], pair_of(128), 1)
    apart = (low.hsi - other.hsi).std() / np.sqrt(2)
    assert 0.85 < apart / np.sqrt(np.square(pair_of(128).hsi_noise).mean()) < 1.0


def test_methods_are_scored_and_intervals_hold_most_of_the_truth() -> None:
    known = case(128)
    judged = wald_on_own_pair([known.window], pair_of(128), methods=("cubic", "sylvester", "mixture"))
    assert judged.method == "mixture"
    assert judged.wald["cubic"]["psnr"] < judged.wald["mixture"]["psnr"] - 3.0
    assert set(judged.wald["mixture"]) == {"psnr", "rmse", "sam_deg", "ergas", "uiqi"}
    predictor = load_fusion("fuse:mixture", judged, device="cpu", samples=8)
    drawn = np.stack([one[0] for one in predictor.predict(batch_of(known.window, predictor), range(8))])
    calibration = predictor.calibration
    assert calibration is not None
    middle, spread = drawn.mean(0), drawn.std(0, ddof=1)
    low, high = (
        middle + np.array(side)[:, None, None] * spread for side in (calibration.low, calibration.high)
    )
    assert 0.8 < ((known.truth >= low) & (known.truth <= high)).mean() < 0.99


def test_another_default_needs_enough_pixels_and_a_margin() -> None:
    known, pair = case(128), replace(pair_of(128), method="cubic")
    few = wald_on_own_pair([known.window], pair, methods=("cubic", "linear"))
    assert few.wald["linear"]["psnr"] > few.wald["cubic"]["psnr"] + 1.0
    assert few.method == "cubic"
    enough = wald_on_own_pair([known.window] * 2, pair, methods=("cubic", "linear"))
    assert enough.method == "linear"
    settled = wald_on_own_pair(
        [known.window] * 2, replace(pair, method="linear"), methods=("cubic", "linear")
    )
    assert settled.method == "linear"


def test_windows_that_are_too_small_leave_the_pair_as_it_is() -> None:
    small = case(16)
    pair = estimate_pair([small.window], RATIO, HSI, MSI, response=small.response, psf=SIGMA, scaled=False)
    assert wald_on_own_pair([small.window], pair) is pair


def test_a_smaller_ratio_gives_scores_and_leaves_the_default() -> None:
    known = case(40)
    pair = estimate_pair([known.window], RATIO, HSI, MSI, response=known.response, psf=SIGMA, scaled=False)
    judged = wald_on_own_pair([known.window] * 2, pair, methods=("cubic",))
    assert judged.wald["cubic"]
    assert judged.method == pair.method == "mixture"
