"""The scenes of a recipe: from files, libraries and the simulator, checked before the first step."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom as enlarged
from scipy.spatial import cKDTree

from spectile.catalog.bands import SENSORS, Bands, NearestBands
from spectile.catalog.errors import SceneError, SpectileError, UsageError
from spectile.catalog.sensors import FILE_SENSORS
from spectile.flows.training.recipe import AnyRecipe, sensor_bands
from spectile.flows.training.sources import (
    LibrarySource,
    ResponseSource,
    SceneSource,
    SimulatedScenes,
    Sources,
)
from spectile.model.data.crops import CameraResponse, CropSource, TrainingScene
from spectile.model.system import Config
from spectile.pipeline.simulate.scene import Simulator
from spectile.pipeline.spectra.alignment import check_wavelengths
from spectile.pipeline.spectra.formats import Layout
from spectile.pipeline.spectra.hyperspectral import Hyperspectral, read_bands, read_hyperspectral, scene_files
from spectile.pipeline.spectra.libraries import (
    SpectralLibrary,
    read_library_bands,
    read_responses,
    read_spectral_library,
)

VALIDATION_SEED = 1_000_000
HELD_OUT_SEED = 2_000_000
"""Simulated scenes of the two sets are numbered from here; training scenes from zero."""

PLAUSIBLE = (-0.01, 1.1)
"""Reflectance that a library's spectra may have; noise takes dark ones a little below zero."""
MOST_REFLECTANCE = 1.6
"""A scene whose median is above this is not in reflectance."""


@dataclass(frozen=True)
class SceneSets:
    """Scenes for training, validation and the held-out table."""

    training: list[TrainingScene]
    """To learn from."""
    validation: list[TrainingScene]
    """To choose by."""
    held_out: list[TrainingScene]
    """For the table alone."""
    data: list[dict[str, str]]
    """Name, path, sha256 and licence of every file that was used."""


def build_scenes(
    recipe: Sources,
    config: Config,
    data_dir: Path,
    responses: Sequence[CameraResponse] = (),
) -> SceneSets:
    """Every scene of a recipe.

    Parameters
    ----------
    recipe : where they come from.
    config : the model whose bands and camera they must serve.
    data_dir : what the recipe's paths are below.
    responses : others that the camera may have, which they must serve too.

    Raises
    ------
    SpectileError
        Where a file cannot be used, or the scenes together cannot train and validate the model.
    """
    sets = SceneSets([], [], [], [])
    if recipe.simulator is not None:
        _simulate(recipe.simulator, config, sets)
    cameras = [config.response, *(response.bands for response in responses)]
    for scene in recipe.scenes:
        _read_scenes(scene, data_dir, sets, config.bands, cameras)
    for library in recipe.libraries:
        _read_library(library, data_dir, sets, config.bands, cameras)
    nm = config.bands.centre_nm
    for what, scenes in (("training", sets.training), ("validation", sets.validation)):
        if not scenes:
            raise UsageError(
                f"no scenes for {what}",
                where=recipe.name,
                remedy="see docs/training.md on how a recipe divides scenes",
            )
        if not any(CropSource(scenes, config.bands, config.response).complete):
            raise UsageError(
                f"no scene for {what} has every band of the model",
                where=recipe.name,
                remedy=f"add one whose good_nm reach {nm[0]:g} to {nm[-1]:g} nm, or [simulator]",
            )
    return sets


def held_out_scenes(recipe: Sources, data_dir: Path, bands: Bands, response: Bands) -> list[TrainingScene]:
    """The real scenes of a recipe that it holds out whole, which must cover the bands of the camera."""
    sets = SceneSets([], [], [], [])
    for scene in recipe.scenes:
        if scene.held_out:
            _read_scenes(scene, data_dir, sets, bands, [response])
    if not sets.held_out:
        raise UsageError("the recipe holds no scene out", where=recipe.name)
    return sets.held_out


def camera_responses(recipe: AnyRecipe, data_dir: Path) -> tuple[CameraResponse, ...]:
    """The responses of a recipe's camera, the expected one first; a published model has its own."""
    sources = [ResponseSource(sensor=one) if isinstance(one, str) else one for one in recipe.responses]
    responses = tuple(CameraResponse(_response(source, data_dir), source.weight) for source in sources)
    counts = {len(response.bands) for response in responses}
    if recipe.kind == "cascade" and counts - {3}:
        raise UsageError("a cascade takes three channels", where=recipe.name, got=max(counts - {3}))
    if len(counts) > 1:
        raise UsageError(
            "the responses differ in their channels",
            where=recipe.name,
            got=", ".join(map(str, sorted(counts))),
        )
    return responses or (CameraResponse(recipe.config().response),)


def _response(source: ResponseSource, data_dir: Path) -> Bands:
    if source.file is not None and source.channels is not None:
        return read_responses(data_dir / source.file, source.channels, wavelength_unit=source.wavelength_unit)
    if source.nearest_nm is not None:
        return NearestBands(source.nearest_nm, (1.0,) * len(source.nearest_nm))
    name = source.sensor or ""
    if source.channels is None:
        return sensor_bands(name)
    if name not in FILE_SENSORS:
        raise UsageError("unknown sensor", got=name, expected=", ".join(FILE_SENSORS))
    sensor = FILE_SENSORS[name]
    return sensor.bands.subset(sensor.find(source.channels, where=name))


