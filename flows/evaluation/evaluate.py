"""Models measured by a protocol: rows of one rung and seed, their summary, the table and the JSON."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spectile.catalog.bands import Bands, resampling_matrix
from spectile.catalog.errors import UsageError
from spectile.catalog.inputs import Batch, Raster
from spectile.flows.evaluation.protocols import PROTOCOLS, Floats, Protocol, Split, read_counts
from spectile.flows.evaluation.rows import Rows, code_version
from spectile.flows.training.data import digest
from spectile.model.checkpoint import load
from spectile.model.closed.baselines import baselines_of
from spectile.model.facts import split_name
from spectile.model.measure.ladder import CLOSED_FORM, Fitted
from spectile.model.measure.ladder_networks import STEPS, trained
from spectile.model.measure.ladder_regression import Noisy, Quantiles
from spectile.model.measure.ladder_training import Diffusion
from spectile.model.measure.scores import band_errors, cube_scores, interval_coverage, reliability_scores
from spectile.model.predict.predictor import load_predictor
from spectile.pipeline.block.predict import Predictor
from spectile.pipeline.spectra.hyperspectral import Hyperspectral, read_hyperspectral

RUNGS = (*CLOSED_FORM, *STEPS)
"""Every rung, cheap ones first."""
HOUSTON_CROP = Path("houston2018_crop/houston_dataset.mat")
FOLDER = "folder"
FOLDER_SUFFIXES = (".tif", ".tiff", ".h5", ".mat")
REFLECTANCE_PEAK = 1.0
COUNT = 1e-4
"""One stored count, reflectance."""
STRIDE = 64
"""Folder scenes are reflected to multiples of this, or of a longer stride of the network."""


@dataclass(frozen=True, eq=False)
class Row:
    """One model under one seed."""

    facts: dict[str, Any]
    """Scores as plain JSON values."""
    picture: dict[str, Floats]
    """Of the first test image: ``estimate`` (B, h, w), and ``low``, ``high`` of the 90 % interval."""
    fitted: Fitted
    """The model itself."""


SAME_TRAINING = {"regression_noise": "regression"}
"""Rungs that use the training of another rung, and are only evaluated in another way."""


def evaluate_rung(
    protocol: Protocol,
    split: Split,
    rung: str,
    *,
    seed: int,
    samples: int,
    training_steps: int | None = None,
    length: int | None = None,
    trained_as: Row | None = None,
) -> Row:
    """Fit one rung under one seed and score it on the test images.

    ``length`` is that of training where another seed has chosen it. ``trained_as`` is the row of the rung
    that ``SAME_TRAINING`` names, under the same seed, where it is known: its model is taken.

    Raises
    ------
    UsageError
        Where there is no such rung, or fewer than two samples.
    """
    check_rungs([rung])
    if samples < 2:
        raise UsageError("samples", got=samples, expected="2 or more")
    fit = CLOSED_FORM[rung] if rung in CLOSED_FORM else trained(rung, steps=training_steps, length=length)
    parts = [split.training / protocol.full_scale, split.validation / protocol.full_scale]
    began = time.perf_counter()
    inputs = [(part[list(protocol.input_bands)], part) for part in parts]
    fitted = fit(*inputs[0], *inputs[1], seed=seed) if trained_as is None else trained_as.fitted
    fit_seconds = time.perf_counter() - began

    def rgb(test: Floats) -> Floats:
        return test[list(protocol.input_bands)] / np.float32(protocol.full_scale)

    began = time.perf_counter()
    estimates = [fitted.predict(rgb(test)) * protocol.full_scale for test in split.tests]
    facts: dict[str, Any] = {
        "chosen": dict(fitted.chosen),
        "fit_seconds": round(fit_seconds, 2),
        "predict_seconds": round(time.perf_counter() - began, 3),
    }
    single = _scores(protocol, split.tests, estimates)
    if rung == "regression" or not isinstance(fitted, Diffusion | Noisy | Quantiles):
        facts |= {"mean": single, "rmse_by_band": band_errors(split.tests, estimates)}
        return Row(facts, {"estimate": estimates[0]}, fitted)
    drawn = [
        fitted.samples(rgb(test), samples, seed=seed) * np.float32(protocol.full_scale)
        for test in split.tests
    ]
    means = [draws.mean(axis=0) for draws in drawn]
    facts |= {
        "one_step": single,
        "sample": _scores(protocol, split.tests, [draws[0] for draws in drawn]),
        "mean": _scores(protocol, split.tests, means),
        "rmse_by_band": band_errors(split.tests, means),
        **reliability_scores(split.tests, drawn),
    }
    if isinstance(fitted, Diffusion) and fitted.calibration is not None:
        facts["calibrated_90"] = interval_coverage(split.tests, drawn, fitted.calibration)
    return Row(facts, _picture(drawn[0]), fitted)


def _scores(protocol: Protocol, truths: Sequence[Floats], estimates: Sequence[Floats]) -> dict[str, Any]:
    scores = cube_scores(
        truths, estimates, input_bands=protocol.input_bands, peaks=protocol.peaks, offset=1.0
    )
    if protocol.mpsnr_without_input:
        scores |= {key: scores["without_input"][key] for key in ("mpsnr", "mpsnr_at")}
    return scores


def _picture(drawn: Floats) -> dict[str, Floats]:
    low, high = np.quantile(drawn, (0.05, 0.95), axis=0).astype(np.float32)
    return {"estimate": drawn.mean(axis=0), "low": low, "high": high}


def check_rungs(rungs: Sequence[str]) -> None:
    """Raise ``UsageError`` if a name is not that of a rung."""
    unknown = [rung for rung in rungs if rung not in RUNGS]
    if unknown:
        raise UsageError("unknown rung", got=", ".join(unknown), expected=", ".join(RUNGS))


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean over seeds of every number, with each seed's row under ``seeds``."""
    summary: dict[str, Any] = _mean([{k: v for k, v in row.items() if k != "chosen"} for row in rows])
    summary["rmse_sd_over_seeds"] = float(np.std([row["mean"]["rmse"] for row in rows]))
    summary["seeds"] = list(rows)
    return summary


