"""Runs of the command line, each in a process forked from one that has imported everything."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.faults import failpoints
from benchmarks.faults.failpoints import Failpoint
from spectile.flows.commands import app as cli
from spectile.flows.run import crew

TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 900
"""Seconds after which a process that does not end is killed, which is a failure of its event."""


class Process:
    """A forked process that leads a group of its own."""

    def __init__(self, work: Callable[[], int], log: Path) -> None:
        self.log = log
        self.code: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _live(work, log)
        self._until = time.monotonic() + PATIENCE

    def poll(self) -> int | None:
        """The exit code, the negative number of the signal that ended it, or None while it lives."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > self._until:
                self.end()
        return self.code

    def wait(self) -> int:
        """The exit code, once it has ended."""
        while (code := self.poll()) is None:
            time.sleep(0.01)
        return code

    def stopped(self) -> bool:
        """Wait until it is stopped; False where it ends first."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self.code = os.waitstatus_to_exitcode(status)
        return False

    def group(self) -> Iterator[tuple[int, float]]:
        """Process number and CPU seconds of those of its group that live."""
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    facts = (folder / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(facts[2]) == self.pid and facts[0] not in "ZX":
                    yield int(folder.name), (int(facts[11]) + int(facts[12])) / TICKS

    def cpu_seconds(self) -> float:
        """What those of its group that live have used."""
        return sum(cpu for _, cpu in self.group())

    def workers(self) -> list[int]:
        """The numbers of the worker processes that it has started."""
        return [
            pid for pid, _ in self.group()
            if pid != self.pid and b"spawn_main" in (Path(f"/proc/{pid}/cmdline").read_bytes())
        ]  # fmt: skip

    def end(self) -> None:
        """Kill what is left of the group."""
        for pid, _ in list(self.group()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _live(work: Callable[[], int], log: Path) -> None:
    code = 99
    try:
        os.setpgid(0, 0)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = work()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


@contextmanager
def spectile(
    arguments: Sequence[str], log: Path, *, point: Failpoint | None = None, counts: Path | None = None,
    fresh: bool = False,
) -> Iterator[Process]:  # fmt: skip
    """A run of the command line, which does not outlive the block.

    Parameters
    ----------
    counts : where to put how often each phase was passed, as JSON.
    fresh : start an interpreter of its own, as a user would.
    """

    def work() -> int:
        if fresh:
            os.execv(sys.executable, [sys.executable, "-m", "spectile", *arguments])
        passed = failpoints.arm(point) if point or counts else None
        if point:
            crew._DEAF += f"; from benchmarks.faults import failpoints; failpoints.arm(failpoints.{point!r})"
        code = cli.main(list(arguments))
        if counts:
            counts.write_text(json.dumps(passed))
        return code

    process = Process(work, log)
    try:
        yield process
    finally:
        process.end()


def run(arguments: Sequence[str], log: Path, **options: Any) -> int:
    """The exit code of a run that nobody disturbs."""
    with spectile(arguments, log, **options) as process:
        return process.wait()


def ask(work: Callable[[], Any], log: Path) -> Any:
    """What a function gives, as JSON; it runs in a process of its own, where libraries may start threads."""
    answer = log.with_suffix(".answer")
    answer.unlink(missing_ok=True)

    def told() -> int:
        answer.write_text(json.dumps(work()))
        return 0

    process = Process(told, log)
    code = process.wait()
    if code != 0:
        raise RuntimeError(f"exit code {code}, see {log}")
    return json.loads(answer.read_text())
