"""``make serve``: a Prefect server and workers on loopback, with every deployment, until ``make stop``.

One process of ours is the parent of the others: they always end with it. Its state is in the project's folder
``.prefect``; it runs as long as ``serve.json`` there is locked.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from spectile.catalog.errors import SpectileError, UsageError
from spectile.flows.console import console
from spectile.flows.deployed.server import (
    LocalServer,
    end_prefect,
    quiet_prefect,
    server_configured,
    start_prefect,
)

ROOT = Path(__file__).resolve().parents[2]
"""The checkout, in which ``prefect.yaml`` is."""

POOLS = {"spectile-cpu": None, "spectile-gpu": 1}
"""Work pools, and how many flow runs of each may run at once, wherever their workers are."""

START_SECONDS = 600.0
"""Longest start of server, deployments and workers on a busy machine, seconds; half a minute is usual."""

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False, add_completion=False)

Home = Annotated[Path, typer.Option(help="The folder that keeps the state.")]
_HOME = ROOT / ".prefect"


@app.command()
def start(
    home: Home = _HOME, port: Annotated[int, typer.Option(help="0 is any that is free.")] = 4200
) -> None:
    """Start server and workers, unless they run, and say where the page is."""
    home = home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    if (state := _running(home)) is None:
        with (home / "serve.log").open("wb") as log:
            command = [
                sys.executable,
                "-m",
                "spectile.flows.deployed.serve",
                "hold",
                "--home",
                str(home),
                "--port",
                str(port),
            ]
            holder = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        state = _wait(home, holder)
    print(f"The Prefect page is at {state['page']}; its state and logs are in {home}")
    print(f"export PREFECT_API_URL={state['url']}")


def _wait(home: Path, holder: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The state of the parent process when everything has started."""
    deadline = time.monotonic() + START_SECONDS
    try:
        while time.monotonic() < deadline and holder.poll() is None:
            if "url" in (state := _running(home) or {}):
                return state
            time.sleep(0.2)
    except KeyboardInterrupt:
        holder.terminate()
        raise
    holder.terminate()
    lines = (home / "serve.log").read_text(errors="replace").strip().splitlines() or ["no output"]
    raise SpectileError("the server did not start", got=lines[-1], remedy=f"see the logs in {home}")


@app.command()
def stop(home: Home = _HOME) -> None:
    """End the server, the workers and their flow runs."""
    state = _running(home)
    if state is None:
        print("no server is running")
        return
    os.kill(state["pid"], signal.SIGTERM)
    deadline = time.monotonic() + 60
    while _running(home) is not None:
        if time.monotonic() > deadline:
            raise SpectileError("the server does not end", got=f"process {state['pid']}")
        time.sleep(0.1)
    print("stopped")


@app.command()
def deploy() -> None:
    """Make the work pools, where there are none yet, and every deployment, on the server that is set."""
    if not server_configured():
        raise UsageError("no server is set", remedy="set PREFECT_API_URL, or use make serve")
    quiet_prefect()
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client:
        for name, limit in POOLS.items():
            pool = WorkPoolCreate(
                name=name, type="process", base_job_template=template, concurrency_limit=limit
            )
            try:
                client.create_work_pool(pool)
            except ObjectAlreadyExists:
                continue  # with the limit that somebody has set
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=ROOT, env={**os.environ, "PWD": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
        raise SpectileError("prefect deploy failed", where=str(ROOT / "prefect.yaml"), got=lines[-1])
    print("deployed", *POOLS)


@app.command(hidden=True)
def hold(home: Home = _HOME, port: int = 4200) -> None:
    """Run as the parent process of the others; ``start`` starts it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with _lock(home) as file, ExitStack() as stack:
        _say(file, pid=os.getpid())
        try:
            server = LocalServer(home, port)
        except OSError as err:
            raise UsageError(
                f"port {port} is taken", got=err.strerror, remedy="choose another: make serve PORT=4300"
            ) from err
        stack.enter_context(server)
        server.wait()
        # Prefect reads these when it is imported below.
        direct = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1")))
        own = {"PREFECT_API_URL": server.url, "PREFECT_HOME": str(home), "NO_PROXY": direct}
        os.environ.update(own)
        deploy()
        assert server.process is not None
        processes = [server.process]
        for pool in POOLS:
            if pool == "spectile-cpu" or _gpu():
                worker = start_prefect(
                    "worker", "start", "--pool", pool, "--limit", "1", "--name", f"{pool} here",
                    environment={**own, "PREFECT_WORKER_QUERY_SECONDS": "2"}, log=home / f"{pool}.log",
                    folder=ROOT,
                )  # fmt: skip
                stack.callback(end_prefect, worker, seconds=20)
                processes.append(worker)
        _say(file, pid=os.getpid(), url=server.url, page=server.url.removesuffix("/api"))
        while all(process.poll() is None for process in processes):
            time.sleep(0.5)
        logging.getLogger("spectile").error("a process ended by itself; see the logs beside this one")


def _gpu() -> bool:
    """Whether this machine has a GPU of NVIDIA's."""
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def _lock(home: Path) -> Iterator[IO[str]]:
    """Hold the lock of the state file; it ends with its process."""
    with (home / "serve.json").open("a+") as file:
        for _ in range(20):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.1)  # another process may be testing the lock
        else:
            raise SpectileError("a server is running already", where=str(home))
        yield file


def _say(file: IO[str], **facts: object) -> None:
    file.seek(0)
    file.truncate()
    file.write(json.dumps(facts))
    file.flush()


def _running(home: Path) -> dict[str, Any] | None:
    """The state of the process that holds the lock; None if there is none."""
    try:
        with (home / "serve.json").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            except BlockingIOError:
                text = file.read()
    except FileNotFoundError:
        return None
    try:
        state: dict[str, Any] = json.loads(text)
    except ValueError:
        return {}  # it is being written
    return state


def main() -> int:
    """Run a command; the exit code."""
    try:
        return int(app(standalone_mode=False) or 0)
    except SpectileError as err:
        console.print_error(err)
        return err.exit_code


if __name__ == "__main__":
    sys.exit(main())
