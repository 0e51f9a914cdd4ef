"""SDP as published (Liu et al. 2023, arXiv 2311.08955), as data.

The source of each value is noted: the paper, the authors' code, or, if neither states one, us.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, TypeAdapter

from spectile.catalog.bands import PAVIA_UNIVERSITY, Bands, resampling_matrix
from spectile.catalog.errors import UsageError
from spectile.catalog.fields import Count, NotNegative, Positive, Seed, Share, Steps
from spectile.catalog.sensors import FILE_SENSORS
from spectile.model.data.pairs import PairConfig
from spectile.model.diffusion.schedule import Schedule, linear_schedule
from spectile.model.networks.spectral_mlp import SpectralMLPConfig, SpectralMLPSizes


@dataclass(frozen=True)
class SdpFusion:
    """How a pair is fused under the prior (algorithm 1), after division by the prior's scale."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    inner: Count = 3
    """K, Adam steps a time (paper, IV-B)."""
    learning_rate: Positive = 1e-3
    """μ of Adam (paper, IV-B: PaviaU and KSC; 2.5e-3 for DC, 8e-3 for Hyperion and Sentinel-2 in the
    code)."""
    hsi_weight: NotNegative = 0.1
    """λ of ‖Y − X B D‖² (paper, IV-B; 1 for Hyperion and Sentinel-2 in the code)."""
    prior_weight: NotNegative = 1e-3
    """γ of the prior's term (paper, IV-B; .1 for Hyperion and Sentinel-2 in the code); 0 leaves it out."""
    weight_decay: NotNegative = 1e-6
    """Of Adam, on the image too (code)."""
    image_ema: Share = 0.9
    """Decay of the average of the image over Adam steps, which is the result (code); 0 takes the last
    image."""
    start: Literal["ones", "upsampled"] = "ones"
    """The first image: ones (code; the paper does not say), or the HSI upsampled. Adam moves a value by about
    its learning rate a step, so far fewer steps than published cannot come from ones to the scene."""


@dataclass(frozen=True)
class SdpTraining:
    """How the prior is trained."""

    iterations: Count = 30_000
    """Batches (code); the paper's table I says epochs."""
    batch: Count = 512
    """Spectra a batch (paper, table I; code)."""
    learning_rate: Positive = 1e-2
    """Of Adam at first (paper, table I; 5e-3 for Hyperion and Sentinel-2 in the code)."""
    learning_rate_fall: Count = 10_000
    """Batches over which it falls by a straight line to a thousandth (paper, table I; code)."""
    weight_decay: NotNegative = 1e-6
    """Of Adam (code)."""
    ema_decay: Share = 0.999
    """Of the average of the weights (code)."""
    ema_start: Count = 1
    """First batch that is averaged, not copied; the first of all in the code. In a short training the average
    would hold much of the first weights: e⁻¹ of them after 1000 batches."""
    seed: Seed = 0
    """Of everything random."""
    crop: Count = 64
    """Side of the crops that are fused for the held-out table and the pictures, pixels (ours)."""
    log_every: Count = 1000
    """Batches between lines of the log."""
    validate_every: Count = 5000
    """Batches between validations and saved states."""

    @property
    def augmentation(self) -> None:
        """None: spectra are learned as they are."""


@dataclass(frozen=True)
class SdpConfig:
    """What the prior is, and how pairs are fused under it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    bands: Bands
    """The B bands of a spectrum, of the HSI and of the result."""
    response: Bands
    """The C bands of the MSI. The prior itself does not know them."""
    pair: PairConfig
    """Ratio, PSF and noise of a pair. The prior itself does not know them either."""
    network: SpectralMLPSizes = field(default_factory=SpectralMLPSizes)
    """The denoiser's sizes."""
    scale: Positive | None = None
    """Reflectance that is 1 for the prior, whose data lie in [0, 1] (paper, IV); None is the largest value of
    the spectra that it learns from (ours)."""
    timesteps: Steps = 1000
    """T of the linear schedule, β 1e-4 to .02 (paper, table I)."""
    steps: Steps = 1000
    """Times of the fusion, all T as published."""
    fusion: SdpFusion = field(default_factory=SdpFusion)
    """How a pair is fused."""
    training: SdpTraining = field(default_factory=SdpTraining)
    """How the prior is trained."""

    def __post_init__(self) -> None:
        if self.steps > self.timesteps:
            raise UsageError("times of the fusion", got=self.steps, expected=f"up to {self.timesteps}")
        if self.steps * self.fusion.inner > 1 << 16:
            raise UsageError(
                "Adam steps of a fusion", got=self.steps * self.fusion.inner, expected=f"up to {1 << 16}"
            )
        if self.training.crop % self.pair.ratio:
            raise UsageError(
                "crops are no whole coarse pixels", got=self.training.crop,
                expected=f"a multiple of {self.pair.ratio}",
            )  # fmt: skip

    @property
    def sizes(self) -> SpectralMLPConfig:
        """The denoiser's structure."""
        return SpectralMLPConfig(**asdict(self.network), bands=len(self.bands))

    @cached_property
    def schedule(self) -> Schedule:
        """The forward process."""
        return linear_schedule(self.timesteps, beta_1=1e-4, beta_T=0.02)

    @property
    def settings(self) -> Mapping[str, object]:
        """How it fuses, as plain JSON values."""
        return {"sampler": "adam", "ratio": self.pair.ratio, **asdict(self.fusion)}

    def estimate(self, steps: int) -> str:
        """One estimate; its noise is that of the gradient, so its samples say little about its error."""
        return "sample"

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain JSON values."""
        return {**asdict(self), "bands": self.bands.to_json(), "response": self.response.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SdpConfig:
        """The configuration that ``to_json`` wrote; ValueError or UsageError where it is none."""
        if not (isinstance(value["bands"], dict) and isinstance(value["response"], dict)):
            raise ValueError("bands and response are tables of centres and widths")
        bands, response = Bands.from_json(value["bands"]), Bands.from_json(value["response"])
        return TypeAdapter(cls).validate_python({**value, "bands": bands, "response": response})


def sdp_paper() -> SdpConfig:
    """SDP for PaviaU: 103 bands, ratio 8, a blur of σ 3.4 in 15 taps, 20 dB and 30 dB of noise (paper, IV-A).

    The paper's MSI is IKONOS by its measured response, which a recipe reads from a file; these four nominal
    bands stand in for it where no file is read.
    """
    camera = FILE_SENSORS["rgbn"].bands
    return SdpConfig(
        bands=PAVIA_UNIVERSITY,
        response=camera.subset(np.flatnonzero(resampling_matrix(PAVIA_UNIVERSITY, camera)[1])),
        pair=PairConfig(ratio=8, psf_sigma=3.4, psf_size=15, snr_db=(20.0, 30.0)),
    )
