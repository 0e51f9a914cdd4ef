"""``spectile models``, ``train`` and ``evaluate``: list, train and measure models."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from spectile.catalog.choices import Device
from spectile.catalog.errors import UsageError
from spectile.flows.commands.root import LOG, app, check_json, in_lines, stoppable, write_json
from spectile.flows.console import console

Fusion = Literal["wald", "paviau-x8", "ksc", "dc", "paviau-x4", "cave-x32", "chikusei-x4"]
"""The protocols of fusion."""


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
            "houston-crop",
            "pavia-pc40-8",
            "houston-2018",
            "houston-2018-hyperldm",
            "folder",
            "diversity",
            Fusion,
        ],
        typer.Option(help="Which pixels train and test, and how (docs/evaluation.md)."),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The scene, the folder of scenes (folder, cave-x32), or for diversity a recipe that holds "
            "scenes out.",
            show_default="houston-crop: below $SPECTILE_DATA",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|PATH",
            help="A reflectance model, for folder and diversity, or the folder of a trained SDP or HSR-Diff, "
            "for fusion; repeat it for more.",
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
    ratio: Annotated[
        int | None,
        typer.Option(min=2, metavar="N", help="Of wald: fine pixels along a coarse one.", show_default="8"),
    ] = None,
    fwhm: Annotated[
        float | None,
        typer.Option(
            metavar="W", help="Of wald: width of the PSF at half maximum, coarse pixels.", show_default="1"
        ),
    ] = None,
    snr: Annotated[
        str | None,
        typer.Option(metavar="HSI,MSI", help="Of wald: signal to noise of both, dB.", show_default="20,30"),
    ] = None,
    sensor: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE[:BAND,...]",
            help="Of fusion: the sharp sensor, or a file of its response curves.",
            show_default="the protocol's",
        ),
    ] = None,
    wavelengths: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of fusion: CSV with wavelength, fwhm (nm), for data without."),
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
    """Measure models on a scene in counts, on scenes in reflectance, or on pairs made of a scene (fusion)."""
    from spectile.flows.evaluation.evaluate import COLUMNS, evaluate_by_name, table
    from spectile.flows.evaluation.rows import ROWS

    check_json(json_file, str(data), f"{keep}/{ROWS}")

    in_lines()
    of_fusion = {
        "--ratio": ratio,
        "--fwhm": fwhm,
        "--snr": snr,
        "--sensor": sensor,
        "--wavelengths": wavelengths,
    }
    of_training = {
        "--rungs": rungs,
        "--peak": peaks,
        "--training-steps": training_steps,
        "--report": report,
        "--keep": keep,
    }
    fusion = protocol in get_args(Fusion)
    if wrong := [key for key, value in (of_training if fusion else of_fusion).items() if value is not None]:
        raise UsageError(f"not an option of the protocol {protocol}", got=", ".join(wrong))
    if fusion:
        from spectile.flows.evaluation.fusion import evaluate_fusion

        with stoppable():
            fused = evaluate_fusion(
                protocol, data, models=model or (), seeds=seeds, samples=samples, sensor=sensor,
                wavelengths=wavelengths, ratio=ratio, fwhm=fwhm, snr_db=_parse_snr(snr), announce=LOG.info,
            )  # fmt: skip
        _show_fusion(fused, json_file)
        return
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


def _show_fusion(report: dict[str, Any], json_file: Path | None) -> None:
    from spectile.flows.evaluation.fusion import COLUMNS, table

    for key in ("protocol", "data", "split", "bands", "msi", "ratio", "snr_db", "remarks"):
        if report[key]:
            print(f"{key}: {report[key]}")
    for key, source in report["sources"].items():
        print(f"source of {key}: {source}")
    console.print_table(COLUMNS, table(report))
    if json_file is not None:
        write_json(json_file, report)


def _parse_snr(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        hsi, msi = (float(part) for part in text.split(","))
    except ValueError as err:
        raise typer.BadParameter(f"{text!r} is not two numbers, e.g. 20,30") from err
    if not (-20.0 <= hsi <= 120.0 and -20.0 <= msi <= 120.0):
        raise typer.BadParameter(f"{text!r}: decibels between -20 and 120")
    return hsi, msi


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
