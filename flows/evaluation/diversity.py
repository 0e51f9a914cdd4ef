"""How diverse the samples of reflectance models are, beside how right they are: ``--protocol diversity``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.errors import UsageError
from spectile.catalog.inputs import Raster
from spectile.flows.evaluation.evaluate import as_model_sees, draw_samples, scene_paths
from spectile.flows.training.data import held_out_scenes
from spectile.flows.training.recipe import read_recipe
from spectile.model.checkpoint import load
from spectile.model.closed.baselines import Baseline, baselines_of
from spectile.model.closed.regressions import Neighbours
from spectile.model.measure.diversity import (
    SpectralClassifier,
    load_classifier,
    multiple_diversity,
    nearest_distance,
    spectral_diversity,
    spectral_fid,
    spread_for,
)
from spectile.model.measure.evaluation import groups
from spectile.model.measure.scores import reliability_scores
from spectile.model.predict.predictor import load_predictor
from spectile.pipeline.block.predict import Predictor
from spectile.pipeline.spectra.hyperspectral import Hyperspectral, read_hyperspectral

Floats = NDArray[np.float32]

DIVERSITY = "diversity"
CLASSIFIER = "cover48"
"""The shipped classifier of pixels; docs/hyperldm.md has its data and its accuracy."""


OWN = "at equal error"
"""A model's own samples, moved about their mean."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """The valid pixels of a place, as one model sees and gives them."""

    truth: Floats
    """(P, B) in the bands that the scenes have."""
    samples: Floats
    """(K, P, B)."""
    ridge: Floats
    """(P, B) the regression that comes with the model; its samples' mean where none does."""
    kept: NDArray[np.intp]
    """(B,) positions among the model's bands."""


def evaluate_diversity(
    data: Path, models: Sequence[str], *, samples: int, announce: Callable[[str], None], data_dir: Path
) -> dict[str, Any]:
    """The report of models on places: scores of each as it samples, and at the error of the first.

    Parameters
    ----------
    data : a folder of scenes in reflectance, or a recipe, whose held-out scenes are taken.
    models : two or more names or folders; of networks.
    samples : drawn at each pixel.
    announce : is called with a line before each model and place.
    data_dir : what a recipe's paths are below.

    Raises
    ------
    SpectileError
        Where a scene, the recipe or a model cannot be used.
    """
    if not models:
        raise UsageError("no model to evaluate", remedy="name one with --model")
    classifier = load_classifier(load(str(files("spectile.model") / "classifiers" / CLASSIFIER)))
    report: dict[str, Any] = {"protocol": DIVERSITY, "samples": samples, "places": {}}
    predictors = {name: load_predictor(name, samples=samples) for name in models}
    baselines = {name: baselines_of(load(name)) for name in models}
    for place, scenes in _places(data, data_dir, predictors[models[0]]).items():
        rows: dict[str, Any] = {}
        goal: float | None = None
        for name, predictor in predictors.items():
            announce(f"{name} on {place}")
            pixels = pixels_of(scenes, predictor, baselines[name], samples)
            lookup = baselines[name].get("lookup")
            known = lookup.spectra if isinstance(lookup, Neighbours) else None
            rows[name] = row = scores_of(pixels, pixels.samples, classifier, known)
            goal = row["sample_rmse"] if goal is None else goal
            for label, drawn in at_error(pixels, goal, seed=0).items():
                if label == OWN and name == models[0]:
                    continue  # these are its samples as they are
                rows[f"{name}, {label}"] = scores_of(pixels, drawn, classifier, known)
        report["places"][place] = rows
    return report


def _places(data: Path, data_dir: Path, predictor: Predictor) -> dict[str, list[tuple[str, Hyperspectral]]]:
    """Scenes with their names, by place."""
    if data.suffix == ".toml":
        recipe = read_recipe(data)
        held_out = held_out_scenes(recipe, data_dir, predictor.bands, predictor.inputs[0].bands)
        scenes = [
            (one.name, Hyperspectral(one.cube.astype(np.float32), one.bands, one.valid)) for one in held_out
        ]
    else:
        scenes = [(path.name, read_hyperspectral(path)) for path in scene_paths(data)]
    return {place: [scenes[i] for i in at] for place, at in groups([name for name, _ in scenes]).items()}


