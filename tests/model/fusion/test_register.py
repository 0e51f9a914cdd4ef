"""Shift and PSF against those that were put in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import shift as moved

from spectile.catalog.errors import SceneError
from spectile.model.data.degrade import degrade
from spectile.model.fusion.pair import PairWindow
from spectile.model.fusion.register import default_psf, estimate_psf, estimate_shift, psf_of_mtf
from tests.model.fusion.scenes import RATIO, SIGMA, case


def _moved(down: float, right: float) -> PairWindow:
    window = case(128).window
    msi = np.stack([moved(band, (down, right), order=3, mode="nearest") for band in window.msi])
    return replace(window, msi=msi)


@pytest.mark.parametrize("put_in", [(0.0, 0.0), (1.3, -2.6), (-9.45, 6.2)])
def test_a_shift_is_found_to_a_tenth_of_a_fine_pixel(put_in: tuple[float, float]) -> None:
    window = _moved(*put_in)
    # Without a response the first one is learned across the shift, which must be small for that.
    known = case(128).response
    for response in (known, None) if max(map(abs, put_in)) < RATIO else (known,):
        found, field = estimate_shift([window], RATIO, response, psf=SIGMA)
        np.testing.assert_allclose(found, put_in, atol=0.1)
        assert len(field) == 4
        np.testing.assert_allclose(field[:, 2:], np.broadcast_to(put_in, (4, 2)), atol=0.25)
    # The places lie on the fine grid, at the middles of a quarter each.
    np.testing.assert_array_equal(sorted(set(field[:, 0])), [32.0, 96.0])


def test_masked_pixels_have_no_part_in_it() -> None:
    window = _moved(1.3, -2.6)
    msi, valid = window.msi.copy(), window.msi_valid.copy()
    msi[:, 20:60, 30:70], valid[20:60, 30:70] = np.nan, False
    found, _ = estimate_shift(
        [replace(window, msi=msi, msi_valid=valid)], RATIO, case(128).response, psf=SIGMA
    )
    np.testing.assert_allclose(found, (1.3, -2.6), atol=0.1)


def test_scenes_of_different_places_are_refused() -> None:
    window, other = case(128).window, case(128, 7).window
    with pytest.raises(SceneError, match="do not show the same place"):
        estimate_shift([replace(window, msi=other.msi)], RATIO, case(128).response, psf=SIGMA)


def test_the_width_of_the_psf_is_found_along_both_axes() -> None:
    known, sigma = case(128), (1.3, 2.2)
    seen = degrade(known.truth, RATIO, sigma, known.response, snr_db=(35.0, 40.0), seed=1)
    window = replace(known.window, hsi=seen.hsi.astype(np.float32), msi=seen.msi.astype(np.float32))
    np.testing.assert_allclose(estimate_psf([window], RATIO, known.response), sigma, rtol=0.05)


def test_the_psf_follows_from_the_mtf_at_nyquist() -> None:
    # A Gaussian's transfer at half a cycle a coarse pixel.
    rows, cols = psf_of_mtf(8, (0.25, 0.16))
    assert np.exp(-2 * (np.pi * rows / 16) ** 2) == pytest.approx(0.25)
    assert cols > rows > default_psf(8)[0]
    with pytest.raises(SceneError, match="MTF"):
        psf_of_mtf(8, (1.0, 0.2))
