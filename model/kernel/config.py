"""What a kernel ridge regression is, and how it is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter

from spectile.catalog.bands import Bands
from spectile.catalog.errors import UsageError
from spectile.catalog.fields import Count, Seed
from spectile.model.data.crops import Augmentation

SAMPLE = 2
"""Steps that give a sample; one gives the mean. There is no solver, so there are no more."""


@dataclass(frozen=True)
class KernelConfig:
    """The structure of the model."""

    bands: Bands
    """The bands that it predicts."""
    response: Bands
    """Of its input's C channels."""
    degree: Count = 3
    """Of the polynomial of the channels."""
    kernels: Count = 512
    """Gaussian kernels, each around a training colour."""
    components: Count = 12
    """Principal components of the residual that samples are made of."""
    timesteps: int = SAMPLE
    """Steps at most."""
    steps: int = SAMPLE
    """By default."""

    def __post_init__(self) -> None:
        if self.components > len(self.bands):
            raise UsageError(
                "components of the residual",
                got=self.components,
                expected=f"up to {len(self.bands)}, its bands",
            )

    @property
    def settings(self) -> Mapping[str, object]:
        """How it samples, as plain JSON values."""
        return {"sampler": "gaussian"}

    def estimate(self, steps: int) -> str:
        """What so many steps give."""
        return "posterior mean" if steps == 1 else "sample"

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain JSON values."""
        return {**asdict(self), "bands": self.bands.to_json(), "response": self.response.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> KernelConfig:
        """The configuration that ``to_json`` wrote; ValueError or UsageError where it is none."""
        if not (isinstance(value["bands"], dict) and isinstance(value["response"], dict)):
            raise ValueError("bands and response are tables of centres and widths")
        bands, response = Bands.from_json(value["bands"]), Bands.from_json(value["response"])
        return TypeAdapter(cls).validate_python({**value, "bands": bands, "response": response})


@dataclass(frozen=True)
class KernelTraining:
    """How to fit it; with the scenes and the configuration it fixes the result."""

    crop: Count = 64
    """Side of the crops that pixels are drawn from, pixels."""
    crops: Count = 100
    """Crops of each place and library; each gives up to 200 pixels."""
    seed: Seed = 0
    """Of everything random."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """How the input is varied."""
