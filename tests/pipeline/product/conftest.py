"""A cube with every layer, and what its report says."""

from __future__ import annotations

import pytest

from spectile.pipeline.cube.record import Cube
from spectile.pipeline.product.report import gather
from spectile.pipeline.product.report_facts import Report
from spectile.pipeline.product.report_page import render
from tests.pipeline.cubes import make


@pytest.fixture(scope="session")
def layered(tmp_path_factory) -> Cube:
    """A finished cube of four samples with every layer of them."""
    return make(tmp_path_factory.mktemp("layered"), samples=4, layers=("sd", "q05", "q95"))


@pytest.fixture(scope="session")
def facts(layered) -> Report:
    """What its report says."""
    return gather(layered.storage)


@pytest.fixture(scope="session")
def page(facts) -> str:
    """The report itself."""
    return render(facts).decode()
