"""One real Prefect server and one browser for all tests of the flows: starting them takes seconds."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spectile.flows.deployed.server import LocalServer
from spectile.flows.run import execute
from spectile.pipeline.product.quicklook import quicklook_names, write_quicklook
from spectile.pipeline.product.report import report_name, write_report


@pytest.fixture(scope="module", autouse=True)
def _without_pictures() -> Iterator[None]:
    """Drawing takes longer than all else; tests of what is drawn ask for one of the next two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "write_quicklook", lambda cube: cube.parent.at(quicklook_names(cube.name)[0]))
        patch.setattr(execute, "write_report", lambda cube, **_: cube.parent.at(report_name(cube.name)))
        yield


@pytest.fixture
def with_quicklooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw their quicklooks."""
    monkeypatch.setattr(execute, "write_quicklook", write_quicklook)


@pytest.fixture
def with_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs write their reports."""
    monkeypatch.setattr(execute, "write_report", write_report)


@pytest.fixture
def quick_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed forms and calibrations look at little; what they find does not matter."""
    monkeypatch.setattr("spectile.model.data.crops.FIT_CROPS", 10)
    monkeypatch.setattr("spectile.flows.training.train.BASELINE_CROPS", 20)
    monkeypatch.setattr("spectile.model.cascade.train.CALIBRATION_CROPS", 1)
    monkeypatch.setattr("spectile.model.cascade.train.CALIBRATION_SAMPLES", 4)


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
