"""One real Prefect server for all tests of the flows: starting one takes seconds."""

from collections.abc import Iterator

import pytest

from spectile.flows.deployed.server import LocalServer
from spectile.flows.run import prepare as compose


@pytest.fixture(autouse=True)
def _without_reports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing the report takes longer than all else; tests of it ask for ``with_reports``."""
    if "with_reports" not in request.fixturenames:
        monkeypatch.setattr(compose, "write_report", lambda storage, **_: f"{storage}.report.html")


@pytest.fixture
def with_reports() -> None:
    """Runs write their reports."""


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        server.wait()
        yield server
