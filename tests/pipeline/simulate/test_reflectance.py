"""Leaves as PROSPECT has them."""

from __future__ import annotations

import numpy as np
import pytest

from spectile.pipeline.simulate.reflectance import NM, leaf


def _band(spectrum: np.ndarray, low: float, high: float) -> np.ndarray:
    return spectrum[..., (low <= NM) & (high >= NM)].mean(axis=-1)


def test_a_leaf_conserves_energy_and_is_nearly_clear_without_pigment() -> None:
    reflected, passed = leaf(layers=1.5, chlorophyll=40.0, carotenoid=8.0)
    assert (reflected > 0).all()
    assert (passed > 0).all()
    assert (reflected + passed < 1.0).all()
    # PROSPECT's textbook leaf: reflectance near 0.45 on the infrared plateau, below 0.1 in red.
    assert _band(reflected, 780, 880) == pytest.approx(0.45, abs=0.07)
    assert _band(reflected, 665, 680) < 0.1
    clear = leaf(layers=1.5, chlorophyll=0.0, carotenoid=0.0, dry=0.0, water_cm=0.0)
    np.testing.assert_allclose(clear[0] + clear[1], 1.0, atol=1e-3)
