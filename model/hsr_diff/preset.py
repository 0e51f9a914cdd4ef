"""HSR-Diff as published (Wu et al. 2023), as data. No code was published.

The source of each value is noted: the paper, or, where it states none, us.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter

from spectile.catalog.bands import PAVIA_UNIVERSITY, Bands, resampling_matrix
from spectile.catalog.errors import UsageError
from spectile.catalog.fields import Count, Finite, Positive, Seed, Share, Steps
from spectile.catalog.sensors import FILE_SENSORS
from spectile.model.data.pairs import PairConfig
from spectile.model.diffusion.sampler import Variance
from spectile.model.diffusion.schedule import Schedule, linear_schedule
from spectile.model.networks.cdformer import CDFormerConfig, CDFormerSizes


@dataclass(frozen=True)
class Phase:
    """A part of the training with patches of one size."""

    size: Count
    """Side of a patch, pixels."""
    batch: Count
    """Patches a step."""
    steps: Count
    """How many."""
    second_half: bool = False
    """Whether only the second half of the layers learns, as on full-resolution images (paper, 3.4)."""


@dataclass(frozen=True)
class HsrDiffTraining:
    """How the network is trained."""

    phases: Annotated[tuple[Phase, ...], Field(min_length=1, max_length=16)] = (
        Phase(64, 4, 400_000),
        Phase(128, 4, 100_000, second_half=True),
    )
    """Patches that grow: 64² and then 128² for PaviaU, batches of 4 (paper, 4.3 and table 3). The paper
    counts 20,000 epochs, of a number of patches that it does not give; the steps are ours."""
    learning_rate: Positive = 1e-4
    """Of Adam with betas .9 and .999 (paper, 4.3)."""
    msi_weight: Finite = 1.0
    """Of ‖X − R Ẑ‖₁ (paper, equation 8) …"""
    hsi_weight: Finite = 1.0
    """… and of ‖Y − Ẑ D‖₁. Each norm is a mean over its values here, so that no term outweighs the others by
    its size; the paper does not say."""
    turn: bool = False
    """Whether patches are flipped and rotated; the paper does not say so."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's products on CUDA; the state, the losses and the weights are float32 (ours)."""
    ema_decay: Share = 0.9999
    """Of the average of the weights (ours)."""
    ema_start: int = 2000
    """First step that is averaged, not copied (ours)."""
    seed: Seed = 0
    """Of everything random."""
    log_every: Count = 100
    """Steps between lines of the log."""
    validate_every: Count = 5000
    """Steps between validations and saved states."""

    @property
    def augmentation(self) -> None:
        """None: the MSI is seen through the response that the model is for."""

    @property
    def crop(self) -> int:
        """Side of the largest patch, pixels."""
        return max(phase.size for phase in self.phases)

    @property
    def steps(self) -> int:
        """Of all phases."""
        return sum(phase.steps for phase in self.phases)

    def phase_of(self, step: int) -> Phase:
        """The phase of a step, from 0."""
        for phase in self.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        raise AssertionError("a step beyond the training")


@dataclass(frozen=True)
class HsrDiffConfig:
    """What the model is, and how it samples and is trained."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    bands: Bands
    """The B bands of the HSI and of the result."""
    response: Bands
    """The C bands of the MSI."""
    pair: PairConfig
    """Ratio, PSF and noise of the pairs that it learns from."""
    network: CDFormerSizes = field(default_factory=CDFormerSizes)
    """The network's sizes."""
    offset: Finite = 0.0
    """Normalised = (reflectance − offset) / scale, in inputs and output alike. The paper does not say; 0 …"""
    scale: Positive = 1.0
    """… and 1 leave reflectance as it is."""
    beta_1: Share = 1e-6
    """First and …"""
    beta_T: Share = 1e-2
    """… last β of the linear schedule (ours: the paper says linear; these are SR3's, whose T it has)."""
    timesteps: Steps = 2000
    """T in training (paper, 3.2.3)."""
    steps: Steps = 100
    """Of sampling, over the same range of γ (paper: at most 100; the range is ours)."""
    variance: Variance = "beta"
    """σ_t² of a sampling step: 1 − α_t as equation 6 has it, or the posterior's of equation 4."""
    training: HsrDiffTraining = field(default_factory=HsrDiffTraining)
    """How it is trained."""

    def __post_init__(self) -> None:
        if self.steps > self.timesteps:
            raise UsageError("solver steps", got=self.steps, expected=f"up to {self.timesteps}")
        if not 0.0 < self.beta_1 <= self.beta_T < 1.0:
            raise UsageError(
                "a schedule needs 0 < beta_1 ≤ beta_T < 1", got=f"{self.beta_1:g} to {self.beta_T:g}"
            )
        for phase in self.training.phases:
            if phase.size % self.stride:
                raise UsageError(
                    "patches do not fit the network", got=phase.size, expected=f"multiples of {self.stride}"
                )

    @property
    def stride(self) -> int:
        """Pixels that sides are multiples of: whole windows and whole coarse pixels."""
        return math.lcm(self.network.window, self.pair.ratio)

    @property
    def sizes(self) -> CDFormerConfig:
        """The network's structure."""
        return CDFormerConfig(**asdict(self.network), bands=len(self.bands), msi_bands=len(self.response))

    @cached_property
    def schedule(self) -> Schedule:
        """The forward process; its ``alpha_bar`` is the paper's γ."""
        return linear_schedule(self.timesteps, beta_1=self.beta_1, beta_T=self.beta_T)

    @property
    def settings(self) -> Mapping[str, object]:
        """How it samples, as plain JSON values."""
        return {"sampler": "ancestral", "variance": self.variance, "ratio": self.pair.ratio}

    def estimate(self, steps: int) -> str:
        """A sample, for any number of steps."""
        return "sample"

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain JSON values."""
        return {**asdict(self), "bands": self.bands.to_json(), "response": self.response.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> HsrDiffConfig:
        """The configuration that ``to_json`` wrote; ValueError or UsageError where it is none."""
        if not (isinstance(value["bands"], dict) and isinstance(value["response"], dict)):
            raise ValueError("bands and response are tables of centres and widths")
        bands, response = Bands.from_json(value["bands"]), Bands.from_json(value["response"])
        return TypeAdapter(cls).validate_python({**value, "bands": bands, "response": response})


def hsr_diff_paper() -> HsrDiffConfig:
    """HSR-Diff for PaviaU: 103 bands, the response of WorldView-3, ratio 4 (paper, 4.1).

    Of WorldView-3's eight bands these are the six that 430 to 860 nm cover; the paper does not name them. The
    width of the blur is not stated either: its FWHM is one coarse pixel here. Pairs have no noise, as in the
    paper.
    """
    sensor = FILE_SENSORS["worldview3"].bands
    return HsrDiffConfig(
        bands=PAVIA_UNIVERSITY,
        response=sensor.subset(np.flatnonzero(resampling_matrix(PAVIA_UNIVERSITY, sensor)[1])),
        pair=PairConfig(ratio=4, psf_sigma=1.7),
    )
