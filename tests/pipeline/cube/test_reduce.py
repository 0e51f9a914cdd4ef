"""Four pixels as one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spectile.catalog.counts import NODATA
from spectile.pipeline.cube.reduce import reduce_counts, reduce_flat
from spectile.pipeline.plan.quality_layers import FLAGS


def by_pixel(counts: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coarse counts and validity, pixel by pixel with whole numbers."""
    bands, rows, cols = counts.shape
    coarse = np.full((bands, -(-rows // 2), -(-cols // 2)), NODATA, np.uint16)
    held = np.zeros(coarse.shape[1:], np.uint8)
    for row, col in np.ndindex(held.shape):
        at = slice(2 * row, 2 * row + 2), slice(2 * col, 2 * col + 2)
        inside = valid[at] > 0
        if inside.any():
            held[row, col] = 1
            for band in range(bands):
                values = [int(value) for value in counts[band][at][inside]]
                whole, rest = divmod(sum(values), len(values))
                up = 2 * rest > len(values) or (2 * rest == len(values) and whole % 2 == 1)
                coarse[band, row, col] = whole + up
    return coarse, held


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
        lambda shape: st.tuples(
            arrays(np.uint16, (2, *shape), elements=st.integers(0, NODATA - 1)),
            arrays(np.uint8, shape, elements=st.integers(0, 1)),
        )
    )
)
def test_means_are_exact_and_of_the_valid_pixels_alone(case):
    counts, valid = case
    stored = np.where(valid > 0, counts, NODATA).astype(np.uint16)
    expected, held = by_pixel(stored, valid)
    np.testing.assert_array_equal(reduce_counts(stored, valid), expected)
    np.testing.assert_array_equal(reduce_flat("mask", valid), held)


def test_a_coarse_pixel_is_from_the_first_scene_under_it():
    source = np.array([[0, 3, 0], [2, 3, 0], [0, 0, 5]], np.uint16)
    assert reduce_flat("scene", source).tolist() == [[3, 0], [0, 5]]


def test_a_coarse_pixel_has_every_flag_below_it_and_nodata_only_where_all_have():
    nodata, padded, saturated = (FLAGS[name] for name in ("nodata", "padded", "saturated"))
    flags = np.array([[nodata, padded, nodata], [saturated, nodata, nodata]], np.uint8)
    assert reduce_flat("flags", flags).tolist() == [[padded | saturated, nodata]]
