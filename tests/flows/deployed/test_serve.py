"""``make serve`` and ``make stop``, as the processes that they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from spectile.flows.deployed.server import LocalServer

ROOT = Path(__file__).parents[3]


def serve(verb: str, home: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "spectile.flows.deployed.serve", verb, "--home", str(home), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=650, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ours(home: Path) -> list[psutil.Process]:
    """The processes whose environment or command names the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            named = [*process.cmdline(), process.environ().get("PREFECT_HOME", "")]
        except psutil.Error:
            continue
        if str(home) in named and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def wait_until_gone(home: Path) -> bool:
    deadline = time.monotonic() + 60
    while ours(home) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not ours(home)


@pytest.mark.slow
def test_serve_is_up_once_and_leaves_nothing_behind(tmp_path):
    home = tmp_path / "state"
    try:
        first = serve("start", home, "--port", "0")
        page = first.split()[5].rstrip(";")
        assert page.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(page) as answer:
            assert answer.status == 200
        for name in ("spectile-cpu", "spectile-gpu"):
            with urllib.request.urlopen(f"{page}/api/work_pools/{name}") as answer:
                assert json.load(answer)["name"] == name
        there = {process.pid for process in ours(home)}
        assert len(there) >= 3  # the holder, the server, a worker
        assert serve("start", home, "--port", "0") == first
        assert {process.pid for process in ours(home)} == there
        assert serve("stop", home) == "stopped\n"
        assert wait_until_gone(home)
        assert serve("stop", home) == "no server is running\n"
    finally:
        for process in ours(home):
            process.kill()


def test_a_port_that_is_taken_is_told_in_a_line(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "spectile.flows.deployed.serve",
             "start", "--home", str(tmp_path), "--port", port],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"port {port} is taken" in done.stderr
    assert "choose another" in done.stderr
    assert ours(tmp_path) == []


@pytest.mark.slow
def test_the_page_shows_a_run_and_asks_nobody_but_its_own_server(tmp_path, browser, make_scene):
    """At first it asked port 4200, whatever its own was, and linked to files, which browsers refuse."""
    home = tmp_path / "state"
    home.mkdir()
    command = [sys.executable, "-m", "spectile", "run", str(make_scene((60, 90))), "--model", "bands-repeat"]
    with LocalServer(home) as server:
        server.wait()
        subprocess.run(
            [*command, "--out", str(tmp_path / "cube.zarr")],
            cwd=ROOT, env={**os.environ, "PREFECT_API_URL": server.url}, capture_output=True, check=True,
        )  # fmt: skip
        page = server.url.removesuffix("/api")
        tab = browser.new_page()
        tab.set_default_timeout(30_000)
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(page)
        tab.goto(f"{page}/artifacts/artifact/{artifact(server, 'cube')}")
        tab.get_by_text("90 × 60 px, 48 bands").first.wait_for()
        picture = "img[alt=quicklook]"
        tab.locator(picture).wait_for()
        assert tab.evaluate(f"document.querySelector('{picture}').naturalWidth") > 500
        tab.close()
    places = {urlsplit(url).netloc for url in asked if url.startswith(("http", "ws"))}
    assert places == {urlsplit(page).netloc}


def artifact(server: LocalServer, key: str) -> str:
    """The id of the artifact of a key, asked with the server's token, as its own page asks."""
    client = str(uuid.uuid4())
    with urllib.request.urlopen(f"{server.url}/csrf-token?client={client}") as answer:
        token = json.load(answer)["token"]
    body = json.dumps({"artifacts": {"key": {"any_": [key]}}}).encode()
    request = urllib.request.Request(f"{server.url}/artifacts/filter", data=body, method="POST")
    request.add_header("Content-Type", "application/json")
    request.add_header("Prefect-Csrf-Token", token)
    request.add_header("Prefect-Csrf-Client", client)
    with urllib.request.urlopen(request) as answer:
        (found,) = json.load(answer)
    return str(found["id"])
