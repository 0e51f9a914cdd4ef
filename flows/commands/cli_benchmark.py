"""``spectile benchmark pipeline``: what a run costs beside its network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spectile.flows.commands import app as cli
from spectile.flows.console import console


def _parse_parts(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


@cli.benchmark.command("pipeline")
def benchmark_pipeline(
    model: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="A model, or a checkpoint folder.")
    ] = "vnir48",
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Solver steps of each stage.", show_default="the checkpoint's"),
    ] = None,
    size: Annotated[int, typer.Option(min=64, metavar="PX", help="Side of the simulated scene, px.")] = 1024,
    large: Annotated[
        int | None,
        typer.Option(
            min=64, metavar="PX", help="Side of the larger scene that peak memory is compared on, px.",
            show_default="memory is left out",
        ),
    ] = None,
    block: Annotated[
        int | None, typer.Option(min=1, metavar="PX", help="Side of a block, px.", show_default="as of run")
    ] = None,
    only: Annotated[
        Any,
        typer.Option(
            parser=_parse_parts, metavar="PART,...",
            help="Of speed, write, workers, memory, overhead and frameworks.", show_default="all",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds; the median is told.")] = 3,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every figure as JSON.")
    ] = None,
) -> None:  # fmt: skip
    """Time runs on a simulated scene beside the bare network and beside zarr alone.

    Scenes and cubes lie in the folder for temporary files (TMPDIR) until it ends: 150 bytes for each pixel.
    """
    from spectile.flows.benchmark import pipeline as measures
    from spectile.flows.benchmark import table as shown

    cli._check_json(json_file, model, model)
    cli._in_lines()
    settings = measures.PipelineBenchmark(model, steps, size, large, block, only, repeats)
    with cli._stoppable():
        facts = measures.benchmark_pipeline(settings, announce=cli.LOG.info)
    print(*shown.heading(facts), sep="\n", end="\n\n")
    console.print_table(shown.COLUMNS, shown.table(facts))
    if json_file is not None:
        cli._write_json(json_file, facts)
