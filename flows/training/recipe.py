"""Recipes: what to train on what, as TOML files read into dataclasses, strictly."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from spectile.catalog.bands import RGB_CAMERA, SENSORS, Bands
from spectile.catalog.errors import UsageError
from spectile.catalog.fields import Count, Finite, Members, Positive, Steps
from spectile.flows.training.sources import EvenBands, ResponseSource, Sources
from spectile.model.cascade.cascade import DEFAULT_STAGES, CascadeConfig, StageConfig
from spectile.model.cascade.config import TrainConfig
from spectile.model.data.crops import CameraResponse
from spectile.model.diffusion.truncation import TruncationTarget
from spectile.model.kernel.config import KernelConfig, KernelTraining
from spectile.model.networks.unet_shared_encoder import SharedEncoderSizes
from spectile.model.scdm.preset import GUIDANCE, ScdmPreset, TrainingPreset, scdm_paper
from spectile.pipeline.store.base import read_bounded


def sensor_bands(name: str) -> Bands:
    """The bands of a sensor by its name; UsageError where none has it."""
    if name not in SENSORS:
        raise UsageError("unknown sensor", got=name, expected=", ".join(SENSORS))
    return SENSORS[name]


@dataclass(frozen=True, kw_only=True)
class Recipe(Sources):
    """A training run of the compact cascade, everything but the folders."""

    kind: Literal["cascade"] = "cascade"
    """Of the model."""
    sensor: str | EvenBands = "vnir48"
    """The bands it predicts, by name or at equal spacing."""
    responses: tuple[str | ResponseSource, ...] = ("rgb_camera",)
    """Responses of the camera: the expected one, then others for varied crops. A name is a sensor's."""
    coarse: Count = 12
    """Bands of the first stage."""
    members: Members = 1
    """Networks of each stage; they take turns in training and in drawing samples."""
    steps: Steps = 4
    """Solver steps by default."""
    stages: tuple[StageConfig, StageConfig] = DEFAULT_STAGES
    """The two stages."""
    training: TrainConfig = field(default_factory=TrainConfig)
    """How to train."""

    def __post_init__(self) -> None:
        if not self.responses:
            raise UsageError("responses name at least the expected one", where=self.name)

    def config(self, response: Bands = RGB_CAMERA) -> CascadeConfig:
        """The model that is trained, for an input of that response."""
        bands = sensor_bands(self.sensor) if isinstance(self.sensor, str) else self.sensor.bands
        return CascadeConfig(bands, response, self.coarse, self.stages, self.members, steps=self.steps)

    def varied(self, responses: tuple[CameraResponse, ...]) -> Recipe:
        """The recipe whose crops are seen through any of the responses."""
        augmentation = replace(self.training.augmentation, responses=responses)
        return replace(self, training=replace(self.training, augmentation=augmentation))


@dataclass(frozen=True, kw_only=True)
class PaperRecipe(Sources):
    """A training run of SCDM as published; defaults are the published values, or ours if there is none."""

    kind: Literal["scdm-paper"]
    """Of the model."""
    dataset: Literal["houston", "pavia"] = "houston"
    """Whose bands, input channels, coarse bands, normalisation and percentiles are taken."""
    counts: Positive = 10_000.0
    """The digital number of reflectance 1, for the normalisation."""
    network: SharedEncoderSizes = field(default_factory=SharedEncoderSizes)
    """The sizes of both stages' networks."""
    guidance: Finite = GUIDANCE
    """Weight s of the guidance, in the second stage; 0 is without."""
    truncation: TruncationTarget = "x_t"
    """What the truncation clamps: the state as in the code, or the noise estimate as in the paper."""
    steps: Steps = 1000
    """Evaluations a stage by default; all 1000 as published."""
    training: TrainingPreset = field(default_factory=TrainingPreset)
    """How to train."""

    @property
    def responses(self) -> tuple[()]:
        """Only the model's own response: three of its bands."""
        return ()

    def config(self, response: Bands | None = None) -> ScdmPreset:
        """The model that is trained; its response is its own."""
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

    def varied(self, responses: tuple[CameraResponse, ...]) -> PaperRecipe:
        """The recipe unchanged: its model has one response."""
        return self


