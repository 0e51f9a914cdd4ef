"""``spectile plan`` and ``spectile status``: what a run will do, and how far it is, as maps."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from spectile.catalog.errors import UsageError
from spectile.flows.commands import app as cli
from spectile.flows.commands import cli_line
from spectile.flows.console import console

_OF_A_LINE = ("crs", "resolution", "frame", "extent", "combine", "resampling")
_OF_A_RUN = (
    "model", "steps", "samples", "layers", "seed", "tile", "halo", "block", "batch", "memory", "nodata",
    "rgb", "device", "dtype", "compiled", "threads", "region",
)  # fmt: skip
"""What decides a plan or its time. The others concern a cube that is there, or the processes."""


def _with_options_of_runs(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with the options of ``flight-line`` that decide a plan in place of its ``**options``."""
    hints = get_type_hints(command, include_extras=True)
    own = [
        p.replace(kind=p.KEYWORD_ONLY, annotation=hints[p.name])
        for p in inspect.signature(command).parameters.values()
        if p.kind is not p.VAR_KEYWORD
    ]
    offered = inspect.signature(cli_line.flight_line).parameters
    wanted = {"radiometry", *_OF_A_LINE, *_OF_A_RUN}
    parameters = [*own, *(parameter for name, parameter in offered.items() if name in wanted)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


@cli.app.command()
@_with_options_of_runs
def plan(
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENES...", help="RGB rasters, a folder of them, or a STAC item collection (.json)."
        ),
    ],
    out: Annotated[
        str, typer.Option(metavar="PLAN.geojson", help="The map to write, a path, s3:// or gs://.")
    ],
    flight_line: Annotated[
        bool, typer.Option("--flight-line", help="One flight line of all scenes, not a cube of each.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the plans as JSON.")
    ] = None,
    **options: Any,
) -> None:
    """Write the blocks of runs as a map, with what they will cost.

    Each block is a polygon in longitude and latitude, for any GIS. No pixel is read, of a flight line masks
    only; the options are those of run, or of flight-line.
    """
    cli._in_lines()
    data = [scene for scene in scenes if not Path(scene).is_dir()]
    for place in (*data, out):
        cli._check_json(json_file, place, out)
    from spectile.flows.console import plan_map
    from spectile.flows.run.line import line_settings

    plan_map.check_map(out, data)
    if flight_line:
        settings: Any = line_settings({**options, "scenes": scenes, "out": out})
    else:
        offered = inspect.signature(cli_line.flight_line).parameters
        of_a_line = {name: options.pop(name) for name in _OF_A_LINE}
        if chosen := [name for name, value in of_a_line.items() if value != offered[name].default]:
            raise UsageError(
                "an option of flight lines", got=f"--{chosen[0]}", remedy="use it with --flight-line"
            )
        radiometry = options.pop("radiometry") or [None]
        if len(radiometry) > 1:
            raise UsageError("two radiometries for all scenes", got=f"--radiometry {', '.join(radiometry)}")
        settings = plan_map.scene_settings(scenes, {**options, "out": out, "radiometry": radiometry[0]})
    features, report = plan_map.map_plans(settings)
    plan_map.write_map(out, features)
    console.print_table(plan_map.PLAN_COLUMNS, plan_map.plan_rows(report))
    if json_file is not None:
        cli._write_json(json_file, report)


@cli.app.command()
def status(
    cube: Annotated[str, typer.Argument(metavar="CUBE", help="A cube, finished or not.")],
    geojson: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write its blocks as a map, a path, s3:// or gs://."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the summary as JSON.")
    ] = None,
) -> None:
    """Print how far a cube is: blocks, pixels, time so far and to go. Reads no pixel."""
    cli._check_json(json_file, cube, cube)
    from spectile.flows.console import plan_map

    if geojson is not None:
        plan_map.check_map(geojson, [cube])
    features, summary = plan_map.map_cube(cube)
    if geojson is not None:
        plan_map.write_map(geojson, features)
    console.print_pairs(plan_map.status_pairs(summary))
    if json_file is not None:
        cli._write_json(json_file, summary)
