"""Small scenes, shared by the tests of the pipeline."""

import numpy as np
import pytest


@pytest.fixture
def picture() -> np.ndarray:
    """A uint8 RGB picture of awkward size, (3, 150, 210)."""
    rng = np.random.default_rng(7)
    return rng.integers(1, 255, (3, 150, 210), dtype=np.uint8)
