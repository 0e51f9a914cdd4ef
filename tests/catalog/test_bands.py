import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectile.catalog.bands import (
    PAVIA_CENTRE,
    RGB_CAMERA,
    SENSORS,
    VNIR48,
    Bands,
    MeasuredBands,
    NearestBands,
    coarse_indices,
    resampling_matrix,
)
from spectile.catalog.errors import UsageError

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


def _measured(bands=RGB_CAMERA) -> MeasuredBands:
    """A sensor's Gaussians as curves."""
    nm = np.arange(300.0, 800.0)
    sigma = np.asarray(bands.fwhm_nm)[:, None] / 2.3548
    return MeasuredBands.from_curves(
        nm, np.exp(-0.5 * ((nm - np.asarray(bands.centre_nm)[:, None]) / sigma) ** 2)
    )


def test_curves_of_gaussian_shape_act_as_gaussians():
    for source in (VNIR48, NEON_LIKE):
        curves, supported = resampling_matrix(source, _measured())
        gaussians, _ = resampling_matrix(source, RGB_CAMERA)
        assert supported.all()
        np.testing.assert_allclose(curves.sum(axis=1), 1.0)
        np.testing.assert_allclose(curves, gaussians, atol=0.01)


def test_curves_are_used_as_curves():
    nm = np.arange(400.0, 701.0)
    two_peaks = (np.abs(nm - 450) < 5) | (np.abs(nm - 650) < 5)
    matrix, _ = resampling_matrix(NEON_LIKE, MeasuredBands.from_curves(nm, two_peaks[None].astype(float)))
    centre = np.asarray(NEON_LIKE.centre_nm)
    assert matrix[0, np.abs(centre - 550) < 80].sum() == 0.0
    assert matrix[0, np.abs(centre - 650) < 20].sum() == pytest.approx(0.5, abs=0.01)


def test_a_curve_is_supported_where_nearly_all_of_it_is_seen():
    assert not resampling_matrix(Bands.evenly_spaced(480, 900, 60), _measured())[1][2]
    assert resampling_matrix(Bands.evenly_spaced(400, 900, 60), _measured())[1].all()
    gap = Bands.from_arrays([*range(400, 500, 5), *range(600, 700, 5)], [5.0] * 40)
    assert resampling_matrix(gap, _measured())[1].tolist() == [False, False, True]


def test_nearest_bands_take_single_bands():
    matrix, supported = resampling_matrix(VNIR48, NearestBands((640.0, 550.0, 1500.0), (1.0,) * 3))
    assert supported.tolist() == [True, True, False]
    assert [int(row.argmax()) for row in matrix[:2]] == [VNIR48.nearest(640), VNIR48.nearest(550)]
    assert matrix.sum() == 2.0


@pytest.mark.parametrize(
    "bands", [RGB_CAMERA, _measured(), NearestBands(*VNIR48.subset([20, 10, 5]).to_json().values())]
)
def test_every_kind_of_band_moves_and_survives_json(bands):
    moved = bands.varied([5.0, 0.0, -5.0], [1.0, 1.2, 1.0])
    assert type(moved) is type(bands)
    assert np.subtract(moved.centre_nm, bands.centre_nm) == pytest.approx([5, 0, -5], abs=0.2)
    grown = 1.0 if isinstance(bands, NearestBands) else 1.2
    assert np.divide(moved.fwhm_nm, bands.fwhm_nm) == pytest.approx([1, grown, 1], rel=0.02)
    again = Bands.from_json(json.loads(json.dumps(bands.to_json())))
    assert type(again) is type(bands)
    np.testing.assert_array_equal(resampling_matrix(VNIR48, again)[0], resampling_matrix(VNIR48, bands)[0])


def test_satellites_have_red_green_and_blue_in_that_order():
    for name in ("worldview3", "ikonos", "quickbird", "sentinel2"):
        red, green, blue = SENSORS[name].centre_nm
        assert 640 < red < 680 > 570 > green > 530 > 500 > blue > 470


@pytest.mark.parametrize(
    ("nm", "curve"),
    [([500, 400], [1, 1]), ([400, 500], [0, 0]), ([400, 500], [1, -1]), ([400, 500], [1, np.nan])],
)
def test_curves_without_sense_are_refused(nm, curve):
    with pytest.raises(UsageError):
        MeasuredBands.from_curves(nm, [curve])


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("500", [1]), ("496,604", [1, 2]), ("450-700", [1, 2, 3]), ("B004,B1", [3, 0]),
        ("700, 400-600 ,B002", [3, 0, 1, 2]), ("500.0-500", [1]),
    ],
)  # fmt: skip
def test_bands_are_chosen_by_wavelength_range_and_name(text, positions):
    bands = Bands((400.0, 500.0, 600.0, 700.0), (10.0, 10.0, 10.0, 10.0))
    assert bands.choose(text) == tuple(positions)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("511", "no band at 511 nm .*nearest at 500 nm"), ("410-490", "no such band .*410-490"),
        ("600-450", "no such band"), ("B000", "no such band"), ("B005", "4 bands from 400 to 700 nm"),
        ("", "not a list"), ("500,", "not a list"), ("red", "not a list"), ("-500", "not a list"),
    ],
)  # fmt: skip
def test_bands_that_are_not_there_are_refused(text, error):
    with pytest.raises(UsageError, match=error):
        Bands((400.0, 500.0, 600.0, 700.0), (10.0, 10.0, 10.0, 10.0)).choose(text)


@pytest.mark.parametrize("count", [1, 0, -3])
def test_less_than_two_bands_have_no_spacing(count):
    with pytest.raises(UsageError, match="spacing"):
        Bands.evenly_spaced(400.0, 700.0, count)
