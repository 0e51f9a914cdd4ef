"""What a cube's arrays hold, in numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spectile.catalog.counts import NODATA
from spectile.pipeline.cube.statistics import add_sums, describe, take_sums
from spectile.pipeline.plan.quality_layers import FLAGS


def test_of_nothing_there_are_no_statistics():
    empty = np.full((2, 4, 4), NODATA, np.uint16)
    full = np.full((2, 4, 4), 7, np.uint16)
    assert describe(take_sums("reflectance", empty))["mean"] == [None, None]
    parts = [{"a": take_sums("reflectance", counts)} for counts in (empty, full)]
    both = describe(add_sums(parts)["a"])
    assert both == {"valid_count": [16, 16], "minimum": [7e-4] * 2, "maximum": [7e-4] * 2,
                    "mean": [7e-4] * 2, "stddev": [0.0] * 2}  # fmt: skip
    assert take_sums("mask", np.ones((2, 2), np.uint8)) is None


@given(
    arrays(np.uint16, (2, 7, 5), elements=st.sampled_from([0, 1, 2, 9999, NODATA - 1, NODATA])),
    st.integers(1, 6),
)
def test_sums_of_parts_are_those_of_the_whole_and_tell_what_numpy_finds(counts, cut):
    whole = take_sums("reflectance", counts)
    parts = [{"a": take_sums("reflectance", part)} for part in (counts[:, :cut], counts[:, cut:])]
    assert add_sums(parts) == {"a": whole}
    told = describe(whole)
    for band, values in enumerate(counts):
        held = values[values != NODATA].astype(np.float64)
        assert told["valid_count"][band] == held.size
        if not held.size:
            assert told["mean"][band] is told["stddev"][band] is told["minimum"][band] is None
            continue
        assert told["minimum"][band] == pytest.approx(held.min() * 1e-4, abs=1e-8)
        assert told["maximum"][band] == pytest.approx(held.max() * 1e-4, abs=1e-8)
        assert told["mean"][band] == pytest.approx(held.mean() * 1e-4, abs=1e-8)
        assert told["stddev"][band] == pytest.approx(held.std() * 1e-4, abs=1e-8)


def test_each_flag_is_counted_by_itself():
    flags = np.array(
        [[FLAGS["nodata"], FLAGS["padded"] | FLAGS["saturated"]], [FLAGS["padded"], 0]], np.uint8
    )
    counted = describe(take_sums("flags", flags))["flag_counts"]
    assert {name: count for name, count in counted.items() if count} == {
        "nodata": 1,
        "padded": 2,
        "saturated": 1,
    }