@dataclass(frozen=True, kw_only=True)
class KernelRecipe(Sources):
    """A kernel ridge regression, everything but the folders."""

    kind: Literal["kernel-ridge"]
    """Of the model."""
    sensor: str | EvenBands = "vnir48"
    """The bands it predicts, by name or at equal spacing."""
    responses: tuple[str | ResponseSource, ...] = ("rgb_camera",)
    """Of its input: the expected one, then others that varied crops draw too."""
    degree: Count = 3
    """Of the polynomial, at most."""
    kernels: Count = 512
    """Around training colours."""
    components: Count = 12
    """Of the residual."""
    steps: Literal[2] = 2
    """A sample; one step is the mean."""
    training: KernelTraining = field(default_factory=KernelTraining)
    """How to fit it."""

    def __post_init__(self) -> None:
        if not self.responses:
            raise UsageError("responses name at least the expected one", where=self.name)

    def config(self, response: Bands = RGB_CAMERA) -> KernelConfig:
        """The model that is fitted, for an input of that response."""
        bands = sensor_bands(self.sensor) if isinstance(self.sensor, str) else self.sensor.bands
        return KernelConfig(bands, response, self.degree, self.kernels, self.components)

    def varied(self, responses: tuple[CameraResponse, ...]) -> KernelRecipe:
        """The recipe whose crops are seen through any of the responses."""
        augmentation = replace(self.training.augmentation, responses=responses)
        return replace(self, training=replace(self.training, augmentation=augmentation))


LONGEST = 1_000_000
"""Bytes of a recipe at most."""
AnyRecipe = Recipe | KernelRecipe | PaperRecipe
RECIPES: dict[str, type[AnyRecipe]] = {
    "cascade": Recipe, "kernel-ridge": KernelRecipe, "scdm-paper": PaperRecipe
}  # fmt: skip
"""By the key ``kind``, which is ``cascade`` where a recipe has none; the kinds are those of the registry.

Recipes are here, not beside their system in ``model/``, because they name files, and the model knows no
files.
"""


def read_recipe(path: Path) -> AnyRecipe:
    """The recipe in a TOML file.

    Raises
    ------
    UsageError
        Where the file is missing or no TOML, a key is unknown or missing, or a value is of a wrong type.
    """
    try:
        table = tomllib.loads(read_bounded(path, LONGEST).decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise UsageError(f"not a recipe: {err}", where=str(path)) from err
    except RecursionError as err:
        raise UsageError("not a recipe: nested too deeply", where=str(path)) from err
    kind = table.get("kind", "cascade")
    form = RECIPES.get(kind) if isinstance(kind, str) else None
    if form is None:
        raise UsageError("unknown kind of model", where=path.name, got=kind, expected=", ".join(RECIPES))
    _reject_unknown(form, table, path.name)
    training = table.get("training")
    augmentation = training.get("augmentation") if isinstance(training, dict) else None
    if isinstance(augmentation, dict) and "responses" in augmentation:
        raise UsageError("responses are a key of the recipe itself", where=path.name)
    try:
        # As JSON, in which a list may stand for a tuple while a text is no number.
        plain = json.dumps(table, default=str)
        return TypeAdapter[AnyRecipe](form).validate_json(plain, strict=True)
    except ValidationError as err:
        first = err.errors()[0]
        where = f"{path.name}: {'.'.join(map(str, first['loc']))}"
        raise UsageError(str(first["msg"]), where=where, got=repr(first["input"])[:60]) from err


def _reject_unknown(kind: Any, value: object, where: str) -> None:
    """Raise where a table has a key that its dataclass lacks, at any depth."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            _reject_unknown(kind, item, f"{where}[{index}]")
    elif isinstance(value, dict):
        classes = _dataclasses(kind)
        if not classes:
            return
        hints = get_type_hints(classes[0])
        known = [entry.name for entry in fields(classes[0])]
        for key, item in value.items():
            if key not in known:
                raise UsageError(f"unknown key {key}", where=where, expected=", ".join(known))
            _reject_unknown(hints[key], item, f"{where}: {key}")


def _dataclasses(kind: Any) -> list[Any]:
    """The dataclasses in a type, at any depth of unions and tuples."""
    return [kind] if is_dataclass(kind) else [inner for arg in get_args(kind) for inner in _dataclasses(arg)]
