import json
import math
from dataclasses import replace

import pytest

from spectile.catalog.calibration import Calibration
from spectile.catalog.errors import CheckpointError

GIVEN = Calibration(8, spread=(1.5, 0.1 + 0.2), low=(-2.0, -0.1), high=(1.25, 3.0))


def test_a_calibration_comes_back_from_json_to_the_last_bit():
    assert Calibration.from_json(json.loads(json.dumps(GIVEN.to_json(), allow_nan=False))) == GIVEN
    assert len(GIVEN) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"samples": 1}, "samples .got 1"),
        ({"low": (-1.0,)}, "got 2, 1 and 2"),
        ({"spread": (), "low": (), "high": ()}, "got 0, 0 and 0"),
        ({"high": (1.0, math.inf)}, "finite"),
        ({"spread": (math.nan, 1.0)}, "finite"),
        ({"spread": (1.0, 0.0)}, "more than 0"),
        ({"low": (-2.0, 3.0)}, "band 1 .got 3 and 3"),
    ],
)
def test_factors_that_mean_nothing_are_refused(change, told):
    with pytest.raises(CheckpointError, match=told):
        replace(GIVEN, **change)


@pytest.mark.parametrize("value", [{}, None, [], {**GIVEN.to_json(), "low": "ab"}, {"spread": 1}])
def test_what_is_no_calibration_is_one_line(value):
    with pytest.raises(CheckpointError, match="the calibration is damaged"):
        Calibration.from_json(value)
