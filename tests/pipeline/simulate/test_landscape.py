"""Noise that is keyed on places."""

from __future__ import annotations

import numpy as np

from spectile.pipeline.simulate.landscape import noise, pixel_normal


def test_noise_at_points_equals_noise_on_a_grid() -> None:
    y, x = np.arange(-40.0, 40.0, 1.7)[:, None], np.arange(-90.0, 20.0, 2.3)[None, :]
    grid = noise((1, 2), y, x, 13.0)
    points = noise((1, 2), *(axis.ravel() for axis in np.broadcast_arrays(y, x)), 13.0)
    np.testing.assert_allclose(points, grid.ravel(), atol=1e-6)
    assert 0.0 <= grid.min() < 0.2 < 0.8 < grid.max() < 1.0


def test_pixel_noise_is_white_and_standard() -> None:
    rows, cols = np.arange(-200, 200)[:, None], np.arange(300)[None, :]
    draws = pixel_normal((7, 1), rows, cols)
    # 120,000 draws: standard errors of 0.003 for means and correlations.
    assert abs(float(draws.mean())) < 0.012
    assert abs(float(draws.std()) - 1.0) < 0.012
    assert abs(float((draws[1:] * draws[:-1]).mean())) < 0.015
    assert abs(float((draws[:, 1:] * draws[:, :-1]).mean())) < 0.015
