"""What a HyperLDM is, as data: the published one (Liu et al. 2023) and the parts that a compact one varies.

The source of each published value is noted: [P] the paper, [C] the authors' code, [I] our reading, where
neither says it. Where paper and code differ, a named option has both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from spectile.catalog.bands import SENSORS, Bands
from spectile.catalog.errors import UsageError
from spectile.catalog.fields import (
    Count,
    Depth,
    Finite,
    NotNegative,
    Positive,
    Seed,
    Share,
    Steps,
    Whole,
    Width,
)
from spectile.model.data.crops import Augmentation
from spectile.model.diffusion.schedule import Schedule, linear_schedule

Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)]
"""Channels of each level, the finest first; the size halves from level to level."""
Norm = Literal["group", "channel"]
"""``group`` normalises over the tile in up to 32 groups, ``channel`` each pixel by itself."""


@dataclass(frozen=True)
class Endmember:
    """A spectrum of the library."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    """As its library names it."""
    reflectance: tuple[Finite, ...]
    """In the model's bands."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """The conditional VQGAN; its defaults are the published one."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    fold: Annotated[int, Field(ge=1, le=8)] = 1
    """Pixels along a side that are folded into channels before the first level; 1 folds none."""
    widths: Widths = (128, 256, 256)
    """Of its levels [I]; with ``fold`` 1 three levels give the factor of 4 [P]."""
    blocks: Depth = 2
    """Residual blocks a level, in encoder, condition encoder and decoder [I]."""
    norm: Norm = "group"
    """[I]."""
    attention: bool = True
    """Whether the decoder begins with attention over the tile [I]."""
    latent: Width = 16
    """n_x, channels of the code [P]."""
    codes: Annotated[int, Field(ge=2, le=65_536)] = 1024
    """K of the codebook [P]."""
    distance: Literal["l1", "l2"] = "l2"
    """By which the nearest code is found and pulled: ``l1`` [P], ``l2`` [C]."""
    illumination: Literal["predicted", "global"] = "global"
    """t: ``predicted`` by the decoder for the whole tile [P], or one learnt spectrum for all [C]."""
    condition: Literal["bands", "picture", "features"] = "bands"
    """What is given of the colour: three ``bands`` of the cube as they are [P]; an 8-bit ``picture`` in the
    order B, G, R [C]; ``features`` of the colour, which no published model has."""
    spectra: Literal["linear", "root"] = "linear"
    """What the encoder sees: reflectance × counts ÷ scale [P], or its square root, which has noise of about
    one size at every brightness; no published model has that."""
    discriminators: Widths = (64, 128, 256)
    """Widths of both discriminators [I]."""

    @property
    def factor(self) -> int:
        """Pixels along one value of the code."""
        return self.fold * 1 << (len(self.widths) - 1)


@dataclass(frozen=True)
class DenoiserConfig:
    """The latent U-Net; its defaults are the published one."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    widths: Widths = (128, 128, 256, 256, 512, 512)
    """Of its levels, from 64² to 2² for tiles of 256 px [P; which level is which: I]."""
    blocks: Depth = 2
    """Residual blocks a level on the way down [P]; one more on the way up, as in its model (Dhariwal and
    Nichol 2021) [I]."""
    middle: bool = True
    """Whether two blocks, with attention between them if any level has it, follow the lowest level [I]."""
    attention_levels: tuple[int, ...] = (3, 4)
    """Levels with attention, from 0: those of 8² and 4² [P]."""
    heads: Count = 4
    """Of the attention [C]."""
    time_width: Width = 512
    """Of the time embedding e_t [P]."""
    condition: Width = 32
    """Channels of e_c, which is concatenated with the state [P]."""
    condition_widths: Widths = (32, 64, 64)
    """Levels of the condition encoder, from a pixel to the code's size [I]."""
    condition_blocks: Depth = 1
    """Its residual blocks a level [I]."""
    condition_time: Literal["none", "step"] = "step"
    """Whether the condition encoder gets the time: ``step`` [C], so that it runs at every step; the paper
    gives it the picture alone, ``none``, so that one pass serves all."""
    norm: Norm = "group"
    """[P, as in its model]."""
    prediction: Literal["eps", "v"] = "eps"
    """What it predicts: the noise [P], or v."""


