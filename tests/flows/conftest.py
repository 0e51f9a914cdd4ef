"""One real Prefect server for all tests of the flows: starting one takes seconds."""

from collections.abc import Iterator

import pytest

from flows.server import LocalServer


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        server.wait()
        yield server
