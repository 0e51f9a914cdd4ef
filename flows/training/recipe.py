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
from spectile.catalog.fields import Count, Finite, Members, NotNegative, Positive, Share, Steps
from spectile.catalog.sensors import FILE_SENSORS
from spectile.flows.training.sources import EndmemberSource, EvenBands, ResponseSource, Sources
from spectile.model.cascade.cascade import DEFAULT_STAGES, CascadeConfig, StageConfig
from spectile.model.cascade.config import TrainConfig
from spectile.model.data.crops import CameraResponse
from spectile.model.data.pairs import PairConfig
from spectile.model.diffusion.sampler import Variance
from spectile.model.diffusion.truncation import TruncationTarget
from spectile.model.hsr_diff.preset import HsrDiffConfig, HsrDiffTraining
from spectile.model.hyperldm.preset import AutoencoderConfig, DenoiserConfig, HyperConfig, HyperTraining
from spectile.model.kernel.config import KernelConfig, KernelTraining
from spectile.model.networks.cdformer import CDFormerSizes
from spectile.model.networks.spectral_mlp import SpectralMLPSizes
from spectile.model.networks.unet_shared_encoder import SharedEncoderSizes
from spectile.model.scdm.preset import GUIDANCE, ScdmPreset, TrainingPreset, scdm_paper
from spectile.model.sdp.preset import SdpConfig, SdpFusion, SdpTraining
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


@dataclass(frozen=True, kw_only=True)
class FusionRecipe(Sources):
    """What recipes of fusion models share: both scenes' bands, and how pairs are made of cubes."""

    sensor: str | EvenBands = "vnir48"
    """The bands of the HSI and of the result, by name or at equal spacing."""
    responses: tuple[str | ResponseSource, ...] = (
        ResponseSource(sensor="rgbn", channels=("blue", "green", "red", "nir")),
    )
    """The response of the MSI, one; a name is a sensor's."""
    pair: PairConfig
    """Ratio, PSF and noise."""

    def __post_init__(self) -> None:
        if len(self.responses) != 1:
            raise UsageError("a fusion model has one MSI", where=self.name, got=len(self.responses))

    @property
    def bands(self) -> Bands:
        """Those of the HSI."""
        return sensor_bands(self.sensor) if isinstance(self.sensor, str) else self.sensor.bands


@dataclass(frozen=True, kw_only=True)
class HsrDiffRecipe(FusionRecipe):
    """A training run of HSR-Diff; defaults are the published values, or ours if there is none."""

    kind: Literal["hsr-diff"]
    """Of the model."""
    network: CDFormerSizes = field(default_factory=CDFormerSizes)
    """The network's sizes."""
    offset: Finite = 0.0
    """Subtracted from reflectance, and …"""
    scale: Positive = 1.0
    """… divides it then: what the network sees."""
    beta_1: Share = 1e-6
    """First and …"""
    beta_T: Share = 1e-2
    """… last β of the schedule."""
    steps: Steps = 100
    """Of sampling, by default."""
    variance: Variance = "beta"
    """Of a sampling step: as in equation 6, or the posterior's of equation 4."""
    training: HsrDiffTraining = field(default_factory=HsrDiffTraining)
    """How to train."""

    @property
    def betas(self) -> tuple[float, float]:
        """First and last β of the linear schedule."""
        return (self.beta_1, self.beta_T)

    def config(self, response: Bands = FILE_SENSORS["rgbn"].bands) -> HsrDiffConfig:
        """The model that is trained, for an MSI of that response."""
        return HsrDiffConfig(
            bands=self.bands,
            response=response,
            pair=self.pair,
            network=self.network,
            offset=self.offset,
            scale=self.scale,
            beta_1=self.beta_1,
            beta_T=self.beta_T,
            steps=self.steps,
            variance=self.variance,
            training=self.training,
        )

    def varied(self, responses: tuple[CameraResponse, ...]) -> HsrDiffRecipe:
        """The recipe unchanged: its model has one response."""
        return self


