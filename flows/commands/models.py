"""``spectile models``, ``train`` and ``evaluate``: list, train and measure models."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from spectile.catalog.choices import Device
from spectile.catalog.errors import UsageError
from spectile.flows.commands.root import LOG, app, check_json, in_lines, stoppable, write_json
from spectile.flows.console import console


@app.command()
def models() -> None:
    """List the models: bands, range, size, digest, held-out error."""
    from spectile.flows.console import describe

    console.print_table(describe.MODEL_COLUMNS, describe.describe_models())
    if held_out := describe.describe_held_out():
        print()
        console.print_table(describe.HELD_OUT_COLUMNS, held_out)


@app.command()
def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="What to train on which data: a TOML file.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The checkpoint folder to write.")],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", envvar="SPECTILE_DATA", help="The folder of the recipe's data."),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the networks are trained.")] = "auto",
) -> None:
    """Train a model from a recipe; model/recipes has those of the included models."""
    from spectile.flows.training.report import record_line
    from spectile.flows.training.train import train_from_recipe

    in_lines()
    with stoppable():
        table = train_from_recipe(
            recipe,
            data or Path(),
            out,
            device=device,
            progress=lambda record: LOG.info(record_line(record)),
            announce=LOG.info,
        )
    print(json.dumps(table, indent=2))


@app.command()
def evaluate(
    protocol: Annotated[
        Literal[
            "houston-crop", "pavia-pc40-8", "houston-2018", "houston-2018-hyperldm", "folder", "diversity"
        ],
        typer.Option(help="Which pixels train and test, and how (docs/evaluation.md)."),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The scene, the folder of scenes, or for diversity a recipe that holds scenes out.",
            show_default="houston-crop: below $SPECTILE_DATA",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|PATH", help="A reflectance model, for folder and diversity; repeat it for more."
        ),
    ] = None,
    rungs: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Rungs to train and compare.", show_default="the whole ladder"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Seeds of every trained rung.")] = 3,
    samples: Annotated[int, typer.Option(min=2, metavar="K", help="Samples drawn at each pixel.")] = 16,
    peaks: Annotated[
        str | None,
        typer.Option(
            "--peak",
            metavar="P,...",
            help="Peaks of the MPSNR, in the data's unit.",
            show_default="the protocol's",
        ),
    ] = None,
    training_steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Most training steps of a rung.", show_default="each rung's"),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every score as JSON.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write a picture into; not for protocol folder."),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep rows in this folder; the same command continues there."),
    ] = None,
) -> None:
    """Measure models: train the ladder on a scene in counts, or test a model on scenes in reflectance."""
    from spectile.flows.evaluation.evaluate import COLUMNS, evaluate_by_name, table
    from spectile.flows.evaluation.rows import ROWS

    check_json(json_file, str(data), f"{keep}/{ROWS}")

    in_lines()
    if protocol == "diversity":
        _diversity(data, model or [], samples, json_file)
        return
    with stoppable():
        facts = evaluate_by_name(
            protocol, data, models=model or (), rungs=None if rungs is None else rungs.split(","),
            seeds=seeds, samples=samples, peaks=_parse_peaks(peaks), training_steps=training_steps,
            report=report, keep=keep, announce=LOG.info,
        )  # fmt: skip
    print(", ".join(f"{key}: {facts[key]}" for key in ("protocol", "unit", "rgb_bands", "peaks", "mpsnr")))
    for key in ("split", "remarks"):
        if facts[key]:
            print(f"{key}: {facts[key]}")
    console.print_table(COLUMNS, table(facts))
    if json_file is not None:
        write_json(json_file, facts)


def _diversity(data: Path | None, models: list[str], samples: int, json_file: Path | None) -> None:
    from spectile.flows.evaluation.diversity import COLUMNS, evaluate_diversity, table

    if data is None:
        raise UsageError("no scenes", remedy="name a folder of scenes, or a recipe, with --data")
    root = Path(os.environ.get("SPECTILE_DATA", ""))
    with stoppable():
        facts = evaluate_diversity(data, models, samples=samples, announce=LOG.info, data_dir=root)
    console.print_table(COLUMNS, table(facts))
    if json_file is not None:
        write_json(json_file, facts)


def _parse_peaks(text: str | None) -> tuple[float, ...]:
    try:
        peaks = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as err:
        raise typer.BadParameter(f"{text!r} is not a list of numbers") from err
    if not all(0 < peak < float("inf") for peak in peaks):
        raise typer.BadParameter(f"{text!r}: peaks are positive")
    return peaks
