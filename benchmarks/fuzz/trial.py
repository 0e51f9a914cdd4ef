"""One file through a dry run and a run of its blocks, in a process that may take only so long."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Trial:
    """What came of one file."""

    what: str
    """The file."""
    outcome: str
    """Accepted, refused, damage named, or what went wrong."""
    line: str
    """The last line that was said."""
    seconds: float
    """Of both runs."""
    megabytes: float
    """Most memory that the run held, MB."""
    planned: float | None
    """What its plan said, MB."""

    @property
    def is_wrong(self) -> bool:
        """Whether it is none of what may come of a file."""
        return self.outcome not in ("accepted", "refused", "damage named")

    def to_json(self) -> dict[str, object]:
        """The fields."""
        return asdict(self)


def try_file(folder: Path, scene: str, radiometry: str | None, what: str, *, seconds: float) -> Trial:
    """Plan a scene, and make the blocks of its cube.

    Parameters
    ----------
    folder : where the scene lies, and everything may be written.
    seconds : what both may take.
    """
    started = time.perf_counter()
    before = set(os.listdir(os.fsencode(folder)))
    log = folder / "log"
    code, peak = _in_a_process(log, seconds, lambda: _plan_and_run(folder, scene, radiometry))
    lines = log.read_text(errors="backslashreplace").splitlines()
    planned = next((float(line.split()[1]) for line in lines if line.startswith("planned ")), None)
    left = set(os.listdir(os.fsencode(folder))) - before - {b"log"}
    if code == -signal.SIGKILL:
        outcome = "hang"
    elif code < 0:
        outcome = "crash"
    elif code not in (0, 1, 2):
        outcome = "traceback"
    elif code == 2:
        outcome = "half a cube" if left else "refused"
    elif planned is not None and peak > planned:
        outcome = "memory over the plan"
    else:
        outcome = "accepted" if code == 0 else "damage named"
    line = lines[-1].replace(str(folder), "")[:300] if lines else ""
    return Trial(what, outcome, line, round(time.perf_counter() - started, 2), round(peak, 1), planned)


def _plan_and_run(folder: Path, scene: str, radiometry: str | None) -> int:
    """The exit code of the command line: 2 for a scene that is refused, 1 where blocks failed."""
    from spectile.catalog.errors import SpectileError
    from spectile.flows.run.execute import process_blocks, remaining, start_cube
    from spectile.flows.run.planning import prepare
    from spectile.flows.run.settings import SceneSettings
    from spectile.flows.run.state import Silent, Tally

    settings = SceneSettings(
        scene=scene,
        out=str(folder / "cube.zarr"),
        model="bands-repeat",
        radiometry=radiometry,
        block_retries=0,
    )
    try:
        planned = prepare(settings, dry=True)
        print("planned", planned.estimate.peak_memory_bytes / 1e6)
        prepared = prepare(settings)
        cube, tally = start_cube(prepared), Tally()
        process_blocks(prepared, cube, remaining(cube), tally=tally, observer=Silent())
    except SpectileError as err:
        print(err)
        return err.exit_code
    if not tally.failures:
        return 0 if not remaining(cube) else 3
    print(tally.failures[0])
    return 1


def _in_a_process(log: Path, seconds: float, work: Callable[[], int]) -> tuple[int, float]:
    """The exit code of a function in a process, negative for a signal, and the most memory held, MB."""
    child = os.fork()
    if child == 0:
        _be_the_process(work, log)
    until = time.monotonic() + seconds
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1000
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)


def _be_the_process(work: Callable[[], int], log: Path) -> None:
    """Do the work, and end the process with its code; 3 for an exception."""
    code = 3
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1, errors="backslashreplace")
        sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def clear(folder: Path) -> None:
    """Remove a folder with everything in it."""
    shutil.rmtree(folder, ignore_errors=True)
