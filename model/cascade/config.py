"""How a cascade is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from spectile.catalog.fields import Count, NotNegative, Positive, Seed, Share
from spectile.model.data.crops import Augmentation


@dataclass(frozen=True)
class TrainConfig:
    """How to train; with the scenes and the cascade's configuration it fixes the result."""

    steps: Count = 3000
    """Optimiser steps."""
    batch: Count = 12
    """Crops a step."""
    crop: Count = 64
    """Side of a crop, pixels; a multiple of the network's stride."""
    learning_rate: Positive = 1e-3
    """Peak of the cosine schedule."""
    warmup: Annotated[int, Field(ge=0)] = 150
    """Steps of linear rise before it."""
    weight_decay: NotNegative = 1e-3
    """AdamW's."""
    ema_decay: Share = 0.998
    """Decay of the averaged weights, which are the saved ones."""
    condition_dropout: Share = 0.0
    """Share of crops whose condition is zeroed, which guidance needs (p_unc of SCDM: 0.1)."""
    angle: NotNegative = 2.0
    """Weight of SCDM's spectral loss, 1 − cos, of the mean, beside its squared error in units of the
    closed form's."""
    coarse_noise: NotNegative = 0.15
    """Largest scale of the first stage's residual that is added to the second stage's coarse bands."""
    seed: Seed = 0
    """Of everything random."""
    log_every: Count = 25
    """Steps between lines of the log."""
    validate_every: Count = 500
    """Steps between validations and saved states."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """How the input is varied."""
