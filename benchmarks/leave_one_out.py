"""Leave one scene out: the shipped recipe with five real scenes, trained without each, tried on it.

    SPECTILE_DATA=… python benchmarks/leave_one_out.py
    SPECTILE_DATA=… python benchmarks/leave_one_out.py [FOLD ...] [--out FOLDER] [--steps N] [--shipped]

The first is a small run, to see that it works: one scene left out of a few steps. The whole takes days.
``--shipped`` trains nothing: the shipped weights and their own baselines are tried on the scenes that they
were not trained on. Run again, it goes on where it stopped. FOLDER gets a checkpoint a fold (they are not
shipped: the terms of some scenes do not allow it), rows.json, and the table on the terminal. Ridge (degree
and penalty by validation) and k nearest neighbours (k by validation) are fitted on the same training pixels.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.io import loadmat
from shared import OUT, arguments, data_folder
from shared.neighbours import nearest

from spectile.catalog.bands import Bands
from spectile.catalog.calibration import Calibration
from spectile.catalog.files import write_text
from spectile.flows.console.console import print_table
from spectile.flows.training.data import SceneSets, build_scenes
from spectile.flows.training.recipe import Recipe, read_recipe
from spectile.flows.training.sources import SceneSource
from spectile.flows.training.train import fit_baselines
from spectile.model import checkpoint
from spectile.model.cascade.cascade import SpectralCascade
from spectile.model.cascade.train import train
from spectile.model.closed.baselines import load_baselines
from spectile.model.closed.regressions import Neighbours
from spectile.model.data.crops import Batch, CropSource, Floats, TrainingScene
from spectile.model.measure.evaluation import evaluate, held_out_crops
from spectile.model.predict.network import load_calibration
from spectile.model.registry import load_network
from spectile.pipeline.spectra.libraries import read_spectral_library

RECIPE = Path(__file__).parents[1] / "model/recipes/vnir48.toml"
AVIRIS_BANDS = "spectral_libraries/s07_AV95_envi.sli"
JASPER_RIDGE = "aviris_crops/jasperRidge2_R198.mat"
WEIGHT = 0.06
"""How often each real scene is drawn; the simulator and the library keep the recipe's weights."""
SMALL = ["potsdam", "--steps", "20", "--out", str(OUT / "leave-one-out-small")]
CROPS = 12
"""At most, of the scene that is left out: all of its pixels, once."""
Tried = tuple[SpectralCascade, Calibration | None, dict[str, Any], Floats]
"""A model, what it says of its own uncertainty, its rungs, and what masked pixels of its input hold."""

FOLDS: dict[str, tuple[str, ...]] = {
    "houston": ("houston_dataset",),
    "jasper_ridge": ("jasper_ridge",),
    "muufl": ("a_hsi_img_for_VI_demo", "an_hsi_image_sub_for_demo", "an_hsi_img_for_tgt_det_demo"),
    "potsdam": ("enmap_potsdam",),
    "harv": ("HARV_026_hsi_1m_426b",),
}
"""The files of each scene, which are left out together."""
UNSEEN = ("houston", "jasper_ridge", "potsdam")
"""Of these, scenes that the shipped weights were not trained on."""
MORE = (
    # Counts of radiance, brought to the range of reflectance: angles mean something, levels do not.
    SceneSource(
        "houston2018_crop/houston_dataset.mat", "DFC 2018 Houston", "DFC2018 terms", scale=5e-5,
        bands_of="houston2018", dataset="hyprImg", good_nm=(370.0, 1100.0), weight=WEIGHT,
    ),
    SceneSource("enmap_potsdam", "EnMAP Potsdam", "DLR", glob="*.tif", scale=1e-4, weight=WEIGHT),
)  # fmt: skip


