"""Two runs on one cube: the second is refused, or takes over and the first changes not one byte any more."""

from __future__ import annotations

import copy
import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spectile.catalog.errors import LeaseHeld, LeaseLost
from spectile.flows.commands import app as cli
from spectile.flows.console.describe import describe_cube
from spectile.flows.run import execute, planning
from spectile.flows.run import settings as settings_module
from spectile.pipeline.cube import ledger
from spectile.pipeline.cube.lease import Beat, _to_bytes, hold, read_beat
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.store import objects
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage
from tests.flows.run.test_object_stores import TILED

pytestmark = pytest.mark.slow  # workers and whole runs in processes of their own

FAST = ("--model", "bands-repeat", "--block", "512", "--lease", "1")

RESUMED = ("--resume",)
REPLACED = ("--overwrite", "--radiometry", "display:0.5")

STOPPING = """
import os, signal, sys
from spectile.flows.commands import app as cli
from spectile.flows.run import execute, planning, settings as settings_module
from spectile.pipeline.store.objects import ObjectStorage

at, count = sys.argv[1], int(sys.argv[2])
execute.write_quicklook = execute.write_report = lambda storage, **_: ""

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
os.link = before(os.link, 1, but="lease-")
ObjectStorage.put_new = before(ObjectStorage.put_new, 1, but="lease-")
ObjectStorage.put_if = before(ObjectStorage.put_if, 1)
sys.exit(cli.main(sys.argv[3:]))
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
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


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen]:
    """A process that does not outlive the test, stopped or not."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


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
        ("cube.stac.json", 1, RESUMED),
    ],
)  # fmt: skip
def test_a_run_that_was_stopped_and_overtaken_changes_not_one_byte(scene, cube, at, count, option):
    command = [sys.executable, "-c", STOPPING, at, str(count), "run", str(scene), "--out", cube, *FAST]
    with started(command) as first:
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


def test_a_run_that_was_stopped_at_any_moment_and_overtaken_changes_not_one_byte(scene, tmp_path):
    cube = tmp_path / "cube.zarr"
    command = [sys.executable, "-m", "spectile", "run", str(scene), "--out", str(cube), *FAST]
    with started(command) as first:
        while not cube.exists() and first.poll() is None:
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.5))
        first.send_signal(signal.SIGSTOP)
        assert stopped(first)
        assert cli.main(["run", str(scene), "--out", str(cube), *FAST, "--resume"]) == 0
        assert verify_cube(open_storage(cube)) == []
        before = content(open_storage(cube))
        code, said = woken(first)
    assert content(open_storage(cube)) == before
    # Stopped before it had taken the cube it is refused; when all was done, there is nothing to hold back.
    assert code in (0, 3, 4), said


def run(capsys, *arguments: object) -> tuple[int, str]:
    """Run the command line here; its exit code and the last line that it said."""
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    return code, "".join(capsys.readouterr().err.splitlines()[-1:])


def test_a_second_run_is_refused_at_once_and_changes_nothing(scene, cube, capsys):
    there = open_storage(cube)
    with hold(there, 1) as lease:
        lease.tell(blocks=4, done=3)
        code, said = run(capsys, "run", scene, "--out", cube, *FAST)
        assert code == 3
        assert "another run is writing this cube (got process" in said
        assert "blocks done); wait for it" in said
        assert [key for key in there.walk()] == [ledger.lease_key(1)]
    assert run(capsys, "run", scene, "--out", cube, *FAST)[0] == 0, "it was let go"
    assert read_beat(there).state == "stopped"


def test_of_runs_that_race_for_a_cube_one_gets_it(cube):
    there, got, refused = open_storage(cube), [], []
    start, end = threading.Barrier(4, timeout=20), threading.Barrier(4, timeout=20)

    def race() -> None:
        start.wait()
        try:
            with hold(there, 2) as lease:
                got.append(lease)
                end.wait()
        except LeaseHeld as err:
            refused.append(err)
            end.wait()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 3)


def abandoned(**facts: object) -> Beat:
    """A lease of a run on another machine that says no more."""
    beat = Beat("someone", os.getpid(), "elsewhere", "1", "2020-01-01T00:00:00+00:00",
                "2020-01-01T00:00:00+00:00", 0.5)  # fmt: skip
    return replace(beat, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", ["2020-01-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"])
def test_a_lease_is_watched_for_its_duration_whatever_its_clock_says(cube, at):
    there = open_storage(cube)
    there.put(ledger.lease_key(7), _to_bytes(abandoned(at=at)))
    start = time.monotonic()
    with hold(there, 60):
        assert time.monotonic() - start >= 0.5
        assert list(there.walk()) == [ledger.lease_key(8)]


@pytest.mark.parametrize("facts", [{"ended": True}, {"machine": "here", "pid": 2**22 + 1}])
def test_a_lease_of_a_run_that_is_known_to_have_ended_is_taken_at_once(cube, facts, monkeypatch):
    monkeypatch.setattr("spectile.pipeline.cube.lease._machine", lambda: "here")
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    there = open_storage(cube)
    there.put(ledger.lease_key(1), _to_bytes(abandoned(seconds=60, **facts)))
    with hold(there, 60):
        pass


def test_a_fence_travels_to_workers_and_holds_there(cube):
    there = open_storage(cube)
    with hold(there, 60) as lease:
        worker = copy.deepcopy(lease.storage)  # by the protocol that sends it to another process
        worker.put("a", b"1")
        there.delete(ledger.lease_key(1))
        with pytest.raises(LeaseLost, match="the cube was removed"):
            worker.put("a", b"2")
    assert there.get("a") == b"1"


def test_the_state_of_a_run_is_told(scene, tmp_path, capsys):
    place = str(tmp_path / "cube.zarr")
    settings = settings_module.SceneSettings(scene=str(scene), out=place, model="bands-repeat", block=512)
    with hold(open_storage(place), 60) as lease:
        cube = execute.start_cube(planning.prepare(settings), lease.storage)
        lease.tell(blocks=4, done=0, block=cube.plan.blocks[0].name)
        lease._renew()
        said = describe_cube(place)
        assert str(said["run"]).startswith("running, beat")
        assert str(said["run"]).endswith(f"process {os.getpid()}, at block r0000c0000")
        assert said["missing"] == "blocks r0000c0000, r0000c0001, r0001c0000, r0001c0001"
        lease._moved -= 700
        lease._renew()
        assert "stalled" in str(describe_cube(place)["run"])
    assert describe_cube(place)["run"] == "stopped"
    assert run(capsys, "run", scene, "--out", place, *FAST, "--resume")[0] == 0
    numbers = tmp_path / "info.json"
    assert run(capsys, "info", place, "--json", numbers)[0] == 0
    told = json.loads(numbers.read_text())["run"]
    assert (told["state"], told["blocks_done"], told["missing"]) == ("done", 4, [])


def test_a_run_whose_disk_is_full_lets_the_cube_go_and_is_resumed(scene, tmp_path, capsys, monkeypatch):
    place, full = str(tmp_path / "cube.zarr"), []

    def write(self, data):
        if full or "valid" in str(self):
            full.append(self)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    real = Path.write_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write)
        code, said = run(capsys, "run", scene, "--out", place, *FAST)
        assert (code, "no space left on the device" in said, "--resume" in said) == (1, True, True)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    option = "--resume" if (tmp_path / "cube.zarr" / "zarr.json").exists() else "--overwrite"
    assert run(capsys, "run", scene, "--out", place, *FAST, option)[0] == 0
    assert verify_cube(open_storage(place)) == []
