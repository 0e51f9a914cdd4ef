"""Colour for the eye."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectile.catalog.bands import RGB_CAMERA, SENSORS, VNIR48, Bands, MeasuredBands, resampling_matrix
from spectile.catalog.colour import (
    LEAST_WEIGHT,
    colour_infrared,
    linear_to_srgb,
    picture_gain,
    srgb_bytes,
    srgb_to_linear,
    stretch,
    true_colour,
)


@given(st.floats(0, 1))
def test_srgb_there_and_back_is_the_same(value):
    line = np.array([value], np.float32)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(line)), line, atol=2e-4)


def test_srgb_mid_grey_is_the_standards():
    assert srgb_to_linear(np.float32([118 / 255]))[0] == pytest.approx(0.1812, abs=1e-4)


def test_black_and_white_are_the_ends_of_a_byte():
    assert srgb_bytes(np.float32([-0.1, 0, 1, 2])).tolist() == [0, 0, 255, 255]


def test_a_picture_has_one_gain_and_a_black_one_is_not_brightened_without_end():
    assert picture_gain(np.linspace(0, 0.5, 101)) == pytest.approx(0.9 / 0.495)
    assert picture_gain(np.zeros(4)) == 900
    assert picture_gain(np.empty(0)) == 0.9


def test_the_stretch_leaves_out_the_tails_and_what_is_not_known() -> None:
    values = np.linspace(0, 1, 101, dtype=np.float32).reshape(1, 1, 101)
    assert stretch(values) == pytest.approx((0.02, 0.98))
    assert stretch(np.append(values, np.nan)) == pytest.approx((0.02, 0.98))
    assert stretch(np.full((1, 2, 2), np.nan, np.float32)) is None
    low, high = stretch(np.ones((1, 2, 2), np.float32)) or (0, 0)
    assert high > low


NM = np.arange(400.0, 701.0, 5.0)
MEASURED = MeasuredBands.from_curves(
    NM, [np.exp(-(((NM - nm) / width) ** 2)) for nm, width in ((600, 40), (540, 45), (465, 20))]
)


@pytest.mark.parametrize("response", [RGB_CAMERA, SENSORS["worldview3"], MEASURED], ids=str)
@pytest.mark.parametrize(
    "bands", [VNIR48, SENSORS["pavia_centre"], Bands.evenly_spaced(400, 2500, 425)], ids=str
)
def test_true_colour_is_what_the_camera_sees(bands: Bands, response: Bands) -> None:
    found = true_colour(bands, response)
    matrix, _ = resampling_matrix(bands, response)
    assert found.covered
    spectra = np.random.default_rng(0).uniform(0.1, 0.3, (len(bands), 6)).astype(np.float32)
    some = spectra[list(found.bands)]
    np.testing.assert_allclose(found.of(some), matrix @ spectra, rtol=0.01)  # the tails are cut
    weights = np.array(found.weights)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert weights[weights > 0].min() > LEAST_WEIGHT * 0.9 * weights.max(axis=1).min()
    assert np.ptp(np.asarray(bands.centre_nm)[list(found.bands)]) < 400
    grey = np.full((len(some), 1), 0.2, np.float32)
    np.testing.assert_allclose(found.of(grey), 0.2, rtol=1e-6)
    some[0, 0] = np.nan
    assert np.isnan(found.of(some)[:, 0]).any()


def test_channels_without_colour_or_bands_have_stand_ins() -> None:
    for response in (SENSORS["sentinel2_msi"], Bands((860.0, 650.0, 550.0), (40.0,) * 3)):
        assert true_colour(VNIR48, response) == true_colour(VNIR48)
    infrared = true_colour(Bands.evenly_spaced(900, 1000, 6))
    assert (infrared.bands, infrared.covered) == ((0,), False)
    found = colour_infrared(VNIR48)
    assert [VNIR48.centre_nm[band] for band in found.heaviest] == pytest.approx(
        [864.7, 650.9, 551.1], abs=0.1
    )
    assert found.covered
    assert not colour_infrared(SENSORS["pavia_centre"].subset(range(60))).covered
    values = np.float32([1, 2, 3])
    assert found.of(values).tolist() == [3, 2, 1]