@dataclass(frozen=True, kw_only=True)
class SdpRecipe(FusionRecipe):
    """A training run of SDP's prior; defaults are the published values, or ours if there is none."""

    kind: Literal["sdp"]
    """Of the model."""
    network: SpectralMLPSizes = field(default_factory=SpectralMLPSizes)
    """The denoiser's sizes."""
    scale: Positive | None = None
    """Reflectance that is 1 for the prior; by default the largest that it learns from."""
    steps: Steps = 1000
    """Times of the fusion, by default; all 1000 as published."""
    fusion: SdpFusion = field(default_factory=SdpFusion)
    """How pairs are fused under it."""
    training: SdpTraining = field(default_factory=SdpTraining)
    """How to train."""

    def config(self, response: Bands = FILE_SENSORS["rgbn"].bands) -> SdpConfig:
        """The prior that is trained, with an MSI of that response to fuse with."""
        return SdpConfig(
            bands=self.bands,
            response=response,
            pair=self.pair,
            network=self.network,
            scale=self.scale,
            steps=self.steps,
            fusion=self.fusion,
            training=self.training,
        )

    def varied(self, responses: tuple[CameraResponse, ...]) -> SdpRecipe:
        """The recipe unchanged: its model has one response."""
        return self


@dataclass(frozen=True, kw_only=True)
class HyperRecipe(Sources):
    """A HyperLDM, everything but the folders; defaults are those of the published one."""

    kind: Literal["hyperldm"]
    """Of the model."""
    sensor: str | EvenBands = "vnir48"
    """The bands it predicts, by name or at equal spacing."""
    input_bands: tuple[Count, Count, Count] | None = None
    """Bands of the result that are its R, G and B, from 1, as published (23, 12, 5); a camera's if unsaid."""
    responses: tuple[str | ResponseSource, ...] = ("rgb_camera",)
    """Responses of the camera: the expected one, then others for varied crops. A name is a sensor's."""
    library: EndmemberSource
    """The spectra that it mixes."""
    endmembers: Count = 345
    """How many of them."""
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    """The VQGAN."""
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    """The latent U-Net."""
    counts: Positive = 10_000.0
    """The digital number of reflectance 1."""
    scale: Positive = 4095.0
    """Digital numbers are divided by this."""
    white: Positive = 0.4
    """Reflectance that is 255 in an 8-bit ``picture``."""
    beta_1: Positive = 0.001
    """Of the schedule of 100 steps, at t = 1."""
    beta_T: Positive = 0.2
    """At t = T."""
    latent_scale: Literal["fixed", "measured"] = "fixed"
    """How the code is scaled before it is diffused."""
    clamp: NotNegative = 1.0
    """Limit of the estimates of the scaled code; 0 is none."""
    sampler: Literal["ancestral", "dpm_solver_pp_2m"] = "ancestral"
    """Of the code."""
    steps: Steps = 100
    """Solver steps by default."""
    training: HyperTraining = field(default_factory=HyperTraining)
    """How to train."""

    def __post_init__(self) -> None:
        if not self.responses:
            raise UsageError("responses name at least the expected one", where=self.name)

    def config(self, response: Bands = RGB_CAMERA) -> HyperConfig:
        """The model that is trained, for an input of that response; without its library."""
        bands = sensor_bands(self.sensor) if isinstance(self.sensor, str) else self.sensor.bands
        if self.input_bands is not None:
            if max(self.input_bands) > len(bands):
                raise UsageError("input_bands", got=list(self.input_bands), expected=f"1 to {len(bands)}")
            response = bands.subset([number - 1 for number in self.input_bands])
        return HyperConfig(
            bands,
            response,
            endmembers=self.endmembers,
            autoencoder=self.autoencoder,
            denoiser=self.denoiser,
            counts=self.counts,
            scale=self.scale,
            white=self.white,
            beta_1=self.beta_1,
            beta_T=self.beta_T,
            latent_scale=self.latent_scale,
            clamp=self.clamp,
            sampler=self.sampler,
            steps=self.steps,
        )

    def varied(self, responses: tuple[CameraResponse, ...]) -> HyperRecipe:
        """The recipe whose crops are seen through any of the responses."""
        if self.training.augmentation is None:
            raise UsageError("several responses need [training.augmentation]", where=self.name)
        augmentation = replace(self.training.augmentation, responses=responses)
        return replace(self, training=replace(self.training, augmentation=augmentation))


LONGEST = 1_000_000
"""Bytes of a recipe at most."""
AnyRecipe = Recipe | KernelRecipe | PaperRecipe | HsrDiffRecipe | SdpRecipe | HyperRecipe
RECIPES: dict[str, type[AnyRecipe]] = {
    "cascade": Recipe, "kernel-ridge": KernelRecipe, "scdm-paper": PaperRecipe, "hsr-diff": HsrDiffRecipe,
    "sdp": SdpRecipe, "hyperldm": HyperRecipe,
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
