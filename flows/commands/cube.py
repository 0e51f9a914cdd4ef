"""``spectile info`` and ``spectile verify``: what a cube is, and whether it is as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectile.catalog.errors import SpectileError, UsageError
from spectile.flows.commands.root import app, check_json, in_lines, stoppable, write_json
from spectile.flows.console import console


@app.command()
def info(
    cube: Annotated[str, typer.Argument(metavar="CUBE", help="A cube, finished or not.")],
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write this and the state of its run as JSON."),
    ] = None,
) -> None:
    """Print what a cube is: size, place, bands, model, status, state of its run. Reads no pixel."""
    check_json(json_file, cube, cube)
    from spectile.flows.console.describe import describe_cube, describe_run
    from spectile.pipeline.store.opening import open_storage

    pairs = describe_cube(cube)
    console.print_pairs(pairs)
    if json_file is not None:
        facts = {name: str(value) for name, value in pairs.items()}
        write_json(json_file, {**facts, "run": describe_run(open_storage(cube))})


@app.command()
def verify(
    cube: Annotated[str, typer.Argument(metavar="CUBE", help="A cube.")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what is damaged or missing, and check again.")
    ] = False,
    scene: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCENE",
            help="The scene, if blocks must be made again; for a flight line its folder, or each scene.",
            show_default="the plan's URL",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="The model that made it.", show_default="the plan's name"),
    ] = None,
    clip: Annotated[
        str | None, typer.Option(metavar="FILE.geojson", help="The polygon that it was clipped by.")
    ] = None,
) -> None:
    """Check that every block of a cube is there, byte for byte as it was written."""
    if (scene or model or clip) and not repair:
        raise UsageError("--scene, --model and --clip are for --repair")
    if repair:
        from spectile.flows.run.repair import repair_cube

        in_lines()
        with stoppable():
            before, left = repair_cube(cube, scene or (), model, clip)
        for problem in before.problems:
            console.print_line(f"was: {problem}")
    else:
        from spectile.pipeline.cube.verify import inspect_cube
        from spectile.pipeline.store.opening import open_storage

        left = inspect_cube(open_storage(cube))
    for problem in left.problems:
        console.print_line(problem)
    if left.problems:
        summary = f"{len(left.problems)} problem(s) found"
        raise SpectileError(summary, where=str(left.cube.storage), remedy="see spectile verify --repair")
    console.print_line(f"{left.cube.storage}: every block is as it was written")
