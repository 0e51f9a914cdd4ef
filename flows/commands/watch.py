"""``spectile watch``: scenes of an inbox into cubes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spectile.catalog.errors import SpectileError, UsageError
from spectile.flows.commands.door import flow_of
from spectile.flows.commands.options import given, with_options
from spectile.flows.commands.root import LOG, STOPPED, app, check_json, in_lines, stoppable, write_json
from spectile.flows.commands.run import JsonFile, Prefect
from spectile.flows.console import console
from spectile.flows.run.settings import SceneSettings, WatchSettings
from spectile.flows.run.texts import parse_time

if TYPE_CHECKING:
    from rich.console import Console


@app.command()
@with_options(WatchSettings)
def watch(
    once: Annotated[bool, typer.Option("--once", help="Sweep once and end.")] = False,
    every: Annotated[
        Any,
        typer.Option(parser=parse_time, metavar="TIME", help="Time from sweep to sweep.", show_default="10m"),
    ] = None,
    prefect: Prefect = False,
    json_file: JsonFile = None,
    **options: Any,
) -> None:
    """Turn every new or changed scene of an inbox into a cube.

    Runs until it is stopped, or sweeps once. A scene whose cube is finished is skipped; one that has
    changed gets a cube beside the old one, or in its place with --overwrite.
    """
    settings = WatchSettings(**given(options))
    # Progress of several scenes at once does not fit one line, so it is printed as lines.
    screen = in_lines(terminal=False if settings.at_once > 1 else None)
    if once and every is not None:
        raise UsageError("--once and --every exclude each other")
    check_json(json_file, settings.inbox, settings.out)
    with stoppable(), ExitStack() as stack:
        try:
            run_flow = stack.enter_context(flow_of(settings, prefect=prefect))
            sweep = _sweep_here(settings, screen) if run_flow is None else partial(run_flow, settings)
            report = _tell(sweep(), json_file)
            pause = 600.0 if every is None else every
            while not once:
                LOG.info("next sweep in %s", console.duration(pause))
                time.sleep(pause)
                try:
                    _tell(sweep(), json_file)
                except (SpectileError, OSError) as err:
                    LOG.error("%s", err)  # an inbox on a lost share may come back
            if report["failed"]:
                raise SpectileError(f"{report['failed']} of {len(report['scenes'])} scenes failed")
            return
        except KeyboardInterrupt:
            LOG.info("stopped; the next sweep continues unfinished cubes")
    raise typer.Exit(STOPPED)


def _sweep_here(settings: WatchSettings, screen: Console) -> Callable[[], dict[str, Any]]:
    """A sweep without Prefect."""
    from spectile.flows.run.execute import report, run_scene
    from spectile.flows.watching.sweep import sweep

    def run_one(run: SceneSettings) -> dict[str, Any]:
        return report(*run_scene(run, observer=console.current_observer()))

    return lambda: sweep(settings, run_one, observe=lambda: console.RunProgress(screen))


def _tell(report: dict[str, Any], json_file: Path | None) -> dict[str, Any]:
    """Print a sweep's table, and write its report."""
    from spectile.flows.watching.each import COLUMNS, summary, table

    if report["scenes"]:
        console.print_table(COLUMNS, table(report))
    console.print_line(summary({**report, "scenes": ()}))
    if json_file is not None:
        write_json(json_file, report)
    return report
