"""Response, gain, offset, noise and changes against what a pair was made with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spectile.catalog.bands import Bands
from spectile.catalog.errors import SceneError
from spectile.model.fusion.radiometry import (
    compare,
    distance,
    fit_radiometry,
    msi_noise,
    noise_on_coarse,
    roughness,
    table_response,
    usual_difference,
)
from spectile.model.fusion.subspace import find_subspace
from tests.model.fusion.scenes import HSI, MSI, RATIO, SIGMA, case

GAIN, OFFSET = np.array([1.1, 0.9, 1.0, 1.2]), np.array([0.02, 0.0, -0.01, 0.01])


def _seen_with_gain():
    window = case().window
    msi = window.msi * GAIN[:, None, None].astype(np.float32) + OFFSET[:, None, None].astype(np.float32)
    return compare([replace(window, msi=msi)], RATIO, SIGMA)


def _subspace(noise):
    return find_subspace(case().window.hsi.reshape(len(HSI), -1).astype(np.float64), noise)


def test_gain_and_offset_are_found_in_spite_of_changed_pixels() -> None:
    pixels = _seen_with_gain()
    pixels.msi[:, :12] += 0.3
    noise = np.full(len(HSI), case().noise[0])
    found = fit_radiometry(pixels, _subspace(noise), noise, table=case().response, scaled=True, fitted=False)
    np.testing.assert_allclose(found.gain, GAIN, rtol=0.03)
    np.testing.assert_allclose(found.offset, OFFSET, atol=0.008)


def test_a_response_is_learned_that_tells_the_averages() -> None:
    pixels = _seen_with_gain()
    noise = np.full(len(HSI), case().noise[0])
    found = fit_radiometry(pixels, _subspace(noise), noise, table=None, scaled=True, fitted=True)
    left = found.left(pixels.hsi, pixels.msi)
    assert (left.std(axis=1) < 0.15 * pixels.msi.std(axis=1)).all()
    np.testing.assert_allclose(left.mean(axis=1), 0.0, atol=1e-3)


def test_a_wrong_table_gives_way_to_what_the_pair_tells() -> None:
    pixels = _seen_with_gain()
    noise = np.full(len(HSI), case().noise[0])
    wrong = np.roll(case().response, 5, axis=1)
    found = fit_radiometry(pixels, _subspace(noise), noise, table=wrong, scaled=True, fitted=True)
    assert not np.array_equal(found.response, wrong)
    right = fit_radiometry(pixels, _subspace(noise), noise, table=wrong, scaled=False, fitted=False)
    np.testing.assert_array_equal(right.response, wrong)
    np.testing.assert_array_equal(right.gain, 1.0)


def test_white_noise_of_the_sharp_scene_is_found() -> None:
    np.testing.assert_allclose(msi_noise([case().window]), case().noise[1], rtol=0.35)


def test_the_difference_has_the_size_that_noise_and_contrast_give() -> None:
    generator = np.random.default_rng(0)
    contrast = generator.random((3, 4000)) * 1e-2
    level = np.array([0.01, 0.02, 0.015])
    slope = 0.02 / 3
    uneven = np.sqrt(1.0 + slope * (contrast / level[:, None] ** 2).sum(axis=0))
    left = level[:, None] * uneven * generator.standard_normal((3, 4000))
    left[:, :100] += 1.0
    found = usual_difference(left, contrast, np.full(3, 1e-6))
    np.testing.assert_allclose(np.sqrt(np.diag(found.covariance)), level, rtol=0.15)
    normal = 1.0 + found.slope * roughness(contrast, found.covariance)
    far = distance(left, found.covariance) / normal
    assert (far[:100] > 100).all()
    assert np.median(far[100:]) == pytest.approx(2.37, rel=0.15)  # of chi-squared with 3 degrees of freedom


def test_the_noise_of_averages_is_that_of_draws() -> None:
    window, (own, sharp) = case().window, case().noise
    pixels = compare([window], RATIO, SIGMA)
    expected = noise_on_coarse(
        RATIO, SIGMA, case().response, np.ones(4), np.full(len(HSI), own), np.full(4, sharp)
    )
    left = pixels.msi - case().response @ pixels.hsi
    np.testing.assert_allclose(left.var(axis=1), expected, rtol=0.3)


def test_bands_that_the_coarse_scene_does_not_cover_are_named() -> None:
    with pytest.raises(SceneError, match="2200 nm"):
        table_response(HSI, Bands((665.0, 2200.0), (40.0, 100.0)))
    assert table_response(HSI, MSI).shape == (4, len(HSI))


def test_scenes_without_shared_pixels_are_refused() -> None:
    window = case().window
    with pytest.raises(SceneError, match="too few valid pixels"):
        compare([replace(window, hsi_valid=np.zeros_like(window.hsi_valid))], RATIO, SIGMA)