def _simulate(plan: SimulatedScenes, config: Config, sets: SceneSets) -> None:
    for first, count, into in (
        (0, plan.scenes, sets.training),
        (VALIDATION_SEED, plan.validation, sets.validation),
        (HELD_OUT_SEED, plan.held_out, sets.held_out),
    ):
        for number in range(count):
            simulator = Simulator(
                seed=first + number,
                shape=(plan.size, plan.size),
                bands=config.bands,
                pixel_size_m=plan.pixel_sizes_m[number % len(plan.pixel_sizes_m)],
                sun_elevation_deg=plan.sun_elevations_deg[number % len(plan.sun_elevations_deg)],
                sun_azimuth_deg=(37.0 * number) % 360.0,
            )
            cube = simulator.truth(0, 0, plan.size, plan.size).astype(np.float16)
            valid = np.ones(cube.shape[1:], dtype=bool)
            name = f"simulated/{first + number}"
            into.append(TrainingScene(name, cube, config.bands, valid, plan.weight / count))
    facts = {"name": "the project's own simulator, materials of the set train", "licence": "Apache-2.0"}
    sets.data.append({**facts, "path": f"seeds 0 to {plan.scenes - 1}", "sha256": ""})


def _read_scenes(
    source: SceneSource, data_dir: Path, sets: SceneSets, bands: Bands, cameras: Sequence[Bands]
) -> None:
    """Read the file of a source, or every file of its folder; one error names all bad files."""
    place = data_dir / source.path
    own = _bands_of(source, data_dir)
    files = scene_files(place, source.glob)
    problems = []
    for path in files:
        # Files of a folder are one group in the held-out table.
        name = place.stem if path == place else f"{place.stem}/{path.stem}"
        try:
            parts = _divide(_read_scene(path, source, own), source, name, source.weight / len(files))
            for part, scene in parts.items():
                _check(scene, bands, cameras if part == "training" else cameras[:1])
                getattr(sets, part).append(scene)
            inside = "" if path == place else f"/{path.relative_to(place).as_posix()}"
            relative = source.path.rstrip("/") + inside
            facts = _facts(path, relative, source.name, source.licence)
            # Terms that forbid training allow measuring.
            sets.data.append(facts | ({"use": "held-out table alone"} if source.held_out else {}))
        except SpectileError as err:
            if path == place:
                raise
            problems.append(str(err))
    if problems:
        raise SceneError(
            f"{len(problems)} of {len(files)} files cannot be used: {'; '.join(problems)}",
            where=source.path,
        )


def _bands_of(source: SceneSource | LibrarySource, data_dir: Path) -> Bands | None:
    name = source.bands_of
    if name is None or name in SENSORS:
        return None if name is None else SENSORS[name]
    # The layout is that of the scene; the other file's own format says the rest.
    layout = Layout(wavelength_unit=source.wavelength_unit)
    read = read_library_bands if name.lower().endswith(".sli") else read_bands
    return read(data_dir / name, layout=layout)


def _read_scene(path: Path, source: SceneSource, bands: Bands | None) -> Hyperspectral:
    scene = read_hyperspectral(
        path,
        layout=source.layout,
        bands=bands,
        scale=source.scale,
        nodata=source.nodata,
        bad_nm=source.bad_nm,
    )
    try:
        scene = scene.within(*source.good_nm)
    except SceneError as err:
        raise SceneError(str(err), where=path.name) from err
    if source.despike is not None:
        scene = scene.despiked(source.despike)
        if not scene.valid.any():
            raise SceneError("every pixel holds a spike", where=path.name, remedy="raise despike")
    middle = float(np.median(scene.cube[:, scene.valid]))
    if middle > MOST_REFLECTANCE:
        raise SceneError(
            "the values are not reflectance", where=path.name, got=f"a median of {middle:g}",
            remedy="check its scale",
        )  # fmt: skip
    check_wavelengths(scene, path.name)
    # Scenes are kept as float16, which would make infinity of it.
    if (largest := float(scene.cube.max())) > float(np.finfo(np.float16).max):
        raise SceneError(
            "a value is no reflectance", where=path.name, got=f"{largest:g}",
            remedy="mask it with nodata or despike, or check the scale",
        )  # fmt: skip
    return scene


def _divide(scene: Hyperspectral, source: SceneSource, name: str, weight: float) -> dict[str, TrainingScene]:
    """The columns of a scene by the set that they are for."""
    parts, end = {}, scene.valid.shape[1]
    if source.held_out or source.validation:
        part = "held_out" if source.held_out else "validation"
        return {part: _part(scene, slice(0, end), source, f"{name}/{part}")}
    for part, columns in (("held_out", source.held_out_columns), ("validation", source.validation_columns)):
        if columns:
            parts[part] = _part(scene, slice(max(end - columns, 0), end), source, f"{name}/{part}")
            end -= columns + source.gap_columns
        if end <= 0:
            raise UsageError(
                "no column is left to train on",
                where=name,
                got=f"{scene.valid.shape[1]} in all, with gaps of {source.gap_columns}",
            )
    part = "training"
    parts[part] = _part(scene, slice(0, end), source, f"{name}/{part}", weight=weight, zoom=source.zoom)
    return parts


