"""A training run from a recipe: readers and simulator into scenes, training, baselines, held-out table."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom
from scipy.spatial import cKDTree

from flows.recipe import (
    LibrarySource,
    PaperRecipe,
    Recipe,
    SceneSource,
    SimulatedScenes,
    Sources,
    read_recipe,
)
from model import baselines, checkpoint
from model.cascade import CascadeConfig, SpectralCascade
from model.cascade_paper import ScdmCascade
from model.dataset import CropSource, TrainingScene
from model.evaluation import evaluate, groups, held_out_crops, shuffle_factor
from model.presets import ScdmPreset
from model.train import train, training_pixels
from model.train_paper import train_paper
from model.training_run import Progress
from pipeline.hyperspectral import Hyperspectral, SpectralLibrary, read_hyperspectral, read_spectral_library
from pipeline.simulate import Simulator

VALIDATION_SEED = 1_000_000
HELD_OUT_SEED = 2_000_000
"""Simulated scenes of the two sets are numbered from here; training scenes from zero."""


@dataclass(frozen=True)
class SceneSets:
    """Scenes by what they are for."""

    training: list[TrainingScene]
    """To learn from."""
    validation: list[TrainingScene]
    """To choose by."""
    held_out: list[TrainingScene]
    """For the table alone."""
    data: list[dict[str, str]]
    """Name, path, sha256 and licence of every file that was used."""


def train_from_recipe(
    recipe_path: Path,
    data_dir: Path,
    out_dir: Path,
    *,
    progress: Progress = lambda record: None,
    announce: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train as the recipe says and write the checkpoint with its baselines; returns the held-out table.

    Parameters
    ----------
    recipe_path : TOML, see ``Recipe``.
    data_dir : the folder that the recipe's paths are below.
    out_dir : where the checkpoint goes; a run that was interrupted there is continued.
    progress : is called with each record of the training log.
    announce : is called with a line as each part begins.

    Raises
    ------
    SpectileError
        Where the recipe, the data or the folder cannot be used.
    """
    recipe = read_recipe(recipe_path)
    cascade = recipe.config()
    announce("reading and simulating scenes")
    sets = build_scenes(recipe, cascade, data_dir)
    metadata: dict[str, Any] = {
        "name": recipe.name,
        "recipe": tomllib.loads(recipe_path.read_text(encoding="utf-8")),
        "data": sets.data,
        "schedule": {"kind": "linear", "timesteps": cascade.timesteps, "beta": [1e-4, 0.02]},
    }
    announce(f"training on {len(sets.training)} scenes")
    model = _train(recipe, sets, out_dir, metadata, progress)
    announce("fitting the baselines")
    rungs = _fit_baselines(recipe, cascade, sets)
    announce("measuring on held-out scenes")
    table: dict[str, Any] = {}
    for group, positions in groups([scene.name for scene in sets.held_out]).items():
        source = CropSource([sets.held_out[i] for i in positions], cascade.bands, cascade.response)
        batch = held_out_crops(
            source, crops=recipe.crops, size=max(64, recipe.training.crop), seed=recipe.training.seed
        )
        table[group] = evaluate(model, batch, samples=recipe.samples, seed=1, baselines=rungs)
        if isinstance(model, SpectralCascade) and all(source.complete):
            table[group]["shuffle_factor"] = round(shuffle_factor(model, batch, seed=1), 2)
    loaded = checkpoint.load(out_dir)
    checkpoint.save(out_dir, loaded.tensors, {**loaded.metadata, "held_out": table})
    baselines.save_baselines(str(out_dir), *rungs.values())
    return table