def _mean(values: Sequence[Any]) -> Any:
    """The mean of numbers, lists and mappings of numbers, entry by entry; None where any is None."""
    first = values[0]
    if isinstance(first, Mapping):
        return {key: _mean([value[key] for value in values]) for key in first}
    if isinstance(first, list):
        return [_mean(list(entry)) for entry in zip(*values, strict=True)]
    return None if any(value is None for value in values) else float(np.mean(values))


def evaluate_counts(
    protocol: Protocol,
    data: Path,
    *,
    rungs: Sequence[str] = RUNGS,
    seeds: int = 3,
    samples: int = 16,
    training_steps: int | None = None,
    keep: Path | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, Any], Split, dict[str, dict[str, Floats]]]:
    """The report of a protocol in counts, its split, and the first seed's pictures.

    Rows are measured seed by seed, cheap rungs first. With a folder ``keep`` each is kept there, and those
    that are there are not measured again (``flows/evaluation/rows.py``).

    Raises
    ------
    UsageError
        Where a rung does not exist, the scene is not the protocol's, or the rows kept are of another
        evaluation.
    """
    check_rungs(rungs)
    split = protocol.cut(read_counts(data, protocol.bands))
    identity = {
        "protocol": protocol.name, "peaks": list(protocol.peaks), "samples": samples,
        "training_steps": training_steps, "sha256": digest(data), "code": code_version(),
    }  # fmt: skip
    rows = Rows(keep, identity)
    for seed in range(seeds):
        known: dict[str | None, Row] = {}
        for rung in rungs:
            if rows.find(rung, seed) or (seed and rung in CLOSED_FORM):
                continue
            announce(f"{rung}, seed {seed}")
            first = rows.find(rung, 0)
            row = evaluate_rung(
                protocol,
                split,
                rung,
                seed=seed,
                samples=samples,
                training_steps=training_steps,
                length=first["chosen"].get("steps") if first else None,
                trained_as=known.get(SAME_TRAINING.get(rung)),
            )
            if rung in SAME_TRAINING.values():
                known[rung] = row
            rows.add(rung, seed, row.facts, row.picture, row.fitted)
    return (
        report_counts(protocol, {rung: rows.of(rung, seeds) for rung in rungs}),
        split,
        rows.pictures(rungs),
    )


