"""Reflectance and the counts that a cube stores."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spectile.catalog.counts import NODATA
from spectile.pipeline.plan.counts import decode, encode, encode_flat


def test_counts_are_clipped_and_masked():
    values = np.array([[[-0.1, 0.00004, 0.25, 9.0, np.nan]]], np.float32)
    valid = np.array([[True, True, True, True, False]])
    assert encode(values, valid).tolist() == [[[0, 0, 2500, NODATA - 1, NODATA]]]


@given(arrays(np.float32, (2, 3, 4), elements=st.floats(0, 6.5, width=32)), st.booleans())
def test_reflectance_comes_back_to_half_a_count_and_none_as_nan(values, masked):
    valid = np.ones(values.shape[1:], bool)
    valid[1, 2] = not masked
    for dtype in (np.float32, np.float64):
        found = decode(encode(values, valid), dtype)
        assert found.dtype == dtype
        np.testing.assert_array_equal(np.isnan(found).all(axis=0), ~valid)
        np.testing.assert_allclose(found[:, valid], values[:, valid], atol=0.501e-4)


def test_what_is_no_number_in_a_map_is_nodata():
    values = np.array([[0.5, np.nan, 0.25]], np.float32)
    assert encode_flat(values, np.array([[True, True, False]])).tolist() == [[5000, NODATA, NODATA]]