def _check(scene: TrainingScene, bands: Bands, cameras: Sequence[Bands]) -> None:
    """Raise where the scene has none of the bands, or does not cover a camera's channels."""
    for camera in cameras:
        CropSource([scene], bands, camera)


def _part(
    scene: Hyperspectral,
    columns: slice,
    source: SceneSource,
    name: str,
    *,
    weight: float = 1.0,
    zoom: int = 1,
) -> TrainingScene:
    cube, valid = scene.cube[:, :, columns], scene.valid[:, columns]
    if zoom > 1:
        cube = enlarged(cube, (1, zoom, zoom), order=1, grid_mode=True, mode="nearest")
        valid = enlarged(valid.astype(np.uint8), zoom, order=0, grid_mode=True, mode="nearest").astype(bool)
    # Noise makes dark pixels negative, which reflectance cannot be.
    positive = np.maximum(cube, 0.0).astype(np.float16)
    return TrainingScene(name, positive, scene.bands, valid, weight, source.site or source.path)


def _read_library(
    source: LibrarySource, data_dir: Path, sets: SceneSets, model_bands: Bands, cameras: Sequence[Bands]
) -> None:
    path = data_dir / source.path
    library = read_spectral_library(
        path, layout=source.layout, bands=_bands_of(source, data_dir), scale=source.scale, table=source.table
    )
    usable, spectra, bands, said = usable_spectra(library, source)
    is_held_out = held_out_spectra([library.samples[i] for i in usable], source.held_out)
    for what, part in (("to train on", ~is_held_out), ("to hold out", is_held_out)):
        if not part.any():
            raise UsageError(
                f"no spectrum is left {what}",
                where=source.path,
                got=f"{said}, held_out = {source.held_out:g}",
                remedy="samples are held out whole; choose another share",
            )
    training, held_out = spectra[~is_held_out], spectra[is_held_out]
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
    _check(sets.training[-1], model_bands, cameras)
    facts = _facts(path, source.path, source.name, source.licence)
    sets.data.append({**facts, "spectra": said})


def held_out_spectra(samples: Sequence[str], share: float) -> NDArray[np.bool_]:
    """(N,) which spectra of a library are held out: whole samples at random, at most the share of spectra.

    One sample measured by several spectrometers, or in several grain sizes, must not be on both sides.
    """
    _, sample, count = np.unique(samples, return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(count))
    fits = np.cumsum(count[order]) <= round(share * len(samples))
    chosen: NDArray[np.bool_] = np.isin(sample, order[fits])
    return chosen


def usable_spectra(
    library: SpectralLibrary, source: LibrarySource
) -> tuple[NDArray[np.intp], NDArray[np.float32], Bands, str]:
    """The spectra of a library that may be trained on.

    Returns
    -------
    usable : (N,) their positions in the library.
    spectra : (N, B) reflectance; small negative values, which noise makes, are zero.
    bands : the B bands that are kept.
    said : how many were left out, and why.

    Raises
    ------
    SceneError : no band is in the range that the source names.
    """
    keep = _in_ranges(library.bands, source)
    if not keep.any():
        raise SceneError("no band in that range", where=source.path, got=str(library.bands))
    spectra = library.spectra[:, keep]
    named = np.array([fnmatchcase(name, source.names) for name in library.names], dtype=bool)
    whole = named & np.isfinite(spectra).all(axis=1)
    low, high = PLAUSIBLE
    plausible = whole & (spectra >= low).all(axis=1) & (spectra <= high).all(axis=1)
    said = (
        f"{plausible.sum()} of {len(named)}: {(~named).sum()} have another name, "
        f"{(named & ~whole).sum()} a gap, {(whole & ~plausible).sum()} values beyond {low:g} to {high:g}"
    )
    usable = np.flatnonzero(plausible)
    return usable, np.maximum(spectra[usable], 0.0), library.bands.subset(np.flatnonzero(keep)), said


def _in_ranges(bands: Bands, source: LibrarySource) -> NDArray[np.bool_]:
    """(B,) whether a band is in good_nm and in none of bad_nm."""
    nm, (first, last) = np.asarray(bands.centre_nm), source.good_nm
    keep: NDArray[np.bool_] = (nm >= first) & (nm <= last)
    for first, last in source.bad_nm:
        keep &= (nm < first) | (nm > last)
    return keep


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
    return {"name": name, "path": relative, "sha256": digest(path), "licence": licence}


def digest(path: Path) -> str:
    """The sha256 of a file, or of a folder's files and their names in order."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = (f"{digest(file)}  {file.relative_to(path).as_posix()}\n" for file in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
