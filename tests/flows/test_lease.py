"""Two runs on one cube: the second is refused, or takes over and the first changes not one byte any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flows import cli, compose
from pipeline import objects
from pipeline.storage import Storage, open_storage
from pipeline.verify import verify_cube
from tests.flows.test_object_stores import TILED

FAST = ("--model", "bands-repeat", "--block", "512", "--lease", "1")

RESUMED = ("--resume",)
REPLACED = ("--overwrite", "--radiometry", "display:0.5")

STOPPING = """
import os, signal, sys
from flows import cli, compose
from pipeline.objects import ObjectStorage

at, count = sys.argv[1], int(sys.argv[2])
compose.write_quicklook = lambda storage: ""

def stop(key):
    global count
    if f"cube.zarr/{key}".endswith(at):
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGSTOP)

# Between what a write asks and what it does.
def before(work, place, but="nothing"):
    def stopping(*arguments):
        if but not in str(arguments[place]):
            stop(arguments[place])
        return work(*arguments)
    return stopping

os.replace = before(os.replace, 1)
ObjectStorage.put_new = before(ObjectStorage.put_new, 1, but="lease-")
ObjectStorage.put_if = before(ObjectStorage.put_if, 1)
sys.exit(cli.main(sys.argv[3:]))
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    monkeypatch.setattr(compose, "write_quicklook", lambda storage: "")  # drawing takes longer than all else
    monkeypatch.setitem(objects.RETRY, "max_retries", 2)


@pytest.fixture
def scene(write_scene) -> Path:
    """Four blocks of flat squares, which compress fast."""
    squares = np.random.default_rng(0).integers(1, 255, (3, 15, 15), dtype=np.uint8)
    return write_scene(np.kron(squares, np.ones((1, 40, 40), dtype=np.uint8)), "scene.tif", **TILED)


@pytest.fixture(params=["files", "objects"])
def cube(request, tmp_path) -> str:
    if request.param == "objects":
        request.getfixturevalue("object_server")
        return "s3://bucket/cube.zarr"
    return str(tmp_path / "cube.zarr")


def content(storage: Storage) -> dict[str, bytes | None]:
    """All that there is, what is no object included."""
    root = getattr(storage, "root", None)
    if root is None:
        return {key: storage.get(key) for key in storage.walk()}
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def stopped(process: subprocess.Popen) -> bool:
    """Whether it was stopped, rather than that it ended."""
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    return os.WIFSTOPPED(status)


def woken(process: subprocess.Popen) -> tuple[int, list[str]]:
    """The exit code of a stopped process, and what it still says."""
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err.splitlines()


@pytest.mark.parametrize(
    ("at", "count", "option"),
    [
        ("valid/c/0/0", 1, RESUMED), ("reflectance/c/0/0/1", 1, REPLACED),
        ("ledger/r0001c0000.json", 1, RESUMED), ("wavelength/c/0", 1, RESUMED),
        ("cube.zarr/zarr.json", 2, REPLACED), ("lease-00000001.json", 1, RESUMED),
    ],
)  # fmt: skip
def test_a_run_that_was_stopped_and_overtaken_changes_not_one_byte(scene, cube, at, count, option):
    command = [sys.executable, "-c", STOPPING, at, str(count), "run", str(scene), "--out", cube, *FAST]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        assert stopped(first), "it came to its end before"
        assert cli.main(["run", str(scene), "--out", cube, *FAST, *option]) == 0
        there = open_storage(cube)
        assert verify_cube(there) == []
        before = content(there)
        code, said = woken(first)
    assert content(there) == before
    assert code == 4, said
    assert said[-1].startswith(f"spectile: error: {cube}: another run took the cube over")
    assert "Traceback" not in said
