"""Reflectance and the counts that a cube stores."""

import numpy as np

from spectile.pipeline.plan.counts import NODATA, encode


def test_counts_are_clipped_and_masked():
    values = np.array([[[-0.1, 0.00004, 0.25, 9.0, np.nan]]], np.float32)
    valid = np.array([[True, True, True, True, False]])
    assert encode(values, valid).tolist() == [[[0, 0, 2500, NODATA - 1, NODATA]]]
