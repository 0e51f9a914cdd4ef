import json

import numpy as np
import pytest

from spectile.pipeline.pair.drift import Drift, fit_drift

SHAPE = (640, 480)


def field(drift: Drift, scatter: float, *, count: int = 15, seed: int = 0) -> np.ndarray:
    """Shifts about places all over the grid."""
    rng = np.random.default_rng(seed)
    places = rng.random((count, 2)) * SHAPE
    there = np.stack(drift.at(*places.T, SHAPE), axis=1) - places
    return np.hstack([places, there + scatter * rng.standard_normal((count, 2))])


def test_one_shift_stands_for_a_field_that_does_not_change():
    for seed in range(20):
        assert fit_drift((0.4, -1.2), field(Drift(0.4, -1.2), 0.1, seed=seed), SHAPE) == Drift(0.4, -1.2)


def test_a_plane_is_found_where_it_tells_more_and_one_wrong_place_does_not_matter():
    turned = Drift(-0.8, -0.7, (0.0, -0.0023, 0.0004, 0.0))
    shifts = field(turned, 0.05)
    shifts[3, 2:] += 3
    found = fit_drift((-0.8, -0.7), shifts, SHAPE)
    corner = np.array([0.0]), np.array([0.0])
    np.testing.assert_allclose(found.at(*corner, SHAPE), turned.at(*corner, SHAPE), atol=0.12)
    assert Drift.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize("count", [0, 3])
def test_few_places_give_one_shift(count):
    assert fit_drift((1.0, 2.0), field(Drift(1.0, 2.0, (0.01,) * 4), 0.0, count=count), SHAPE) == Drift(
        1.0, 2.0
    )


def test_places_in_a_row_give_one_shift():
    shifts = field(Drift(1.0, 2.0, (0.01,) * 4), 0.0)
    shifts[:, 0] = 320 + shifts[:, 0] / 100
    assert fit_drift((1.0, 2.0), shifts, SHAPE).is_constant
