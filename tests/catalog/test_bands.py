import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.bands import PAVIA_CENTRE, RGB_CAMERA, VNIR48, Bands, coarse_indices, resampling_matrix
from catalog.errors import UsageError

NEON_LIKE = Bands.evenly_spaced(383.5, 2512.0, 426)


@given(st.floats(0.01, 1.0), st.sampled_from([VNIR48, RGB_CAMERA, PAVIA_CENTRE]))
def test_a_flat_spectrum_stays_flat_in_any_bands(level, target):
    matrix, supported = resampling_matrix(NEON_LIKE, target)
    np.testing.assert_allclose((matrix @ np.full(426, level))[supported], level)
    assert (matrix >= 0).all()


def test_a_line_keeps_its_slope_away_from_the_ends():
    matrix, _ = resampling_matrix(NEON_LIKE, VNIR48)
    seen = matrix @ np.asarray(NEON_LIKE.centre_nm)
    np.testing.assert_allclose(seen[3:-3], np.asarray(VNIR48.centre_nm)[3:-3], atol=0.5)


def test_bands_beyond_the_source_or_in_its_gaps_are_not_supported():
    visible = Bands.evenly_spaced(400, 700, 31)
    _, supported = resampling_matrix(visible, VNIR48)
    centre = np.asarray(VNIR48.centre_nm)
    np.testing.assert_array_equal(supported, (centre >= 390) & (centre <= 710))
    gap = Bands.from_arrays([*range(400, 500, 10), *range(600, 700, 10)], [10.0] * 20)
    assert not resampling_matrix(gap, Bands((550.0,), (10.0,)))[1].any()


def test_the_order_of_the_source_does_not_matter():
    order = np.random.default_rng(0).permutation(48)
    straight, _ = resampling_matrix(VNIR48, RGB_CAMERA)
    mixed, _ = resampling_matrix(VNIR48.subset(order), RGB_CAMERA)
    np.testing.assert_allclose(mixed, straight[:, order])


@pytest.mark.parametrize(("count", "coarse", "last"), [(48, 12, 44), (102, 17, 96)])
def test_coarse_bands_are_those_of_the_paper(count, coarse, last):
    positions = coarse_indices(count, coarse)
    assert len(positions) == coarse
    assert positions[0] == 0
    assert positions[-1] == last
    assert len(set(np.diff(positions))) == 1


def test_bands_survive_json_and_find_the_nearest():
    assert Bands.from_json(VNIR48.to_json()) == VNIR48
    assert VNIR48.centre_nm[VNIR48.nearest(860)] == pytest.approx(860, abs=7.2)


@pytest.mark.parametrize(
    ("centre", "fwhm"), [((), ()), ((500.0,), ()), ((float("nan"),), (10.0,)), ((500.0,), (0.0,))]
)
def test_bands_without_sense_are_refused(centre, fwhm):
    with pytest.raises(UsageError):
        Bands(centre, fwhm)


def test_more_coarse_bands_than_bands_are_refused():
    with pytest.raises(UsageError, match="got 60"):
        coarse_indices(48, 60)