def _train(
    recipe: Recipe | PaperRecipe,
    sets: SceneSets,
    out_dir: Path,
    metadata: Mapping[str, Any],
    progress: Progress,
) -> SpectralCascade | ScdmCascade:
    """Train the recipe's kind of model."""
    scaling = "reflectance in, reflectance out; "
    if isinstance(recipe, PaperRecipe):
        facts = {**metadata, "prediction": "eps", "scaling": scaling + "normalisation is in the preset"}
        return train_paper(
            recipe.config(), sets.training, sets.validation, out_dir, metadata=facts, progress=progress
        )
    facts = {**metadata, "prediction": "v", "scaling": scaling + "whitening is among the tensors"}
    return train(
        recipe.training,
        recipe.config(),
        sets.training,
        sets.validation,
        out_dir,
        metadata=facts,
        progress=progress,
    )


def _fit_baselines(
    recipe: Recipe | PaperRecipe, cascade: CascadeConfig | ScdmPreset, sets: SceneSets
) -> dict[str, Any]:
    """Ridge and lookup on the training scenes, with and without augmentation: whichever validates better."""
    source = CropSource(sets.training, cascade.bands, cascade.response)
    watch = CropSource(sets.validation, cascade.bands, cascade.response)
    seed = recipe.training.seed
    chosen = baselines.Pixels(*(x.numpy() for x in training_pixels(watch, seed + 1, None)))
    best: dict[str, Any] = {}
    for augmentation in dict.fromkeys((None, recipe.training.augmentation)):
        rgb, spectra = training_pixels(source, seed, augmentation)
        pixels = baselines.Pixels(rgb.numpy(), spectra.numpy())
        for name, fit in (
            ("ridge", baselines.fit_ridge),
            ("lookup", partial(baselines.fit_lookup, seed=seed)),
        ):
            fitted = fit(pixels, chosen)
            error = partial(baselines.pixel_rmse, pixels=chosen)
            best[name] = min(best.get(name, fitted), fitted, key=error)
    return best


def build_scenes(recipe: Sources, cascade: CascadeConfig | ScdmPreset, data_dir: Path) -> SceneSets:
    """Every scene of a recipe."""
    sets = SceneSets([], [], [], [])
    if recipe.simulator is not None:
        _simulate(recipe.simulator, cascade, sets)
    for scene in recipe.scenes:
        _read_scene(scene, data_dir, sets)
    for library in recipe.libraries:
        _read_library(library, data_dir, sets)
    return sets


def _simulate(plan: SimulatedScenes, cascade: CascadeConfig | ScdmPreset, sets: SceneSets) -> None:
    for first, count, into in (
        (0, plan.scenes, sets.training),
        (VALIDATION_SEED, plan.validation, sets.validation),
        (HELD_OUT_SEED, plan.held_out, sets.held_out),
    ):
        for number in range(count):
            simulator = Simulator(
                seed=first + number,
                shape=(plan.size, plan.size),
                bands=cascade.bands,
                pixel_size_m=plan.pixel_sizes_m[number % len(plan.pixel_sizes_m)],
                sun_elevation_deg=plan.sun_elevations_deg[number % len(plan.sun_elevations_deg)],
                sun_azimuth_deg=(37.0 * number) % 360.0,
            )
            cube = simulator.truth(0, 0, plan.size, plan.size).astype(np.float16)
            valid = np.ones(cube.shape[1:], dtype=bool)
            name = f"simulated/{first + number}"
            into.append(TrainingScene(name, cube, cascade.bands, valid, plan.weight / count))
    facts = {"name": "the project's own simulator, materials of the set train", "licence": "Apache-2.0"}
    sets.data.append({**facts, "path": f"seeds 0 to {plan.scenes - 1}", "sha256": ""})


def _read_scene(source: SceneSource, data_dir: Path, sets: SceneSets) -> None:
    path = data_dir / source.path
    bands = None if source.bands_of is None else read_hyperspectral(data_dir / source.bands_of).bands
    scene = read_hyperspectral(path, bands=bands, scale=source.scale).within(*source.good_nm)
    columns = scene.valid.shape[1]
    edge = 0 if source.held_out else columns - source.held_out_columns
    name = Path(source.path).stem
    if edge > 0:
        # Bilinear enlargement would leak the strip's first column into its neighbour: cut before it.
        sets.training.append(_enlarged(scene, slice(0, edge), source.zoom, f"{name}/training", source.weight))
    if edge < columns:
        sets.held_out.append(_enlarged(scene, slice(edge, columns), source.zoom, f"{name}/held_out", 1.0))
    sets.data.append(_facts(path, source.path, source.name, source.licence))


