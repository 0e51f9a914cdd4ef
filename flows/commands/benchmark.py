"""``spectile benchmark``: what a run costs on this machine, and the model alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spectile.catalog.choices import Device, Dtype
from spectile.flows.commands.root import LOG, app, check_json, in_lines, stoppable, write_json
from spectile.flows.console import console

benchmark = typer.Typer(help="Measure what a run costs on this machine.")
app.add_typer(benchmark, name="benchmark")


def _parse_steps(text: str) -> tuple[int, ...]:
    try:
        steps = tuple(int(part) for part in text.split(","))
    except ValueError as err:
        raise typer.BadParameter(f"{text!r} is not a list of step counts") from err
    if min(steps) < 1 or len(set(steps)) < len(steps):
        raise typer.BadParameter(f"{text!r}: steps are different numbers from 1 on")
    return steps


def _parse_parts(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


@benchmark.command("pipeline")
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
            min=64, metavar="PX", help="Side of a larger scene to compare the peak memory with, px.",
            show_default="memory is left out",
        ),
    ] = None,
    block: Annotated[
        int | None, typer.Option(min=1, metavar="PX", help="Side of a block, px.", show_default="as for run")
    ] = None,
    only: Annotated[
        Any,
        typer.Option(
            parser=_parse_parts, metavar="PART,...",
            help="Some of speed, write, workers, memory, overhead, frameworks.", show_default="all",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds; the median is reported.")] = 3,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every figure as JSON.")
    ] = None,
) -> None:  # fmt: skip
    """Time runs on a simulated scene beside the bare network and beside zarr alone.

    Scenes and cubes lie in the folder for temporary files (TMPDIR) until it ends: 150 bytes for each pixel.
    """
    from spectile.flows.benchmark import pipeline as measures
    from spectile.flows.benchmark import table as shown

    check_json(json_file, model, model)
    in_lines()
    settings = measures.PipelineBenchmark(model, steps, size, large, block, only, repeats, device)
    with stoppable():
        facts = measures.benchmark_pipeline(settings, announce=LOG.info)
    print(*shown.heading(facts), sep="\n", end="\n\n")
    console.print_table(shown.COLUMNS, shown.table(facts))
    if json_file is not None:
        write_json(json_file, facts)


@benchmark.command("model")
def benchmark_model(
    model: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="A model, scdm-paper included, or a checkpoint folder.")
    ] = "vnir48",
    steps: Annotated[
        Any,
        typer.Option(
            parser=_parse_steps,
            metavar="N,...",
            help="Solver steps to compare.",
            show_default="1,4,10; scdm-paper 1",
        ),
    ] = None,
    tile: Annotated[int, typer.Option(min=1, metavar="PX", help="Side of a tile, halo included, px.")] = 256,
    halo: Annotated[
        int, typer.Option(min=0, metavar="PX", help="Overlap on each side of a tile's core, px.")
    ] = 32,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Tiles in one call of the network.", show_default="the device's"
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads of torch.", show_default="the cores")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Number type of the network.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network first.")] = False,
    repeats: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds; the median is reported.")] = 3,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every figure as JSON.")
    ] = None,
) -> None:
    """Count and time a model's parts, beside the published model at its 1000 steps."""
    from spectile.flows.benchmark import model as measures

    check_json(json_file, model, model)
    in_lines()
    settings = measures.ModelBenchmark(
        model, steps, tile, halo, batch, threads, device, dtype, compiled, repeats
    )
    with stoppable():
        facts = measures.benchmark_model(settings, announce=LOG.info)
    print(*measures.heading(facts), sep="\n", end="\n\n")
    console.print_table(*measures.part_table(facts))
    print()
    console.print_table(measures.RUN_COLUMNS, measures.run_table(facts))
    if json_file is not None:
        write_json(json_file, facts)
