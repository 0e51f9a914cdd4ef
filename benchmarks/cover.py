"""What the layers q05 and q95 cover on places that training never saw, by class and part of the spectrum.

    SPECTILE_DATA=… python benchmarks/cover.py [--models hyperldm48 vnir48] [--side 128] [--json FILE]

The scenes are those that model/recipes/hyperldm48.toml holds out, of each the middle square of so many
pixels. A pixel's class is what the shipped classifier makes of its true spectrum. The intervals are those
of the product, mean + factor · deviation of the calibration's number of samples, cut at zero.
"""

from __future__ import annotations

import argparse
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shared import arguments, data_folder

from spectile.catalog.bands import VNIR48
from spectile.flows.evaluation.diversity import CLASSIFIER, Pixels, pixels_of
from spectile.flows.training.data import held_out_scenes
from spectile.flows.training.recipe import read_recipe
from spectile.model.checkpoint import load
from spectile.model.measure.diversity import SpectralClassifier, load_classifier
from spectile.model.measure.evaluation import groups
from spectile.model.predict.predictor import load_predictor
from spectile.pipeline.spectra.hyperspectral import Hyperspectral

SMALL = ["--side", "32"]
RECIPE = Path(__file__).parents[1] / "model" / "recipes" / "hyperldm48.toml"
INFRARED_NM = 700.0
FEWEST = 50
"""Pixels of a class below which it has no row."""
Array = NDArray[np.float32]


def middle(scene: Any, side: int) -> Hyperspectral:
    """The square of up to ``side`` pixels in the middle of a scene."""
    height, width = scene.valid.shape
    row, col = (max(extent - side, 0) // 2 for extent in (height, width))
    at = np.s_[row : row + side, col : col + side]
    return Hyperspectral(scene.cube[:, *at].astype(np.float32), scene.bands, scene.valid[at])


def classes_of(pixels: Pixels, spectra: Array, classifier: SpectralClassifier) -> NDArray[np.intp]:
    """The class of each of (P, B) spectra; a band that is missing holds the nearest one."""
    nearest = np.abs(np.arange(len(VNIR48))[:, None] - pixels.kept).argmin(axis=1)
    found: NDArray[np.intp] = classifier.shares(spectra[:, nearest]).argmax(axis=1)
    return found


def rows_of(pixels: Pixels, factors: Any, classifier: SpectralClassifier, names: list[str]) -> dict[str, Any]:
    """The scores of all pixels and of each class."""
    mean, s = pixels.samples.mean(axis=0), pixels.samples.std(axis=0, ddof=1)
    low, high = (np.asarray(side, np.float32)[pixels.kept] for side in (factors.low, factors.high))
    below, above = np.maximum(mean + low * s, 0), np.maximum(mean + high * s, 0)
    inside = (pixels.truth >= below) & (pixels.truth <= above)
    infrared = np.asarray(VNIR48.centre_nm)[pixels.kept] >= INFRARED_NM
    truth = classes_of(pixels, pixels.truth, classifier)
    made = classes_of(pixels, mean, classifier)
    rows: dict[str, Any] = {}
    for number, name in enumerate(["all", *names]):
        at = truth >= 0 if number == 0 else truth == number - 1
        if at.sum() < FEWEST:
            continue
        rows[name] = {
            "pixels": int(at.sum()), "cover": float(inside[at].mean()),
            "cover_visible": float(inside[at][:, ~infrared].mean()),
            "cover_infrared": float(inside[at][:, infrared].mean()),
            "width": float((above - below)[at].mean()),
            "rmse": float(np.sqrt(np.square(mean[at] - pixels.truth[at]).mean())),
            "same_class": float((made[at] == truth[at]).mean()),
        }  # fmt: skip
    return rows


def measure(data: Path, models: list[str], side: int) -> dict[str, Any]:
    """The rows of each place and model."""
    loaded = load(str(files("spectile.model") / "classifiers" / CLASSIFIER))
    classifier, names = load_classifier(loaded), list(loaded.metadata["preset"]["classes"])
    found: dict[str, Any] = {}
    for model in models:
        predictor = load_predictor(model, samples=2)  # more than one, so that it draws noise
        factors = predictor.calibration
        assert factors is not None
        scenes = held_out_scenes(read_recipe(RECIPE), data, predictor.bands, predictor.inputs[0].bands)
        for place, numbers in groups([one.name for one in scenes]).items():
            cut = [(scenes[i].name, middle(scenes[i], side)) for i in numbers]
            pixels = pixels_of(cut, predictor, {}, factors.samples)
            rows = rows_of(pixels, factors, classifier, names)
            found.setdefault(place, {})[model] = rows
            for name, row in rows.items():
                print(
                    f"{place:14} {model:11} {name:11} {row['pixels']:6} px  cover {row['cover']:.2f} "
                    f"(visible {row['cover_visible']:.2f}, infrared {row['cover_infrared']:.2f})  "
                    f"width {row['width']:.2f}  RMSE {row['rmse']:.3f}  same class {row['same_class']:.2f}",
                    flush=True,
                )
    return found


def main() -> None:
    """Measure, print a line for each place, model and class, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["hyperldm48", "vnir48"])
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments(SMALL))
    found = measure(data_folder(), given.models, given.side)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
