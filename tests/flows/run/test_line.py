"""The settings of a line, from the plan of its cube."""

import pytest

from spectile.flows.run.line import radiometry_option
from spectile.pipeline.scene.radiometry import declare


@pytest.mark.parametrize("peak", ["255", "4095", "1.0", "0.3", "219.7"])
def test_the_option_of_a_plan_declares_the_plan_s_radiometry_again(peak):
    plain = {"offsets": (0.0,) * 3, "scales": (1.0,) * 3, "where": "s.tif", "dtype": "float32"}
    first, _ = declare(f"display/{peak}:0.6", **plain)
    again, _ = declare(radiometry_option(first.to_json()), **plain)
    assert again == first
