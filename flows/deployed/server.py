"""A Prefect server of our own on loopback, for as long as it is needed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import psutil

from spectile.catalog.errors import SpectileError
from spectile.catalog.files import replacing

START_SECONDS = 120.0
"""Longest start of a server, seconds; 5 to 15 s on two slow cores."""

# The server ends with its standard input, so that it cannot outlive a parent that was killed.
_SERVE = """
import os, signal, sys, threading
def watch():
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
from prefect.cli import app
app()
"""

# Services that watch deployments and workers over hours; a run does not need them.
_UNNEEDED = (
    "CANCELLATION_CLEANUP", "CLEANUP_RECONCILER", "FOREMAN", "LATE_RUNS", "PAUSE_EXPIRATIONS", "REPOSSESSOR",
    "SCHEDULER", "TRIGGERS",
)  # fmt: skip


def quiet_prefect() -> None:
    """Set what Prefect reads when it is imported: send no usage data, keep our log lines with the run."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "spectile")
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")


def server_configured() -> bool:
    """Whether the environment or the Prefect profile names a server."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    quiet_prefect()
    from prefect.settings import get_current_settings

    return get_current_settings().api.url is not None


def start_prefect(
    *arguments: str, environment: Mapping[str, str], log: Path, folder: Path | None = None
) -> subprocess.Popen[bytes]:
    """A process of Prefect's command line that ends with this one, in a session of its own.

    Settings of another server, such as a password, do not leak into it.

    Parameters
    ----------
    arguments : of the command line.
    environment : what is added to this process's, without its ``PREFECT_`` variables.
    log : the file that takes its output.
    folder : where it works; None is here.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-c", _SERVE, "--no-prompt", *arguments],
            env={**clean, "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", **environment},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            # A Ctrl-C on the terminal is for us: the server must live to hear how the run ended.
            start_new_session=True,
        )


def end_prefect(process: subprocess.Popen[bytes], *, seconds: float = 5.0) -> None:
    """End the process of ``start_prefect`` and the processes that it started.

    Parameters
    ----------
    seconds : time that it gets to end by itself.
    """
    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    if process.stdin is not None:
        process.stdin.close()
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for each in below:  # runs of flows have groups of their own
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


class LocalServer:
    """A server process with a state of its own. Starts at ``with``, ends with it.

    Parameters
    ----------
    home : the folder that keeps its state, of a server that shows its page and starts what is scheduled; None
        is a temporary folder, of one that only takes down what runs tell it.
    port : where it listens on loopback; None is one that is free.
    """

    def __init__(self, home: Path | None = None, port: int | None = None) -> None:
        self._kept = home
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port or 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/api"
        """Where it answers."""
        self._pages = [f"http://{name}:{self._port}" for name in ("127.0.0.1", "localhost")]
        self.process: subprocess.Popen[bytes] | None = None
        """Its process, once it is started."""

    def __enter__(self) -> LocalServer:
        self._temporary = tempfile.TemporaryDirectory(prefix="spectile-prefect-", ignore_cleanup_errors=True)
        self.home = self._kept or Path(self._temporary.name)
        """Its folder."""
        self._log = self.home / "server.log"
        database = self.home / "prefect.db"
        if _template().is_file() and not database.exists():
            shutil.copyfile(_template(), database)
        lean = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in _UNNEEDED} | {
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
        }
        self.process = start_prefect(
            "server", "start", "--host", "127.0.0.1", "--port", str(self._port),
            environment={
                "PREFECT_HOME": str(self.home),
                # By default it accepts requests from the pages of all sites.
                "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(self._pages),
                "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
                "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
                # The address from which the page gets its data. The server does not tell the page its port.
                "PREFECT_SERVER_UI_API_URL": self.url,
                # The second version of the page always contacts a service that counts visits.
                "PREFECT_SERVER_UI_V2_ENABLED": "false",
                **({} if self._kept else lean),
            },
            log=self._log,
        )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            end_prefect(self.process)
        self._temporary.cleanup()

    def wait(self) -> None:
        """Wait until the server answers.

        Raises
        ------
        SpectileError : it does not start.
        """
        assert self.process is not None
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with direct.open(f"{self.url}/health", timeout=2):
                    break
            except OSError:
                time.sleep(0.05)
        else:
            self._fail()
        if not self._kept:
            _keep_template(self.home / "prefect.db")

    def _fail(self) -> NoReturn:
        _template().unlink(missing_ok=True)
        lines = self._log.read_text(errors="replace").strip().splitlines() or ["no output"]
        raise SpectileError(
            "the local Prefect server did not start",
            got=lines[-1],
            remedy="run without --prefect, or set PREFECT_API_URL to a server that runs",
        )

    @contextmanager
    def in_use(self) -> Iterator[str]:
        """Let this process's flows report to the server, once it is up; yields its URL."""
        quiet_prefect()
        from prefect.settings import (
            PREFECT_API_AUTH_STRING,
            PREFECT_API_KEY,
            PREFECT_API_URL,
            temporary_settings,
        )

        proxied = os.environ.get("NO_PROXY")
        os.environ["NO_PROXY"] = ",".join(filter(None, (proxied, "127.0.0.1")))
        try:
            self.wait()
            with temporary_settings(
                {PREFECT_API_URL: self.url}, restore_defaults={PREFECT_API_KEY, PREFECT_API_AUTH_STRING}
            ):
                try:
                    yield self.url
                finally:
                    _send_the_rest()
        finally:
            if proxied is None:
                del os.environ["NO_PROXY"]
            else:
                os.environ["NO_PROXY"] = proxied


def _template() -> Path:
    """An empty database with Prefect's tables: making them takes most of the time of a start."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "spectile" / f"prefect-{version('prefect')}.db"


def _keep_template(database: Path) -> None:
    """Keep a copy of the database of a new server, if there is no copy yet and it can be written."""
    template = _template()
    if template.exists():
        return
    with suppress(OSError, sqlite3.Error):
        template.parent.mkdir(parents=True, exist_ok=True)
        with replacing(template) as part:
            with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(part)) as copy:
                source.backup(copy)


def _send_the_rest() -> None:
    """Send the queues of Prefect's threads; later they would wait minutes for the stopped server."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=5)
    EventsWorker.drain_all(timeout=5)


@contextmanager
def local_server() -> Iterator[str]:
    """A server on loopback that this process's flows report to; always stopped at the end."""
    with LocalServer() as server, server.in_use() as url:
        yield url
