"""Recipes: what to train on what, as TOML files read into dataclasses, strictly."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from catalog.bands import RGB_CAMERA, SENSORS
from catalog.errors import UsageError
from model.cascade import DEFAULT_STAGES, CascadeConfig, StageConfig
from model.networks.unet_shared_encoder import SharedEncoderSizes
from model.presets import GUIDANCE, ScdmPreset, TrainingPreset, scdm_paper
from model.train import TrainConfig
from model.truncation import TruncationTarget


@dataclass(frozen=True)
class SimulatedScenes:
    """Scenes from the simulator's materials for training."""

    scenes: int = 160
    """For training."""
    validation: int = 8
    """For choosing the baselines and watching."""
    held_out: int = 12
    """For the table in the checkpoint."""
    size: int = 192
    """Side, pixels."""
    pixel_sizes_m: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8)
    """Scenes take these in turn."""
    sun_elevations_deg: tuple[float, ...] = (35.0, 48.0, 62.0)
    """And these."""
    weight: float = 0.8
    """How often all of them together are drawn."""


@dataclass(frozen=True)
class SceneSource:
    """One real scene."""

    path: str
    """Below the data folder."""
    name: str
    """What it is."""
    licence: str
    """Its terms."""
    scale: float | None = None
    """Reflectance per count, where the file does not carry it."""
    bands_of: str | None = None
    """A file below the data folder whose bands these are, where the file does not carry them."""
    good_nm: tuple[float, float] = (400.0, 1100.0)
    """Bands outside are left out as bad."""
    weight: float = 0.05
    """How often it is drawn."""
    zoom: int = 3
    """Enlarged by this factor, bilinear: neighbours mix linearly, and crops see edges of several pixels."""
    held_out_columns: int = 0
    """Columns at the right that are never trained on."""
    held_out: bool = False
    """Whether all of it is."""


@dataclass(frozen=True)
class LibrarySource:
    """A spectral library, shown to the network as mosaics of flat cells."""

    path: str
    """Below the data folder."""
    name: str
    """What it is."""
    licence: str
    """Its terms."""
    scenes: int = 12
    """Mosaics for training."""
    size: int = 192
    """Side, pixels."""
    cell: int = 12
    """Mean side of a cell, pixels."""
    held_out: float = 0.1
    """Share of the spectra that is never trained on."""
    weight: float = 0.08
    """How often all mosaics together are drawn."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What any model can be trained on and measured with."""

    name: str
    """Of the model."""
    simulator: SimulatedScenes | None = None
    """Simulated scenes, if any."""
    scenes: tuple[SceneSource, ...] = ()
    """Real scenes."""
    libraries: tuple[LibrarySource, ...] = ()
    """Spectral libraries."""
    samples: int = 20
    """Draws a crop in the held-out table."""
    crops: int = 2
    """Crops of each held-out scene in it."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Sources):
    """A training run of the compact cascade, everything but the folders."""

    kind: Literal["cascade"] = "cascade"
    """Of the model."""
    sensor: str = "vnir48"
    """The bands it predicts, by name."""
    coarse: int = 12
    """Bands of the first stage."""
    steps: int = 4
    """Solver steps by default."""
    stages: tuple[StageConfig, StageConfig] = DEFAULT_STAGES
    """The two stages."""
    training: TrainConfig = field(default_factory=TrainConfig)
    """How to train."""

    def config(self) -> CascadeConfig:
        """The model that is trained; UsageError where its bands have no such name."""
        if self.sensor not in SENSORS:
            raise UsageError("unknown sensor", got=self.sensor, expected=", ".join(SENSORS))
        return CascadeConfig(SENSORS[self.sensor], RGB_CAMERA, self.coarse, self.stages, steps=self.steps)


@dataclass(frozen=True, kw_only=True)
class PaperRecipe(Sources):
    """A training run of SCDM as published; every default is the published value, ours where there is none."""

    kind: Literal["scdm-paper"]
    """Of the model."""
    dataset: Literal["houston", "pavia"] = "houston"
    """Whose bands, input channels, coarse bands, normalisation and percentiles are taken."""
    counts: float = 10_000.0
    """Digital numbers of reflectance 1, which the normalisation is in."""
    network: SharedEncoderSizes = field(default_factory=SharedEncoderSizes)
    """The sizes of both stages' networks."""
    guidance: float = GUIDANCE
    """Weight s of the guidance, in the second stage; 0 is without."""
    truncation: TruncationTarget = "x_t"
    """What the truncation clamps: the state as in the code, or the noise estimate as in the paper."""
    steps: int = 1000
    """Evaluations a stage by default; all 1000 as published."""
    training: TrainingPreset = field(default_factory=TrainingPreset)
    """How to train."""

    def config(self) -> ScdmPreset:
        """The model that is trained."""
        published = scdm_paper(self.dataset)
        first, second = (
            replace(
                stage,
                network=replace(stage.network, **asdict(self.network)),
                truncation=self.truncation,
            )
            for stage in published.stages
        )
        return replace(
            published,
            stages=(first, replace(second, guidance=self.guidance)),
            training=self.training,
            counts=self.counts,
            steps=self.steps,
        )


RECIPES: dict[str, type[Recipe] | type[PaperRecipe]] = {"cascade": Recipe, "scdm-paper": PaperRecipe}
"""By the key ``kind``, which is ``cascade`` where a recipe has none."""


def read_recipe(path: Path) -> Recipe | PaperRecipe:
    """The recipe in a TOML file.

    Raises
    ------
    UsageError
        Where the file is missing or no TOML, a key is unknown or missing, or a value is of a wrong type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise UsageError(f"not a recipe: {err}", where=str(path)) from err
    kind = table.get("kind", "cascade")
    form = RECIPES.get(kind) if isinstance(kind, str) else None
    if form is None:
        raise UsageError("unknown kind of model", where=path.name, got=kind, expected=", ".join(RECIPES))
    _reject_unknown(form, table, path.name)
    try:
        return TypeAdapter[Recipe | PaperRecipe](form).validate_python(table)
    except ValidationError as err:
        first = err.errors()[0]
        where = f"{path.name}: {'.'.join(map(str, first['loc']))}"
        raise UsageError(str(first["msg"]), where=where, got=first["input"]) from err


def _reject_unknown(kind: Any, value: object, where: str) -> None:
    """Raise where a table has a key that its dataclass lacks, at any depth."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            _reject_unknown(kind, item, f"{where}[{index}]")
    elif isinstance(value, dict):
        classes = [kind] if is_dataclass(kind) else [arg for arg in get_args(kind) if is_dataclass(arg)]
        if not classes:
            return
        hints = get_type_hints(classes[0])
        known = [entry.name for entry in fields(classes[0])]
        for key, item in value.items():
            if key not in known:
                raise UsageError(f"unknown key {key}", where=where, expected=", ".join(known))
            _reject_unknown(hints[key], item, f"{where}: {key}")