def _enlarged(scene: Hyperspectral, columns: slice, factor: int, name: str, weight: float) -> TrainingScene:
    cube = zoom(scene.cube[:, :, columns], (1, factor, factor), order=1, grid_mode=True, mode="nearest")
    valid = zoom(scene.valid[:, columns].astype(np.uint8), factor, order=0, grid_mode=True, mode="nearest")
    # Noise takes dark pixels below zero, which no reflectance is.
    positive = np.maximum(cube, 0.0).astype(np.float16)
    return TrainingScene(name, positive, scene.bands, valid.astype(bool), weight)


def _read_library(source: LibrarySource, data_dir: Path, sets: SceneSets) -> None:
    path = data_dir / source.path
    library = read_spectral_library(path)
    spectra, keep = _usable(library)
    bands = library.bands.subset(keep)
    held = np.random.default_rng(0).permutation(len(spectra)) < round(source.held_out * len(spectra))
    training, held_out = spectra[~held], spectra[held]
    stem = Path(source.path).stem
    for number in range(source.scenes):
        cube = _mosaic(training, source, number)
        valid = np.ones(cube.shape[1:], dtype=bool)
        sets.training.append(
            TrainingScene(f"{stem}/{number}", cube, bands, valid, source.weight / source.scenes)
        )
    for number in range(2):
        cube = _mosaic(held_out, source, HELD_OUT_SEED + number)
        valid = np.ones(cube.shape[1:], dtype=bool)
        sets.held_out.append(TrainingScene(f"{stem}/held_out_{number}", cube, bands, valid))
    sets.data.append(_facts(path, source.path, source.name, source.licence))


def _usable(library: SpectralLibrary) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Spectra without a gap up to 1100 nm and of plausible reflectance, and the bands kept."""
    keep = np.flatnonzero(np.asarray(library.bands.centre_nm) <= 1100.0)
    spectra = library.spectra[:, keep]
    whole = np.isfinite(spectra).all(axis=1)
    spectra = spectra[whole]
    plausible = (spectra.min(axis=1) > 0.0) & (spectra.max(axis=1) < 1.1)
    return spectra[plausible], keep


def _mosaic(spectra: NDArray[np.float32], source: LibrarySource, seed: int) -> NDArray[np.float16]:
    """(B, size, size) cells of the nearest of random sites; each a mixture of two spectra, shaded."""
    rng = np.random.default_rng([7, seed])
    sites = (source.size // source.cell) ** 2
    place = rng.uniform(0, source.size, (sites, 2))
    first, second = rng.integers(len(spectra), size=(2, sites))
    # Half of the cells are pure.
    part = np.where(rng.random(sites) < 0.5, 0.0, rng.random(sites))[:, None]
    shade = rng.uniform(0.5, 1.0, (sites, 1))
    mixed = shade * ((1.0 - part) * spectra[first] + part * spectra[second])
    pixels = np.indices((source.size, source.size)).reshape(2, -1).T
    _, nearest = cKDTree(place).query(pixels)
    cube: NDArray[np.float16] = mixed[nearest].T.reshape(-1, source.size, source.size).astype(np.float16)
    return cube


def _facts(path: Path, relative: str, name: str, licence: str) -> dict[str, str]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": name, "path": relative, "sha256": digest, "licence": licence}


def table_lines(table: Mapping[str, Any]) -> list[str]:
    """The held-out table as lines of JSON, one a group."""
    return [json.dumps({group: row}) for group, row in table.items()]
