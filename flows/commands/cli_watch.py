"""``spectile watch``: its own options, then those of ``run``."""

from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spectile.catalog.errors import SpectileError, UsageError
from spectile.catalog.redaction import redact_url
from spectile.flows.commands import app as cli
from spectile.flows.commands.cli_line import with_options_of_run
from spectile.flows.console import console

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from spectile.flows.watching.sweep import WatchSettings

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _parse_time(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is no time; give e.g. 30s, 10m, 6h or 1d")
    return float(match.group(1)) * _UNITS[match.group(2)]


@cli.app.command("watch")
@with_options_of_run("scene", "resume", "dry_run", "allow_vrt")
def watch(
    inbox: Annotated[
        str,
        typer.Argument(
            metavar="INBOX",
            help="A folder, looked through with all below it, or a STAC catalogue, collection or item, "
            "path or URL.",
        ),
    ],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where the cubes go, a path, s3:// or gs://.")],
    once: Annotated[bool, typer.Option("--once", help="Sweep once and end.")] = False,
    every: Annotated[
        Any,
        typer.Option(parser=_parse_time, metavar="TIME", help="From sweep to sweep.", show_default="10m"),
    ] = None,
    at_once: Annotated[
        int, typer.Option(min=1, metavar="N", help="Scenes at a time; each takes --memory.")
    ] = 1,
    settle: Annotated[
        float,
        typer.Option(
            parser=_parse_time, metavar="TIME", help="A file that changes within that is left for later."
        ),
    ] = "10s",  # type: ignore[assignment]
    **options: Any,
) -> None:
    """Turn every new or changed scene of an inbox into a cube.

    Goes on until it is stopped, or sweeps once. A scene whose cube is finished is skipped; one that has
    changed gets a cube beside the old one, or in its place with --overwrite.
    """
    from rich.console import Console

    # Progress of several scenes at a time cannot be drawn in one line, but said in several.
    screen = Console(stderr=True, soft_wrap=True, force_terminal=False if at_once > 1 else None)
    console.log_to(screen)
    if once and every is not None:
        raise UsageError("--once and --every exclude each other")
    prefect, json_file = options.pop("prefect"), options.pop("json_file")
    cli._check_json(json_file, inbox, out)
    from spectile.flows.run.settings import SceneSettings
    from spectile.flows.watching.sweep import WatchSettings

    settings = WatchSettings(inbox, SceneSettings(scene="", out=out, **options), at_once, settle)
    with cli._stoppable(), ExitStack() as stack:
        try:
            sweep = _door(settings, screen, stack, prefect=prefect)
            report = _tell(sweep(), json_file)
            pause = 600.0 if every is None else every
            while not once:
                cli.LOG.info("next sweep in %s", console.duration(pause))
                time.sleep(pause)
                try:
                    _tell(sweep(), json_file)
                except (SpectileError, OSError) as err:
                    cli.LOG.error("%s", err)  # an inbox on a share that is away comes back
            if report["failed"]:
                raise SpectileError(f"{report['failed']} of {len(report['scenes'])} scenes failed")
            return
        except KeyboardInterrupt:
            cli.LOG.info("stopped; what was begun goes on with the next sweep")
    raise typer.Exit(cli.STOPPED)


def _door(
    settings: WatchSettings, screen: Console, stack: ExitStack, *, prefect: bool
) -> Callable[[], dict[str, Any]]:
    """A sweep, through the flow where a server is wanted or set, else without Prefect."""
    from spectile.flows.run.execute import report, run_scene
    from spectile.flows.run.settings import SceneSettings
    from spectile.flows.watching.sweep import sweep

    if not prefect and not os.environ.get("PREFECT_API_URL"):

        def run_one(run: SceneSettings) -> dict[str, Any]:
            return report(*run_scene(run, observer=console.current_observer()))

        return lambda: sweep(settings, run_one, observe=lambda: console.RunProgress(screen))
    if redact_url(settings.inbox) != settings.inbox:
        raise UsageError(
            "Prefect would record the URL's signature", where=settings.inbox, remedy="run without Prefect"
        )
    from spectile.flows.deployed.server import local_server, server_configured

    if not server_configured():
        cli.LOG.info("the Prefect server is at %s", stack.enter_context(local_server()))
    from spectile.flows.deployed.watch import watch as flow

    own = {name: value for name, value in asdict(settings.run).items() if name not in ("scene", "resume")}
    given = {**own, "inbox": settings.inbox, "at_once": settings.at_once, "settle": settings.settle}

    def through_the_flow() -> dict[str, Any]:
        facts = flow(**given, return_state=True).result(raise_on_failure=False)
        if isinstance(facts, BaseException):
            raise facts
        assert isinstance(facts, dict)
        return facts

    return through_the_flow


def _tell(report: dict[str, Any], json_file: Path | None) -> dict[str, Any]:
    """Print a sweep's table, and write its report."""
    from spectile.flows.watching.sweep import COLUMNS, summary, table

    if report["scenes"]:
        console.print_table(COLUMNS, table(report))
    console.print_line(summary({**report, "scenes": ()}))
    if json_file is not None:
        cli._write_json(json_file, report)
    return report
