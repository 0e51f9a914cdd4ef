"""One real Prefect server and one browser for all tests of the flows: starting them takes seconds."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spectile.flows.deployed.server import LocalServer
from spectile.flows.run import execute


@pytest.fixture(autouse=True)
def _without_reports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing the report takes longer than all else; tests of it ask for ``with_reports``."""
    if "with_reports" not in request.fixturenames:
        monkeypatch.setattr(execute, "write_report", lambda storage, **_: f"{storage}.report.html")


@pytest.fixture
def with_reports() -> None:
    """Runs write their reports."""


@pytest.fixture(scope="session")
def tiny_recipe() -> str:
    """A recipe whose training takes a second, on simulated scenes alone."""
    return """
name = "tiny"
samples = 2
crops = 1
[[stages]]
components = 2
condition_width = 8
condition_blocks = 1
width = 8
kernels = 8
[[stages]]
components = 2
condition_width = 8
condition_blocks = 1
width = 8
[training]
steps = 2
batch = 2
crop = 16
validate_every = 2
[simulator]
scenes = 2
validation = 1
held_out = 1
size = 64
"""


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        server.wait()
        yield server


@contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """The browser that is installed, started with further arguments."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome")
        path = next(filter(None, map(shutil.which, names)), None) or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("there is no Chromium; apt-get install chromium")
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *arguments])
        yield started
        started.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium. While it is there an event loop runs, and no flow of Prefect can in this process."""
    with chromium() as started:
        yield started
