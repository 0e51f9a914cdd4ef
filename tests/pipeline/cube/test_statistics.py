"""What a cube's arrays hold, in numbers."""

import numpy as np

from spectile.pipeline.cube.statistics import add_sums, describe, take_sums
from spectile.pipeline.plan.counts import NODATA


def test_of_nothing_there_are_no_statistics():
    empty = np.full((2, 4, 4), NODATA, np.uint16)
    full = np.full((2, 4, 4), 7, np.uint16)
    assert describe(take_sums("reflectance", empty))["mean"] == [None, None]
    parts = [{"a": take_sums("reflectance", counts)} for counts in (empty, full)]
    both = describe(add_sums(parts)["a"])
    assert both == {"valid_count": [16, 16], "minimum": [7e-4] * 2, "maximum": [7e-4] * 2,
                    "mean": [7e-4] * 2, "stddev": [0.0] * 2}  # fmt: skip
    assert take_sums("mask", np.ones((2, 2), np.uint8)) is None
