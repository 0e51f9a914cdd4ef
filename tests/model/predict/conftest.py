"""The shipped model, loaded once."""

from __future__ import annotations

import pytest

from spectile.model.predict.network import NetworkPredictor
from spectile.model.predict.predictor import load_predictor


@pytest.fixture(scope="session")
def predictor() -> NetworkPredictor:
    """vnir48 on the CPU."""
    return load_predictor("vnir48", device="cpu")
