"""Colour for the eye."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectile.catalog.colour import linear_to_srgb, picture_gain, srgb_bytes, srgb_to_linear, stretch


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