def pixels_of(
    scenes: Sequence[tuple[str, Hyperspectral]],
    predictor: Predictor,
    baselines: Mapping[str, Baseline],
    samples: int,
) -> Pixels:
    """The pixels of a place's scenes, whose bands must be the same."""
    truths, drawn, regressed, positions = [], [], [], []
    spec = predictor.inputs[0]
    for name, scene in scenes:
        rgb, truth, valid, kept = as_model_sees(scene, predictor.bands, spec.bands, name)
        rgb = spec.filled(Raster(rgb, valid)).values.astype(np.float32)
        cubes = draw_samples(predictor, rgb, samples)[:, kept]
        mean = baselines["ridge"].predict(rgb)[kept] if "ridge" in baselines else cubes.mean(axis=0)
        truths.append(truth[:, valid].T)
        drawn.append(np.moveaxis(cubes[:, :, valid], 1, 2))
        regressed.append(mean[:, valid].T)
        positions.append(kept)
    if any(not np.array_equal(one, positions[0]) for one in positions):
        raise UsageError("the scenes of a place have different bands", where=scenes[0][0])
    return Pixels(
        np.concatenate(truths), np.concatenate(drawn, axis=1), np.concatenate(regressed), positions[0]
    )


def at_error(pixels: Pixels, rmse: float, *, seed: int) -> dict[str, Floats]:
    """Samples (K, P, B) of which one errs by ``rmse``.

    They are the model's own, moved about their mean, and the regression with white noise of one size in all
    bands; each where its mean errs by less than that.
    """
    found: dict[str, Floats] = {}
    factor = spread_for(pixels.truth, pixels.samples, rmse)
    mean = pixels.samples.mean(axis=0)
    if factor is not None:
        moved = mean + np.float32(factor) * (pixels.samples - mean)
        found[OWN] = np.clip(moved, 0.0, None).astype(np.float32)
    left = rmse**2 - float(np.square(pixels.ridge - pixels.truth).mean())
    if left > 0.0:
        white = np.random.default_rng(seed).standard_normal(pixels.samples.shape, dtype=np.float32)
        noisy = pixels.ridge + np.float32(np.sqrt(left)) * white
        found["ridge + noise at equal error"] = np.clip(noisy, 0.0, None).astype(np.float32)
    return found


def scores_of(
    pixels: Pixels, samples: Floats, classifier: SpectralClassifier, known: Floats | None
) -> dict[str, Any]:
    """The scores of samples (K, P, B) as plain JSON values.

    ``known`` (Q, 48) are training spectra (cluster means, which a checkpoint carries for its lookup); None
    leaves the distances to them out.
    """
    truth = pixels.truth
    # Reliability takes images: the pixels are one column.
    columns = truth.T[:, :, None], np.moveaxis(samples, 1, 2)[:, :, :, None]
    reliability = reliability_scores([columns[0]], [columns[1]])
    shares = np.stack([classifier.shares(_whole(drawn, pixels.kept)) for drawn in samples])
    real = classifier.shares(_whole(truth, pixels.kept))
    row: dict[str, Any] = {
        "sample_rmse": float(np.sqrt(np.square(samples - truth).mean())),
        "mean_rmse": float(np.sqrt(np.square(samples.mean(axis=0) - truth).mean())),
        "sd": float(np.mean([spectral_diversity(one) for one in shares])),
        "sd_of_truth": spectral_diversity(real),
        "sdm": multiple_diversity(shares),
        "class_agreement": float((shares.argmax(axis=2) == real.argmax(axis=1)).mean()),
        "energy_score": reliability["energy_score"],
        "spread_skill": reliability["spread_skill"],
        "cover_90": reliability["coverage"]["90"],
        "spectral_fid": float(np.mean([spectral_fid(one, truth) for one in samples[:4]])),
        "bands": len(pixels.kept),
        "pixels": len(truth),
    }
    if known is not None:
        of_training = known[:, pixels.kept]
        row["nearest_training"] = float(np.median(nearest_distance(samples[0], of_training)))
        row["nearest_training_of_truth"] = float(np.median(nearest_distance(truth, of_training)))
    return row


def _whole(spectra: Floats, kept: NDArray[np.intp]) -> Floats:
    """Spectra in all of the classifier's bands: a missing one holds the nearest that is there."""
    at = np.arange(48)
    nearest = np.abs(at[:, None] - kept).argmin(axis=1)
    return spectra[:, nearest]


COLUMNS = (
    "place",
    "model",
    "RMSE of one",
    "of the mean",
    "energy",
    "cover 90",
    "SD",
    "SDM",
    "FID",
    "nearest",
)


def table(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A line for each place and model; SD and the nearest training spectrum with those of the truth."""
    lines: list[tuple[str, ...]] = []
    for place, rows in report["places"].items():
        for name, row in rows.items():
            nearest = ""
            if "nearest_training" in row:
                nearest = f"{row['nearest_training']:.4f} ({row['nearest_training_of_truth']:.4f})"
            lines.append(
                (
                    place, name, f"{row['sample_rmse']:.4f}", f"{row['mean_rmse']:.4f}",
                    f"{row['energy_score']:.4f}", f"{row['cover_90']:.2f}",
                    f"{row['sd']:.3f} ({row['sd_of_truth']:.3f})", f"{row['sdm']:.3f}",
                    f"{row['spectral_fid']:.4f}", nearest,
                )
            )  # fmt: skip
    return lines
