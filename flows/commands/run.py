"""``spectile run``: one scene into one cube, or several into a folder of cubes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spectile.catalog.errors import SpectileError
from spectile.catalog.redaction import redact_url
from spectile.flows.commands.door import flow_of
from spectile.flows.commands.options import given, with_options
from spectile.flows.commands.root import LOG, STOPPED, app, check_json, in_lines, stoppable, write_json
from spectile.flows.console import console
from spectile.flows.run.settings import FuseSettings, LineSettings, SceneSettings

if TYPE_CHECKING:
    from rich.console import Console

Prefect = Annotated[
    bool, typer.Option("--prefect", help="Run as a Prefect flow, on a server of its own if none is set.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the cost of the run and write no cube.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write plan and result as JSON.")
]


@app.command(no_args_is_help=False)
@with_options(SceneSettings)
def run(
    scene: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENE...",
            help="The scene, a path or URL: GeoTIFF, JPEG 2000, PNG, JPEG, ENVI; or a Sentinel-2 folder "
            "(.SAFE), a folder of files of one band each, or a STAC item (.json). With several scenes, or a "
            "pattern in quotes, the cubes go into the folder --out, named after the scenes.",
        ),
    ],
    prefect: Prefect = False,
    dry_run: DryRun = False,
    json_file: JsonFile = None,
    **options: Any,
) -> None:
    """Turn a scene into a hyperspectral cube.

    Writes CUBE.zarr and a quicklook picture beside it. --resume continues a run that was stopped.
    """
    from spectile.flows.watching.each import expand, is_pattern

    if len(scene) == 1 and not is_pattern(scene[0]):
        options["scene"] = scene[0]
        process(SceneSettings, options, prefect=prefect, dry_run=dry_run, json_file=json_file)
    else:
        process_several(expand(scene), options, prefect=prefect, dry_run=dry_run, json_file=json_file)


def process_several(
    scenes: Sequence[str],
    options: Mapping[str, Any],
    *,
    prefect: bool,
    dry_run: bool,
    json_file: Path | None,
) -> None:
    """Carry out the runs of several scenes, or plan them only; one that fails does not stop the others.

    Raises
    ------
    SpectileError : scenes failed, after the others were made.
    """
    from spectile.flows.watching.each import COLUMNS, settings_of, table

    screen = in_lines()
    settings = settings_of(scenes, given(options))
    for each in settings:
        check_json(json_file, each.scene, each.out)
    if dry_run:
        from spectile.flows.console import plan_map
        from spectile.flows.run.planning import check_start

        for each in settings:
            check_start(each, [each.scene])
        _, report = plan_map.map_plans(settings)
        console.print_pairs(plan_map.channel_pairs(report))
        console.print_table(plan_map.PLAN_COLUMNS, plan_map.plan_rows(report))
    else:
        report = _run_several(settings, screen, prefect=prefect)
        console.print_table(COLUMNS, table(report))
    if json_file is not None:
        write_json(json_file, report)
    if report.get("failed"):
        raise SpectileError(f"{report['failed']} of {len(settings)} scenes failed")


def process(
    kind: type[SceneSettings | LineSettings | FuseSettings],
    options: Mapping[str, Any],
    *,
    prefect: bool,
    dry_run: bool,
    json_file: Path | None,
) -> None:
    """Run or only plan, and print and write the results."""
    screen = in_lines()
    settings = kind(**given(options))
    LOG.info("reading %s", ", ".join(console.visible(redact_url(place)) for place in settings.places[:3]))
    for place in settings.places:
        check_json(json_file, place, settings.out)
    if dry_run:
        facts = _plan(settings)
        console.print_pairs(console.plan_pairs(facts))
    else:
        facts = _run(settings, screen, prefect=prefect)
        console.print_pairs(console.result_pairs(facts))
    if json_file is not None:
        write_json(json_file, facts)
    failures = () if dry_run else facts["result"]["failures"]
    if failures:
        raise SpectileError(
            f"{len(failures)} of {facts['plan']['blocks']} blocks failed: {failures[0]}",
            where=facts["result"]["cube"],
        )


def _plan(settings: SceneSettings | LineSettings | FuseSettings) -> dict[str, Any]:
    from spectile.flows.run.execute import report
    from spectile.flows.run.line import check_line_start, prepare_line
    from spectile.flows.run.planning import check_start, prepare

    if isinstance(settings, SceneSettings):
        check_start(settings, [settings.scene])
        return report(prepare(settings, dry=True))
    if isinstance(settings, FuseSettings):
        from spectile.flows.run.fusion import prepare_fusion

        check_start(settings, settings.places)
        return report(prepare_fusion(settings, dry=True))
    check_line_start(settings)
    return report(prepare_line(settings, dry=True))


def _run(
    settings: SceneSettings | LineSettings | FuseSettings, screen: Console, *, prefect: bool
) -> dict[str, Any]:
    with stoppable(), console.RunProgress(screen) as progress:
        try:
            with flow_of(settings, prefect=prefect) as run_flow:
                if run_flow is not None:
                    with console.observed_by(progress):
                        return run_flow(settings)
            from spectile.flows.run.execute import report, run_scene
            from spectile.flows.run.line import run_line

            if isinstance(settings, SceneSettings):
                return report(*run_scene(settings, observer=progress))
            if isinstance(settings, FuseSettings):
                from spectile.flows.run.fusion import run_fusion

                return report(*run_fusion(settings, observer=progress))
            return report(*run_line(settings, observer=progress))
        except KeyboardInterrupt:
            done = f"{progress.blocks_done} of {progress.blocks} blocks are done" if progress.blocks else ""
            message = f"stopped; {done or 'no block was started'}; run again with --resume"
    print(message, file=sys.stderr)
    raise typer.Exit(STOPPED)


def _run_several(settings: Sequence[SceneSettings], screen: Console, *, prefect: bool) -> dict[str, Any]:
    from spectile.flows.run.execute import report, run_scene
    from spectile.flows.watching.each import run_each

    def run_one(each: SceneSettings) -> dict[str, Any]:
        return report(*run_scene(each, observer=console.current_observer()))

    with stoppable():
        try:
            with flow_of(*settings, prefect=prefect) as run_flow:
                return run_each(settings, run_flow or run_one, observe=lambda: console.RunProgress(screen))
        except KeyboardInterrupt:
            print("stopped; run again with --resume", file=sys.stderr)
    raise typer.Exit(STOPPED)
