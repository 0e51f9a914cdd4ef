"""A training run from a recipe: readers and simulator into scenes, training, baselines, held-out table."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spectile.catalog.inputs import Batch, Raster
from spectile.flows.training.data import SceneSets, build_scenes, camera_responses
from spectile.flows.training.endmembers import with_library
from spectile.flows.training.recipe import AnyRecipe, HyperRecipe, read_recipe
from spectile.flows.training.report import draw_curves, draw_samples
from spectile.model import checkpoint
from spectile.model.cascade.means import training_pixels
from spectile.model.closed import baselines
from spectile.model.data.crops import CropSource
from spectile.model.device import resolve_device
from spectile.model.measure.evaluation import evaluate, groups, held_out_crops
from spectile.model.predict.network import NetworkPredictor, fill_of, load_calibration
from spectile.model.predict.predictor import load_predictor
from spectile.model.registry import SYSTEMS
from spectile.model.system import Config
from spectile.model.training.run import LOG, Progress, check_folder

CURVES = "curves.png"
SAMPLES = "samples.png"
BASELINE_CROPS = 500
"""Crops that the baselines are fitted to: 100,000 pixels."""
PICTURED_CROPS = 3
PICTURED_SAMPLES = 4
PICTURED_STEPS = 8
"""Solver steps of the pictures at most: a thousand of the published model would take minutes a crop."""


def train_from_recipe(
    recipe_path: Path,
    data_dir: Path,
    out_dir: Path,
    *,
    device: str = "auto",
    progress: Progress = lambda record: None,
    announce: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train as the recipe says and write the checkpoint with its baselines; returns the held-out table.

    Parameters
    ----------
    recipe_path : TOML, see ``Recipe``.
    data_dir : the folder that the recipe's paths are below.
    out_dir : where the checkpoint goes; a run that was interrupted there is continued.
    device : where the networks are trained: ``auto``, ``cpu`` or ``cuda``.
    progress : is called with each record of the training log.
    announce : is called with a line as each part begins.

    Raises
    ------
    SpectileError
        Where the recipe, the data or the folder cannot be used.
    """
    recipe = read_recipe(recipe_path)
    resolve_device(device)  # refuses a missing device before the data are read
    check_folder(out_dir)
    responses = camera_responses(recipe, data_dir)
    config: Config
    config, system = recipe.config(responses[0].bands), SYSTEMS[recipe.kind]
    if isinstance(recipe, HyperRecipe):
        config = with_library(recipe.config(responses[0].bands), recipe.library, data_dir)
    if len(responses) > 1:
        recipe = recipe.varied(responses)
    announce("reading and simulating scenes")
    sets = build_scenes(recipe, config, data_dir, responses[1:])
    metadata: dict[str, Any] = {
        "name": recipe.name,
        "recipe": tomllib.loads(recipe_path.read_text(encoding="utf-8")),
        "data": sets.data,
        "prediction": system.prediction,
        "scaling": system.scaling,
        "schedule": {"kind": "linear", "timesteps": config.timesteps, "beta": list(recipe.betas)},
    }
    announce(f"training on {len(sets.training)} scenes")

    def report(record: Mapping[str, Any]) -> None:
        progress(record)
        if is_validation(record):
            draw_curves(out_dir / CURVES, _log_of(out_dir))
            _draw_samples(recipe, config, sets, out_dir, device, int(record["step"]))

    network = system.train(
        config, recipe.training, sets.training, sets.validation, out_dir,
        metadata=metadata, device=device, progress=report,
    )  # fmt: skip
    announce("fitting the baselines")
    rungs = fit_baselines(recipe, config, sets)
    announce("measuring on held-out scenes")
    loaded = checkpoint.load(out_dir)
    factors, fill = load_calibration(loaded, config.bands), fill_of(loaded)[: len(config.response)]
    table: dict[str, Any] = {}
    for group, positions in groups([scene.name for scene in sets.held_out]).items():
        source = CropSource([sets.held_out[i] for i in positions], config.bands, config.response, fill)
        batch = held_out_crops(
            source, crops=recipe.crops, size=max(64, recipe.training.crop), seed=recipe.training.seed
        )
        table[group] = evaluate(
            network, batch, samples=recipe.samples, seed=1, baselines=rungs, factors=factors
        )
        table[group] |= system.checks(network, batch, 1)
    known = baselines.to_tensors(rungs["ridge"], rungs["lookup"])
    checkpoint.save(out_dir, loaded.tensors, {**loaded.metadata, "held_out": table}, known)
    return table