def report_counts(protocol: Protocol, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """The report of a protocol in counts from the rows of each rung."""
    return {
        "protocol": protocol.name,
        "unit": "counts",
        "split": protocol.split,
        "remarks": protocol.remarks,
        "rgb_bands": list(protocol.rgb_bands),
        "full_scale": protocol.full_scale,
        "peaks": list(protocol.peaks),
        "mpsnr": "without the input bands" if protocol.mpsnr_without_input else "all bands",
        "paper": None if protocol.paper is None else dict(protocol.paper),
        "paper_of": protocol.paper_of,
        "models": {rung: summarise(of_rung) for rung, of_rung in rows.items()},
    }


def evaluate_folder(
    folder: Path, models: Sequence[str], *, samples: int, peak: float, announce: Callable[[str], None]
) -> dict[str, Any]:
    """The report of reflectance models on the scenes of a folder, with the baselines that they carry.

    ``NAME:ridge`` and ``NAME:lookup`` are those baselines alone.

    Input is simulated through each model's own response; only bands that the scene supports count.

    Raises
    ------
    SpectileError
        Where a scene or model cannot be used, or the folder has no scene.
    """
    paths = scene_paths(folder)
    if not models:
        raise UsageError("no model to evaluate", remedy="name one with --model")
    report: dict[str, Any] = {
        "protocol": FOLDER, "unit": "reflectance", "peaks": [peak], "mpsnr": "all bands", "paper": None,
        "split": "", "remarks": "", "rgb_bands": "simulated through the model's response", "models": {},
    }  # fmt: skip
    for name in models:
        predictor = load_predictor(name)
        folder_or_name, kind = split_name(name)
        baselines = baselines_of(load(folder_or_name))
        rungs = {name: baselines[kind]} if kind else {f"{name}/{rung}": baselines[rung] for rung in baselines}
        rows: dict[str, list[dict[str, Any]]] = {}
        for path in paths:
            announce(f"{name} on {path.name}")
            scene = read_hyperspectral(path)
            spec = predictor.inputs[0]
            rgb, truth, valid, kept = as_model_sees(scene, predictor.bands, spec.bands, path.name)
            rgb = spec.filled(Raster(rgb, valid)).values.astype(np.float32)
            if kind is None:
                row = _draw(predictor, rgb, truth, valid, kept, samples, peak)
                rows.setdefault(name, []).append({"scene": path.name, **row})
            for rung, baseline in rungs.items():
                scores = cube_scores(
                    [truth], [baseline.predict(rgb)[kept]], input_bands=[], peaks=[peak], offset=COUNT,
                    valid=[valid],
                )  # fmt: skip
                rows.setdefault(rung, []).append({"scene": path.name, "mean": scores})
        for key, scenes in rows.items():
            plain = [{k: v for k, v in row.items() if k not in ("scene", "rmse_by_band")} for row in scenes]
            report["models"][key] = {**_mean(plain), "scenes": scenes}
    return report


def scene_paths(folder: Path) -> list[Path]:
    """The scenes of a folder, by name; UsageError where there are none."""
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in FOLDER_SUFFIXES)
    if not paths:
        raise UsageError("no scene there", where=str(folder), expected=f"files {', '.join(FOLDER_SUFFIXES)}")
    return paths


def as_model_sees(
    scene: Hyperspectral, bands: Bands, response: Bands, name: str
) -> tuple[Floats, Floats, Any, Any]:
    """Simulated input (3, h, w), truth in the bands kept (K, h, w), mask (h, w), their positions (K,)."""
    camera, seen = resampling_matrix(scene.bands, response)
    matrix, supported = resampling_matrix(scene.bands, bands)
    if not seen.all() or not supported.any():
        raise UsageError("the scene's bands do not cover the model's input or output", where=name)
    kept = np.flatnonzero(supported)
    rgb = np.tensordot(camera.astype(np.float32), scene.cube, 1)
    truth = np.tensordot(matrix[kept].astype(np.float32), scene.cube, 1)
    return rgb, truth, scene.valid, kept


def draw_samples(predictor: Predictor, rgb: Floats, samples: int) -> Floats:
    """(K, B, h, w) samples of a whole scene (C, h, w), reflected to sides that its network takes."""
    height, width = rgb.shape[1:]
    stride = max(STRIDE, predictor.stride)
    missing = [(0, 0), (0, -height % stride), (0, -width % stride)]
    tile = np.pad(rgb, missing, mode="symmetric")[None]
    batch = Batch.of_colours(tile, name=predictor.inputs[0].name)
    return np.stack([cube[0, :, :height, :width] for cube in predictor.predict(batch, range(samples))])


def _draw(
    predictor: Predictor, rgb: Floats, truth: Floats, valid: Any, kept: Any, samples: int, peak: float
) -> dict[str, Any]:
    drawn = draw_samples(predictor, rgb, samples)[:, kept]

    def scores(estimate: Floats) -> dict[str, Any]:
        return cube_scores([truth], [estimate], input_bands=[], peaks=[peak], offset=COUNT, valid=[valid])

    mean = drawn.mean(axis=0)
    return {
        "sample": scores(drawn[0]),
        "mean": scores(mean),
        "rmse_by_band": band_errors([truth], [mean], valid=[valid]),
        **reliability_scores([truth], [drawn], valid=[valid]),
    }


