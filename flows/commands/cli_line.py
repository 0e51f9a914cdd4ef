"""``spectile flight-line``: the options of a line, then those of ``run``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, get_type_hints

import typer

from spectile.catalog.redaction import redact_url
from spectile.flows.commands import app as cli
from spectile.flows.console import console


def with_options_of_run(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command every option of ``run`` that it lacks in place of its ``**options``.

    Parameters
    ----------
    without : names of options that it does not take.
    """
    return lambda command: _extend(command, without)


def _extend(command: Callable[..., None], without: Sequence[str]) -> Callable[..., None]:
    hints = get_type_hints(command, include_extras=True) | get_type_hints(cli.run, include_extras=True)
    hints |= get_type_hints(command, include_extras=True)
    own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    known = {parameter.name for parameter in own} | set(without)
    added = [p for p in inspect.signature(cli.run).parameters.values() if p.name not in known]
    ordered = sorted([*own, *added], key=lambda p: p.default is not p.empty)
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name]) for p in ordered]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


@cli.app.command("flight-line")
@with_options_of_run("scene")
def flight_line(
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENES...", help="RGB rasters, a folder of them, or a STAC item collection (.json)."
        ),
    ],
    out: Annotated[str, typer.Option(metavar="CUBE.zarr", help="The Zarr store to write.")],
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="SCENE", help="Add this scene to a cube that is there; give it again for more."),
    ] = None,
    crs: Annotated[
        str | None,
        typer.Option(
            metavar="CRS",
            help="CRS of the line, e.g. EPSG:32633.",
            show_default="the scenes' own, or the UTM zone of their middle",
        ),
    ] = None,
    resolution: Annotated[
        float | None,
        typer.Option(
            metavar="SIDE",
            help="Side of a pixel, in units of the CRS.",
            show_default="the finest of the scenes",
        ),
    ] = None,
    frame: Annotated[
        Literal["north-up", "line"], typer.Option(help="Whether rows run along the map or the line.")
    ] = "north-up",
    extent: Annotated[
        Any,
        typer.Option(
            parser=cli._parse_region,
            metavar="XMIN,YMIN,XMAX,YMAX",
            help="What the grid covers, in units of its CRS.",
            show_default="what the scenes cover",
        ),
    ] = None,
    combine: Annotated[
        Literal["feather", "first", "nadir"],
        typer.Option(
            help="Where scenes overlap: average RGB by distance to their edges, take the first, or the one "
            "whose centre line is nearest."
        ),
    ] = "feather",
    resampling: Annotated[
        Literal["bilinear", "cubic"], typer.Option(help="How RGB comes between the pixels of a scene.")
    ] = "bilinear",
    radiometry: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]KIND",
            help="What numbers mean, as for run; with NAME= of one scene. Give it again for more.",
            show_default="the files' own metadata",
        ),
    ] = None,
    **options: Any,
) -> None:
    """Turn overlapping RGB scenes into one hyperspectral cube on one grid.

    RGB is resampled and combined before the network. Blocks that no scene reaches are left out.
    """
    from rich.console import Console

    screen = Console(stderr=True, soft_wrap=True)
    console.log_to(screen)
    cli.LOG.info("reading %s", ", ".join(redact_url(scene) for scene in scenes[:3]))
    plain = {name: options.pop(name) for name in ("prefect", "dry_run", "json_file")}
    for scene in scenes:
        cli._check_json(plain["json_file"], scene, out)
    from spectile.flows.run.line import line_settings

    given = {
        "scenes": scenes, "out": out, "add": add, "crs": crs, "resolution": resolution, "frame": frame,
        "extent": extent, "combine": combine, "resampling": resampling, "radiometry": radiometry,
    }  # fmt: skip
    cli.process(line_settings({**options, **given}), screen, **plain)