@dataclass(frozen=True)
class HyperTraining:
    """How it is trained, in three steps: VQGAN, statistics of its code, diffusion. Defaults as published."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    autoencoder_steps: Count = 24_000
    """Of the first step: 1000 epochs [P] of 24 patches, one a step [I]."""
    diffusion_steps: Count = 4000
    """Of the third [P]."""
    batch: Count = 32
    """Crops a step [C]."""
    crop: Count = 256
    """Side of a crop, pixels [P]."""
    learning_rate: Positive = 1e-5
    """Of the VQGAN, by Adam [P]; constant for ``hold`` of its steps, then a cosine to zero."""
    hold: Share = 0.4
    """400 of 1000 epochs [P]."""
    diffusion_rate: Positive = 1e-4
    """Of the diffusion, by AdamW [C]; constant, or a cosine where ``diffusion_hold`` is below 1."""
    diffusion_hold: Share = 1.0
    """Share of its steps at the full rate."""
    warmup: Whole = 0
    """Steps of linear rise at the beginning of both."""
    weight_decay: NotNegative = 0.01
    """Of the diffusion: AdamW's own default [I]."""
    l1: NotNegative = 100.0
    """λ1 of the absolute error, in units of DN ÷ scale [P]; the code's default is 10."""
    angle: NotNegative = 1000.0
    """λ2 of 1 − cos between spectra [P]; the code's default is 100."""
    codebook: NotNegative = 0.25
    """Weight of the codes' distance to what is encoded: 1 [P], 0.25 [C]."""
    commitment: NotNegative = 1.0
    """Weight of the encoder's distance to the codes [P, C]."""
    adversarial: NotNegative = 1.0
    """Weight of both discriminators [P]."""
    adversarial_from: Whole = 0
    """First step with discriminators [I]."""
    discriminate_every: Count = 3
    """Steps between those of the discriminators [P]."""
    quantise_from: Whole = 0
    """First step whose code is quantised. From 0, as published, a small encoder is pulled to a single code
    before its decoder has learnt to use it."""
    revive: bool = False
    """Whether codes that nothing is near are moved to what is encoded, in the first three quarters of the
    VQGAN's steps; no published model does."""
    structure: NotNegative = 0.1
    """λ3 of 1 − SSIM of the code: 0.1 [P], 1 [C]."""
    structure_scales: Annotated[int, Field(ge=1, le=3)] = 1
    """Scales of the SSIM: 1 [P]; the code has several, of which a code of 64² takes three [I]."""
    ema_decay: Share = 0.0
    """Decay of the averaged weights, which are the saved ones; 0 averages none [C]."""
    seed: Seed = 0
    """Of everything random."""
    log_every: Count = 100
    """Steps between lines of the log."""
    validate_every: Count = 2000
    """Steps between validations and saved states."""
    augmentation: Augmentation | None = None
    """How crops are varied; not at all as published."""

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.autoencoder_steps + self.diffusion_steps


@dataclass(frozen=True)
class HyperConfig:
    """Everything that fixes the structure of the network and how it samples; defaults as published."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    bands: Bands
    """The B bands of the result."""
    response: Bands
    """The spectral response that the input is expected to have, in the order R, G, B."""
    endmembers: Count = 345
    """G spectra of the library [P]."""
    library: tuple[Endmember, ...] = ()
    """The spectra; without them the structure is there, and its output zero."""
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    """The VQGAN."""
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    """The latent U-Net."""
    counts: Positive = 10_000.0
    """Digital numbers of reflectance 1; nothing published ties the two."""
    scale: Positive = 4095.0
    """Digital numbers are divided by this [P]."""
    white: Positive = 0.4
    """Reflectance that is 255 in a ``picture`` [I: one stretch for the whole scene]."""
    timesteps: Steps = 100
    """T [P]."""
    beta_1: Positive = 0.001
    """β at t = 1: 0.01 [P], 0.001 [C]."""
    beta_T: Positive = 0.2
    """β at t = T [P, C]."""
    latent_scale: Literal["fixed", "measured"] = "fixed"
    """The code is divided by 0.24 [C], or by its deviation after its mean is subtracted, by channel."""
    clamp: NotNegative = 1.0
    """Estimates of the scaled code are kept within this [C]; 0 keeps them as they are."""
    sampler: Literal["ancestral", "dpm_solver_pp_2m"] = "ancestral"
    """``ancestral`` with the posterior's variance [P, C]."""
    steps: Steps = 100
    """By default; all T as published."""

    def __post_init__(self) -> None:
        if self.library and len(self.library) != self.endmembers:
            raise UsageError("endmembers", got=len(self.library), expected=self.endmembers)
        if any(len(one.reflectance) != len(self.bands) for one in self.library):
            raise UsageError("endmembers in other bands than the model's", expected=f"{len(self.bands)}")
        factor = self.autoencoder.factor
        if self.autoencoder.fold * 1 << (len(self.denoiser.condition_widths) - 1) != factor:
            raise UsageError(
                "the condition encoder has another size than the code",
                got=f"{len(self.denoiser.condition_widths)} levels",
                expected=f"{len(self.autoencoder.widths)}",
            )
        if not self.beta_1 < self.beta_T < 1.0:
            raise UsageError("beta rises to below one", got=f"{self.beta_1:g} to {self.beta_T:g}")
        if self.steps > self.timesteps:
            raise UsageError("solver steps", got=self.steps, expected=f"up to {self.timesteps}")

    @cached_property
    def schedule(self) -> Schedule:
        """The forward process."""
        return linear_schedule(self.timesteps, beta_1=self.beta_1, beta_T=self.beta_T)

    @property
    def components(self) -> int:
        """Channels that are diffused: those of the code."""
        return self.autoencoder.latent

    @property
    def condition_channels(self) -> int:
        """Of what the condition encoders get."""
        return 19 if self.autoencoder.condition == "features" else 3

    @property
    def settings(self) -> Mapping[str, object]:
        """How it samples, as plain JSON values."""
        return {"sampler": self.sampler, "clamp": self.clamp, "counts": self.counts}

    def estimate(self, steps: int) -> str:
        """A sample, for any number of steps: of one step it is the decoded mean of the code."""
        return "sample"

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain JSON values."""
        return {**asdict(self), "bands": self.bands.to_json(), "response": self.response.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> HyperConfig:
        """The configuration that ``to_json`` wrote; ValueError or UsageError where it is none."""
        if not (isinstance(value["bands"], dict) and isinstance(value["response"], dict)):
            raise ValueError("bands and response are tables of centres and widths")
        bands, response = Bands.from_json(value["bands"]), Bands.from_json(value["response"])
        return TypeAdapter(cls).validate_python({**value, "bands": bands, "response": response})


def hyperldm_paper() -> HyperConfig:
    """The published model for Houston 2018: 48 bands from bands 23, 12 and 5, counted from 1 [P].

    Where paper and code differ it is the code, except for the condition: bands of the cube as in the paper.
    """
    bands = SENSORS["houston2018"]
    return HyperConfig(bands, bands.subset((22, 11, 4)))