COLUMNS = ("model", "RMSE", "SAM", "MPSNR", "MSSIM", "MRAE", "ERGAS", "spread/skill", "cover 90", "CRPS")


def table(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A line for each model, best RMSE first; samplers have one for a sample and one for the mean."""
    digits = 1 if report["unit"] == "counts" else 4
    lines: list[tuple[float, tuple[str, ...]]] = []
    for name, row in report["models"].items():
        known = ("", "", "")
        if "sample" in row:
            lines.append(_line(f"{name}, one sample", row["sample"], digits, known))
            ratio = row["spread_skill"]
            known = (
                "" if ratio is None else f"{ratio:.2f}",
                f"{row['coverage']['90']:.2f}",
                f"{row['crps']:.{digits}f}",
            )
            name = f"{name}, mean of {row['samples']:.0f}"
        lines.append(_line(name, row["mean"], digits, known))
        if "one_step" in row:
            lines.append(_line(f"{name.split(',')[0]}, one step", row["one_step"], digits, ("", "", "")))
    lines.sort(key=lambda line: line[0])
    cells = [line for _, line in lines]
    if report["paper"]:
        paper = report["paper"]
        cells.append(
            (f"the paper's {report['paper_of']}", f"{paper['rmse']:.2f}", f"{paper['sam']:.4f}",
             f"{paper['mpsnr']:.2f}", f"{paper['mssim']:.4f}", "", "", "", "", "")
        )  # fmt: skip
    return cells


def _line(
    name: str, scores: Mapping[str, Any], digits: int, known: tuple[str, str, str]
) -> tuple[float, tuple[str, ...]]:
    cells = (
        name,
        f"{scores['rmse']:.{digits}f}",
        "" if scores["sam"] is None else f"{scores['sam']:.4f}",
        f"{scores['mpsnr']:.2f}",
        "" if scores["mssim"] is None else f"{scores['mssim']:.4f}",
        f"{scores['mrae']:.4f}",
        f"{scores['ergas']:.2f}",
        *known,
    )
    return scores["rmse"], cells


def evaluate_by_name(
    name: str,
    data: Path | None,
    *,
    models: Sequence[str] = (),
    rungs: Sequence[str] | None = None,
    seeds: int = 3,
    samples: int = 16,
    peaks: Sequence[float] = (),
    training_steps: int | None = None,
    report: Path | None = None,
    keep: Path | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """The report of a protocol by its name; with a folder ``report``, its picture is written there.

    ``keep`` is the folder of rows that a stopped evaluation goes on from.

    Raises
    ------
    SpectileError
        Where an option does not go with the protocol, or the data or a model cannot be used.
    """
    if name == FOLDER:
        if rungs is not None or report is not None or keep is not None:
            raise UsageError("not an option of the protocol folder", got="--rungs, --report or --keep")
        if data is None or not data.is_dir():
            raise UsageError("no folder of scenes", got=data, remedy="name it with --data")
        if len(peaks) > 1:
            raise UsageError("the protocol folder takes one peak", got=list(peaks))
        return evaluate_folder(
            data, models, samples=samples, peak=peaks[0] if peaks else REFLECTANCE_PEAK, announce=announce
        )
    if models:
        raise UsageError(
            f"{name} is in sensor counts, which no reflectance model takes",
            got=f"--model {models[0]}",
            remedy="leave it out: the rung cascade is trained on the scene; or use --protocol folder",
        )
    protocol = replace(PROTOCOLS[name], peaks=tuple(peaks)) if peaks else PROTOCOLS[name]
    facts, split, pictures = evaluate_counts(
        protocol,
        find_data(name, data, os.environ.get("SPECTILE_DATA")),
        rungs=RUNGS if rungs is None else rungs,
        seeds=seeds,
        samples=samples,
        training_steps=training_steps,
        keep=keep,
        announce=announce,
    )
    if report is not None:
        from spectile.flows.evaluation.report import draw_report  # matplotlib only where a picture is wanted

        report.mkdir(parents=True, exist_ok=True)
        draw_report(report / f"{name}.png", facts, split.tests[0], pictures)
    return facts


def find_data(protocol: str, data: Path | None, root: str | None) -> Path:
    """Where a protocol's data are: as given, or the Houston crop below the folder of real imagery.

    Raises
    ------
    UsageError
        Where nothing says it.
    """
    if data is not None:
        return data
    if protocol == "houston-crop" and root:
        return Path(root) / HOUSTON_CROP
    raise UsageError(f"the protocol {protocol} needs its data", remedy="name them with --data")
