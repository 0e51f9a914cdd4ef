"""The typer app, and what its commands share.

Nothing heavy is imported here or by the modules of the commands, so that ``spectile --help`` answers fast.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spectile.catalog.errors import UsageError
from spectile.catalog.files import write_text
from spectile.flows.console import console

if TYPE_CHECKING:
    from rich.console import Console

LOG = logging.getLogger("spectile")

STOPPED = 130
"""Exit code of a run that was stopped, as shells have it."""

app: typer.Typer = typer.Typer(
    name="spectile",
    help="Turn a whole RGB or multispectral scene into a georeferenced hyperspectral Zarr cube.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print("spectile", version("spectile"))
        except PackageNotFoundError:
            print("spectile, not installed")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def in_lines(*, terminal: bool | None = None) -> Console:
    """Where progress is shown; log lines go there too.

    Parameters
    ----------
    terminal : whether it is one, on which a line can be drawn again; None finds out.
    """
    from rich.console import Console

    # Rich would take the width of an unknown terminal and cut the log lines.
    screen = Console(stderr=True, soft_wrap=True, force_terminal=terminal)
    console.log_to(screen)
    return screen


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM stop a run as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check_json(path: Path | None, scene: str, out: str, *, option: str = "--json") -> None:
    """Check before the run that the report can be written.

    Parameters
    ----------
    option : the option with its path; other files that a command writes are checked here too.
    """
    if path is None:
        return
    folder = path.absolute().parent
    if not folder.is_dir() or path.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(
            "cannot write there", got=f"{option} {path}", expected="a file in a folder that exists"
        )
    target, read, written = (Path(os.path.realpath(place)) for place in (path, scene, out))
    if target == read or target.is_relative_to(written):
        raise UsageError(
            "the report would overwrite data", got=f"{option} {path}", remedy="choose another file"
        )


def write_json(path: Path, facts: dict[str, Any]) -> None:
    """Write a report in one step."""
    write_text(path, json.dumps(facts, indent=2, allow_nan=False) + "\n")