def is_validation(record: Mapping[str, Any]) -> bool:
    """Whether a record of the log is of a validation; those of losses say of how many steps they are."""
    return "of" not in record


def is_storage_failure(task: object, run: object, state: Any) -> bool:
    """Whether a task's attempt failed on a disk or a share, for Prefect's retries."""
    try:
        state.result()
    except OSError:
        return True
    except Exception:  # other failures would only repeat
        return False
    return False


def _log_of(out_dir: Path) -> list[dict[str, Any]]:
    """The records of a run; after an interruption repeated steps replace the earlier ones."""
    lines = (out_dir / LOG).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    latest = {(record["step"], is_validation(record)): record for record in records}
    return [latest[key] for key in sorted(latest)]


def _draw_samples(
    recipe: AnyRecipe, config: Config, sets: SceneSets, out_dir: Path, device: str, step: int
) -> None:
    """Draw what the checkpoint that was just saved makes of a few validation crops."""
    steps = min(recipe.steps, PICTURED_STEPS)
    predictor = load_predictor(str(out_dir), steps=steps, batch=PICTURED_CROPS, device=device)
    assert isinstance(predictor, NetworkPredictor)
    of, scenes = PICTURED_CROPS, sets.validation
    shown = [scenes[i] for i in sorted({i * len(scenes) // of for i in range(of)})]
    source = CropSource(
        shown, config.bands, config.response, np.array(predictor.inputs[0].fill, dtype=np.float32)
    )
    batch = source.every_pixel(
        (recipe.training.seed, 8), size=recipe.training.crop, crops=-(-of // len(shown))
    )
    count = min(len(batch.rgb), of)
    rgb, target, bands = (part[:count].numpy() for part in (batch.rgb, batch.target, batch.bands))
    # Masked pixels have the fill already; pixels around a window are shown although they do not count.
    rasters = {}
    for spec, seen in zip(predictor.inputs, predictor.network.observe(batch), strict=True):
        values = seen[:count].numpy()
        rasters[spec.name] = Raster(values, np.ones((count, *values.shape[2:]), dtype=bool))
    origins = np.zeros((count, 2), dtype=np.int64)
    origins[:, 1] = np.arange(count) * recipe.training.crop
    samples = list(predictor.predict(Batch(rasters, origins, count), range(PICTURED_SAMPLES)))
    draw_samples(
        out_dir / SAMPLES,
        bands=config.bands,
        response=config.response,
        rgb=rgb,
        truth=target,
        known=bands > 0,
        sample=samples[0],
        mean=np.mean(samples, axis=0),
        title=f"validation crops at step {step}; mean of {PICTURED_SAMPLES}",
    )


def fit_baselines(recipe: AnyRecipe, config: Config, sets: SceneSets) -> dict[str, Any]:
    """Ridge and lookup on the training scenes, with and without augmentation: whichever validates better."""
    source = CropSource(sets.training, config.bands, config.response)
    watch = CropSource(sets.validation, config.bands, config.response)
    seed = recipe.training.seed
    watched = training_pixels(watch, seed + 1, None, crops=BASELINE_CROPS)
    chosen = baselines.Pixels(*(x.numpy() for x in watched))
    best: dict[str, Any] = {}
    for augmentation in dict.fromkeys((None, recipe.training.augmentation)):
        rgb, spectra = training_pixels(source, seed, augmentation, crops=BASELINE_CROPS)
        pixels = baselines.Pixels(rgb.numpy(), spectra.numpy())
        for name, fit in (
            ("ridge", baselines.fit_ridge),
            ("lookup", partial(baselines.fit_lookup, seed=seed)),
        ):
            fitted = fit(pixels, chosen)
            error = partial(baselines.pixel_rmse, pixels=chosen)
            best[name] = min(best.get(name, fitted), fitted, key=error)
    return best
