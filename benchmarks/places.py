"""Leave one place out: a model fitted to all other places and libraries, tried on the one it never saw.

    SPECTILE_DATA=… python benchmarks/places.py
    SPECTILE_DATA=… python benchmarks/places.py --model vnir48-rgb [PLACE ...] [--out FOLDER] [--baselines]
    SPECTILE_DATA=… python benchmarks/places.py --model vnir48-anchored --device cuda
    SPECTILE_DATA=… python benchmarks/places.py --shipped

The first is a small run, to see that it works. The recipe is the shipped model's; its scenes that serve
evaluation alone take part here like the others, so that each is left out once and none is shipped. Features,
penalties, spread and intervals are chosen on the other places (``model/closed/places.py``). ``--shipped``
fits nothing: the shipped models for colours are tried on the places that none of them was trained on. With
``--baselines`` ridge, lookup, k nearest neighbours and a mixture are fitted to the same pixels beside it.
Run again, it goes on where it stopped. RMSE is in reflectance, SAM in radians without pixels darker than
0.02. ``water`` is
the mean error from 750 nm on pixels that the truth shows as water, by green and infrared (McFeeters 1996).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import OUT, arguments, data_folder
from shared.mixture import mixture
from shared.neighbours import nearest
from torch import Tensor

from spectile.catalog.files import write_text
from spectile.catalog.inputs import Batch as Tiles
from spectile.flows.console.console import print_table
from spectile.flows.training.data import SceneSets, build_scenes, camera_responses
from spectile.flows.training.recipe import KernelRecipe, Recipe, read_recipe
from spectile.flows.training.sources import SimulatedScenes
from spectile.flows.training.train import fit_baselines
from spectile.model import checkpoint
from spectile.model.data.crops import Batch, CropSource
from spectile.model.kernel.config import KernelConfig
from spectile.model.kernel.train import fit, groups_of
from spectile.model.predict.network import fill_of, load_calibration
from spectile.model.predict.predictor import load_predictor
from spectile.model.registry import SYSTEMS
from spectile.model.system import Config, Network

RECIPES = Path(__file__).parents[1] / "model/recipes"
MODELS = ("vnir48-rgb", "vnir48-rgbn", "vnir48-s2", "vnir48-anchored")
WEIGHT = 0.08
"""Of a scene that serves evaluation alone, where it takes part."""
DARK = 0.02
CROPS = 24
"""Of a place that is tried, at most."""
SAMPLES = 16
INFRARED_NM = 750.0
WATER = 100
"""Pixels of water at least, for a row to say something of it."""
SMALL = ["San Joaquin", "--out", str(OUT / "places-small"), "--crops", "10"]


def main() -> None:
    """Fit and try the places that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("places", nargs="*", metavar="PLACE")
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--out", type=Path, default=OUT / "places")
    parser.add_argument("--baselines", action="store_true", help="ridge, lookup and k-NN beside it")
    parser.add_argument("--crops", type=int, help="of each place and library; the recipe's own if unsaid")
    parser.add_argument("--steps", type=int, help="of the networks' training; the recipe's own if unsaid")
    parser.add_argument("--device", default="auto", help="where networks are trained")
    parser.add_argument("--shipped", action="store_true", help="try the shipped models instead")
    given = parser.parse_args(arguments(SMALL))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    if given.shipped:
        try_shipped(data_folder())
        return
    folder = given.out / given.model
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "rows.json"
    rows: dict[str, Any] = json.loads(store.read_text()) if store.exists() else {}
    recipe, config, sets = everything(given.model, data_folder(), given.crops, given.steps)
    known = sorted({scene.site for scene in sets.training} - {""})
    if unknown := set(given.places) - set(known):
        parser.error(f"no place {min(unknown)} among {', '.join(known)}")
    missing = [place for place in given.places or known if place not in rows]
    make = maker(recipe, config, sets, given.device) if missing else None
    for place in missing:
        assert make is not None
        rows[place] = row_of(place, recipe, config, sets, make, folder / place, baselines=given.baselines)
        write_text(store, json.dumps(rows, indent=1))
        print(place, json.dumps(rows[place]), flush=True)
    names = [name for name, value in next(iter(rows.values())).items() if isinstance(value, list)]
    print_table(
        ("left out", *names, "infrared RMSE", "NDVI r", "layers cover of 90 %", "width", "water"),
        [
            (
                place,
                *(f"{rmse:.3f} / {sam:.3f}" for rmse, sam in (row[name] for name in names)),
                *(f"{row[name]:.3f}" for name in ("infrared", "ndvi_r", "cover", "width")),
                "" if row["water"] is None else f"{row['water']:+.3f}",
            )
            for place, row in rows.items()
        ],
    )
    mean = {name: np.mean([row[name] for row in rows.values()], axis=0).round(4).tolist() for name in names}
    print("mean over places", json.dumps(mean))


