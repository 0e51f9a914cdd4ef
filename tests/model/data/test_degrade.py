"""Degraded pairs against sums written out, and what the geometry promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectile.catalog.errors import UsageError
from spectile.model.data.degrade import coarsen, degrade, noise_of, project, sampling_matrix, taps


@given(st.integers(1, 9), st.floats(0.3, 8.0))
@settings(deadline=None, max_examples=40)
def test_weights_are_symmetric_about_the_middle_of_the_coarse_pixel(ratio: int, sigma: float) -> None:
    first, weight = taps(ratio, sigma)
    at = first + np.arange(len(weight))
    assert weight.sum() == pytest.approx(1.0)
    assert weight @ at == pytest.approx((ratio - 1) / 2, abs=1e-9)
    np.testing.assert_allclose(weight, weight[::-1], atol=1e-12)


def test_a_wide_gaussian_has_the_variance_that_it_is_asked_for() -> None:
    first, weight = taps(8, 3.4)
    at = first + np.arange(len(weight)) - 3.5
    assert np.sqrt(weight @ at**2) == pytest.approx(3.4, rel=2e-3)


def test_no_width_takes_the_pixels_at_the_centre() -> None:
    assert taps(4, 0.0)[0] == 1
    np.testing.assert_allclose(taps(4, 0.0)[1], [0.5, 0.5])
    np.testing.assert_allclose(taps(3, 0.0)[1], [1.0])


def test_the_published_protocol_has_fifteen_taps_about_the_first_pixel() -> None:
    first, weight = taps(8, 3.4, size=15, phase=0.0)
    assert (first, len(weight)) == (-7, 15)


def test_coarse_pixels_are_the_sums_that_they_should_be() -> None:
    cube = np.random.default_rng(0).random((2, 12, 8))
    first, weight = taps(4, 1.5)
    padded = np.pad(cube, ((0, 0), (12, 12), (8, 8)), mode="symmetric")
    expected = np.zeros((2, 3, 2))
    for i in range(3):
        for j in range(2):
            for a, one in enumerate(weight):
                for b, other in enumerate(weight):
                    expected[:, i, j] += (
                        one * other * padded[:, 12 + 4 * i + first + a, 8 + 4 * j + first + b]
                    )
    np.testing.assert_allclose(coarsen(cube, 4, (1.5, 1.5)), expected, rtol=1e-12)


def test_an_even_scene_stays_even_up_to_its_borders() -> None:
    assert sampling_matrix(3, 4, 2.0).sum(axis=1) == pytest.approx(np.ones(3))
    np.testing.assert_allclose(coarsen(np.ones((1, 8, 8), np.float32), 4, (9.0, 2.0)), 1.0, rtol=1e-6)


def test_the_projection_applies_gain_and_offset() -> None:
    cube = np.arange(6, dtype=np.float64).reshape(2, 1, 3)
    seen = project(cube, [[0.5, 0.5]], gain=[2.0], offset=[0.25])
    np.testing.assert_allclose(seen, [[[3.25, 5.25, 7.25]]])


def test_noise_has_the_asked_level_and_hangs_on_the_seed_alone() -> None:
    cube = np.full((3, 64, 64), 0.5)
    pair = degrade(cube, 4, (1.7, 1.7), np.full((1, 3), 1 / 3), snr_db=(20.0, 40.0), seed=3)
    assert pair.hsi_noise == pytest.approx(0.05)
    assert pair.msi_noise == pytest.approx(0.005)
    assert (pair.hsi - 0.5).std() == pytest.approx(0.05, rel=0.1)
    again = degrade(cube, 4, (1.7, 1.7), np.full((1, 3), 1 / 3), snr_db=(20.0, 40.0), seed=3)
    np.testing.assert_array_equal(pair.msi, again.msi)
    clean = degrade(cube, 4, (1.7, 1.7), np.full((1, 3), 1 / 3), snr_db=None, seed=3)
    assert (clean.hsi_noise, clean.msi_noise) == (0.0, 0.0)
    assert noise_of(cube, 0.0) == pytest.approx(0.5)


def test_a_cube_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match="no whole number of coarse pixels"):
        coarsen(np.ones((1, 9, 8)), 4, (1.0, 1.0))
    with pytest.raises(UsageError, match="a PSF needs"):
        taps(4, -1.0)


def test_zeros_beyond_the_border_darken_the_pixels_whose_psf_reaches_there() -> None:
    share = coarsen(np.ones((1, 32, 32)), 8, (3.4, 3.4), size=15, phase=0.0, border="zeros")[0]
    first, weight = taps(8, 3.4, size=15, phase=0.0)
    inside = weight[-first:].sum()
    expected = np.full((4, 4), 1.0)
    expected[0] *= inside
    expected[:, 0] *= inside
    np.testing.assert_allclose(share, expected, atol=1e-12)