def main() -> None:
    """Train and measure the folds that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folds", nargs="*", metavar="FOLD", help=", ".join(FOLDS))
    parser.add_argument("--out", type=Path, default=OUT / "leave-one-out")
    parser.add_argument("--steps", type=int, help="of each fold; the recipe's own if unsaid")
    parser.add_argument("--shipped", action="store_true", help="measure the shipped weights instead")
    given = parser.parse_args(arguments(SMALL))
    offered = UNSEEN if given.shipped else tuple(FOLDS)
    if unknown := set(given.folds) - set(offered):
        parser.error(f"no fold {min(unknown)} among {', '.join(offered)}")
    if given.shipped and given.steps:
        parser.error("--shipped trains nothing: leave out --steps")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    given.out.mkdir(parents=True, exist_ok=True)
    store = given.out / "rows.json"
    rows: dict[str, Any] = json.loads(store.read_text()) if store.exists() else {}
    missing = [fold for fold in given.folds or offered if fold not in rows]
    if missing:
        recipe, sets = everything(data_folder())
        if given.steps:
            recipe = replace(recipe, training=replace(recipe.training, steps=given.steps))
        known = shipped(recipe, sets) if given.shipped else None
    for fold in missing:
        model, factors, rungs, fill = known or trained_without(fold, recipe, sets, given.out / fold)
        batch = crops_of(fold, recipe, sets, fill)
        row = evaluate(model, batch, samples=16, seed=1, baselines=rungs, factors=factors)
        rows[fold] = {**row, "k": rungs["knn"].model.chosen["k"], "steps": recipe.training.steps}
        write_text(store, json.dumps(rows, indent=1))
        print(fold, json.dumps(rows[fold]), flush=True)
    lines = []
    for fold, row in rows.items():
        for name in ("ridge", "knn", "lookup", "closed_form", "one_step", "sample", "mean_of_samples"):
            lines.append((fold, name, f"{row[name]['rmse']:.4f}", f"{row[name]['sam']:.4f}"))
    print_table(("left out", "model", "RMSE", "SAM"), lines)


def everything(data: Path) -> tuple[Recipe, SceneSets]:
    """The recipe and all scenes: for training in its parts, and each of the five whole as held out."""
    recipe = read_recipe(RECIPE)
    assert isinstance(recipe, Recipe)
    scenes = [replace(scene, weight=WEIGHT) for scene in recipe.scenes if not scene.held_out] + list(MORE)
    stems = [stem for group in FOLDS.values() for stem in group]
    whole = [
        replace(scene, held_out=True, held_out_columns=0, validation_columns=0)
        for scene in [*scenes, *(scene for scene in recipe.scenes if scene.held_out)]
        if Path(scene.path).stem in stems
    ]
    scenes = [replace(scene, held_out_columns=0) for scene in scenes]
    sets = build_scenes(replace(recipe, scenes=(*scenes, *whole)), recipe.config(), data)
    cube, bands = jasper_ridge(data)
    valid = np.ones(cube.shape[1:], dtype=bool)
    sets.training.append(TrainingScene("jasper_ridge/training", cube, bands, valid, WEIGHT, JASPER_RIDGE))
    sets.held_out.append(TrainingScene("jasper_ridge/held_out", cube, bands, valid))
    return recipe, sets


def jasper_ridge(data: Path) -> tuple[NDArray[np.float16], Bands]:
    """(S, 100, 100) the AVIRIS crop in the bands up to 1100 nm; its columns are pixels in Fortran order."""
    file = loadmat(data / JASPER_RIDGE)
    aviris = read_spectral_library(data / AVIRIS_BANDS).bands
    bands = aviris.subset(file["SlectBands"].ravel().astype(int) - 1)
    keep = np.flatnonzero(np.asarray(bands.centre_nm) <= 1100.0)
    counts = file["Y"].reshape(len(bands), 100, 100, order="F")[keep]
    return (counts * 2e-4).astype(np.float16), bands.subset(keep)


def trained_without(fold: str, recipe: Recipe, sets: SceneSets, out_dir: Path) -> Tried:
    """The recipe trained without a scene, and its rungs."""
    training, validation = without([fold], sets)
    cascade = recipe.config()
    train(
        recipe.training, cascade, training, validation, out_dir,
        metadata={"name": f"without-{fold}", "prediction": "v"},
        progress=lambda record: None if "of" in record else print(fold, dict(record), flush=True),
    )  # fmt: skip
    rungs: dict[str, Any] = fit_baselines(recipe, cascade, SceneSets(training, validation, [], []))
    rungs["knn"] = Spectra(nearest(cascade, training, validation))
    loaded = checkpoint.load(out_dir)
    return load_network(loaded), load_calibration(loaded, cascade.bands), rungs, fill_of(loaded)


def shipped(recipe: Recipe, sets: SceneSets) -> Tried:
    """The shipped weights and their rungs; k-NN is fitted to the scenes that they were trained on."""
    rungs: dict[str, Any] = {**load_baselines(recipe.name)}
    rungs["knn"] = Spectra(nearest(recipe.config(), *without(UNSEEN, sets)))
    loaded = checkpoint.load(recipe.name)
    model = load_network(loaded)
    return model, load_calibration(loaded, model.config.bands), rungs, fill_of(loaded)


def fill_of(loaded: checkpoint.Checkpoint) -> Floats:
    """(3,) what masked pixels of its input hold."""
    return np.asarray(loaded.metadata["fill"], dtype=np.float32)


def without(folds: Sequence[str], sets: SceneSets) -> tuple[list[TrainingScene], list[TrainingScene]]:
    """The scenes for training and for validation that are of none of the folds."""
    stems = {stem for fold in folds for stem in FOLDS[fold]}
    training, validation = (
        [scene for scene in scenes if scene.name.split("/")[0] not in stems]
        for scenes in (sets.training, sets.validation)
    )
    return training, validation


def crops_of(fold: str, recipe: Recipe, sets: SceneSets, fill: Floats) -> Batch:
    """The crops of a scene that models are measured on."""
    cascade = recipe.config()
    test = [scene for scene in sets.held_out if scene.name.split("/")[0] in FOLDS[fold]]
    source = CropSource(test, cascade.bands, cascade.response, fill)
    crops = max(CROPS // len(test), 1)
    return held_out_crops(source, crops=crops, size=recipe.training.crop, seed=0)


class Spectra:
    """A rung of the ladder as the baselines are called."""

    def __init__(self, model: Neighbours) -> None:
        self.model = model

    def predict(self, rgb: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, h, w) of (3, h, w)."""
        return self.model.predict(rgb)


if __name__ == "__main__":
    main()