def try_shipped(data: Path) -> None:
    """The means of the shipped models for colours, on the places that serve evaluation alone."""
    recipe = read_recipe(RECIPES / f"{MODELS[0]}.toml")
    assert isinstance(recipe, KernelRecipe)
    config = recipe.config()
    # A recipe without scenes for training and validation is refused, though nothing is fitted here.
    few = SimulatedScenes(scenes=1, validation=1, held_out=0)
    scenes = tuple(scene for scene in recipe.scenes if scene.held_out)
    sets = build_scenes(replace(recipe, scenes=scenes, libraries=(), simulator=few), config, data)
    names = [MODELS[0], f"{MODELS[0]}:ridge", "vnir48", "vnir48:ridge", "vnir48:lookup"]
    predictors = {name: load_predictor(name, samples=1, device="cpu") for name in names}
    lines = []
    for place in sorted({scene.site for scene in sets.held_out}):
        shown = [scene for scene in sets.held_out if scene.site == place]
        row = []
        for predictor in predictors.values():
            fill = np.array(predictor.inputs[0].fill, np.float32)
            source = CropSource(shown, config.bands, config.response, fill)
            batch = source.every_pixel((0,), size=recipe.training.crop, crops=max(CROPS // len(shown), 1))
            (mean,) = predictor.predict(Tiles.of_colours(batch.rgb.numpy()), range(1))
            row.append(scores(torch.from_numpy(mean), batch))
        lines.append((place, *(f"{rmse:.3f} / {sam:.3f}" for rmse, sam in row)))
    print_table(("place", *names), lines)


AnyRecipe = KernelRecipe | Recipe
Make = Callable[[str, Path], Network]
"""Fits a model without a place, into a folder."""


def everything(
    model: str, data: Path, crops: int | None, steps: int | None
) -> tuple[AnyRecipe, Config, SceneSets]:
    """The recipe with its evaluation scenes for training as well, and all scenes."""
    recipe = read_recipe(RECIPES / f"{model}.toml")
    assert isinstance(recipe, AnyRecipe)
    scenes = tuple(
        replace(scene, held_out=False, weight=WEIGHT) if scene.held_out else scene for scene in recipe.scenes
    )
    responses = camera_responses(recipe, data)
    config = recipe.config(responses[0].bands)
    if isinstance(recipe, KernelRecipe):
        training = replace(recipe.training, crops=crops or recipe.training.crops)
        recipe = replace(recipe, scenes=scenes, training=training)
    else:
        learning = replace(recipe.training, steps=steps or recipe.training.steps)
        recipe = replace(recipe, scenes=scenes, training=learning)
    recipe = recipe.varied(responses)
    return recipe, config, build_scenes(recipe, config, data, responses[1:])


def maker(recipe: AnyRecipe, config: Config, sets: SceneSets, device: str) -> Make:
    """How a model is fitted without a place."""
    if isinstance(recipe, KernelRecipe):
        assert isinstance(config, KernelConfig)
        kernel, training = config, recipe.training
        groups = groups_of(kernel, training, sets.training)

        def fit_others(place: str, out: Path) -> Network:
            others = [group for group in groups if group.name != place]
            return fit(kernel, training, others, out, metadata={"name": f"without-{place}"})

        return fit_others

    def train_others(place: str, out: Path) -> Network:
        training, validation = (
            [scene for scene in part if scene.site != place] for part in (sets.training, sets.validation)
        )
        network = SYSTEMS[recipe.kind].train(
            config, recipe.training, training, validation, out,
            metadata={"name": f"without-{place}"}, device=device,
            progress=lambda record: print(json.dumps(record), flush=True),
        )  # fmt: skip
        return network

    return train_others


def row_of(
    place: str,
    recipe: AnyRecipe,
    config: Config,
    sets: SceneSets,
    make: Make,
    out: Path,
    *,
    baselines: bool,
) -> dict[str, Any]:
    """The errors on a place of what was fitted without it."""
    training, validation = (
        [scene for scene in scenes if scene.site != place] for scenes in (sets.training, sets.validation)
    )
    network = make(place, out)
    loaded = checkpoint.load(out)
    factors = load_calibration(loaded, config.bands)
    assert factors is not None
    shown = [scene for scene in sets.training if scene.site == place]
    source = CropSource(shown, config.bands, config.response, fill_of(loaded))
    batch = source.every_pixel((0,), size=recipe.training.crop, crops=max(CROPS // len(shown), 1))
    generator = torch.Generator().manual_seed(0)
    means, samples = [], []
    with torch.inference_mode():
        for n in range(len(batch.rgb)):
            one = batch.crop(n).rgb.to(network.device)
            draw = network.drawn_by(generator, 1, *one.shape[2:])
            means.append(network.sample(one, draw, steps=1).cpu())
            several = [network.sample(one, draw, number=number) for number in range(SAMPLES)]
            samples.append(torch.stack(several).cpu())
    mean, drawn = torch.cat(means), torch.cat(samples, dim=1)
    middle, deviation = drawn.mean(0), drawn.std(0)
    low, high = (
        middle + torch.tensor(side)[:, None, None] * deviation for side in (factors.low, factors.high)
    )
    counts = _counts(batch)
    inside = ((batch.target >= low) & (batch.target <= high)) * counts
    infrared = torch.tensor(config.bands.centre_nm) >= INFRARED_NM
    row: dict[str, Any] = {
        "mean": scores(mean, batch),
        f"mean of {SAMPLES}": scores(middle, batch),
        "one sample": scores(drawn[0], batch),
    }
    with torch.inference_mode():
        for name, further in network.estimates(batch.rgb.to(network.device)).items():
            row[name] = scores(further.cpu(), batch)
    if baselines:
        rungs = fit_baselines(recipe, config, SceneSets(training, validation, [], []))
        rungs["knn"] = nearest(config, training, validation)
        rungs["mixture"] = mixture(config, training, validation)
        for name, rung in rungs.items():
            estimate = np.stack([rung.predict(values.numpy()) for values in batch.rgb])
            row[name] = scores(torch.from_numpy(estimate), batch)
    return {
        **row,
        "infrared": _rmse(mean, batch, counts * infrared[None, :, None, None]),
        "ndvi_r": _ndvi_r(mean, batch, config),
        "cover": float(inside.sum() / counts.sum()),
        "width": float(((high - low) * counts).sum() / counts.sum()),
        "water": _water_bias(mean, batch, config, infrared),
    }


def scores(estimate: Tensor, batch: Batch) -> list[float]:
    """RMSE and spectral angle."""
    counts = _counts(batch)
    truth, other = batch.target * counts, estimate * counts
    cosine = (truth * other).sum(1) / (truth.norm(dim=1) * other.norm(dim=1)).clamp_min(1e-9)
    bright = (truth.sum(1) > DARK * counts.sum(1)) & (batch.valid > 0)
    return [_rmse(estimate, batch, counts), float(torch.arccos(cosine.clamp(-1.0, 1.0))[bright].mean())]


def _counts(batch: Batch) -> Tensor:
    return batch.valid[:, None] * batch.bands[:, :, None, None]


def _rmse(estimate: Tensor, batch: Batch, counts: Tensor) -> float:
    return float(((estimate - batch.target).square() * counts).sum().div(counts.sum()).sqrt())


def _water_bias(mean: Tensor, batch: Batch, config: Config, infrared: Tensor) -> float | None:
    """The mean error in the infrared on water; None where there is next to none."""
    green, red_end = (batch.target[:, config.bands.nearest(nm)] for nm in (560.0, 860.0))
    dark = (green > red_end * 1.2) & (red_end < 0.06) & (green > 0.01)
    counts = _counts(batch) * (dark & (batch.valid > 0))[:, None] * infrared[None, :, None, None]
    if float((counts.sum(1) > 0).sum()) < WATER:
        return None
    return float(((mean - batch.target) * counts).sum() / counts.sum())


def _ndvi_r(mean: Tensor, batch: Batch, config: Config) -> float:
    red, infrared = (config.bands.nearest(nm) for nm in (660.0, 860.0))

    def ndvi(cube: Tensor) -> Tensor:
        one, other = cube[:, infrared], cube[:, red]
        return ((one - other) / (one + other).clamp_min(1e-6))[batch.valid > 0]

    return float(torch.corrcoef(torch.stack([ndvi(mean), ndvi(batch.target)]))[0, 1])


if __name__ == "__main__":
    main()
