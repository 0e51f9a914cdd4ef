"""Whether a cascade's second stage uses its first."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spectile.model.cascade.cascade import SpectralCascade
from spectile.model.data.crops import Batch


@torch.inference_mode()
def shuffle_factor(model: SpectralCascade, batch: Batch, *, seed: int) -> float:
    """How much the second stage's RMSE grows if its coarse bands come from other pixels."""
    generator = torch.Generator().manual_seed(seed)
    batch = batch.to(model.device)
    coarse = batch.target[:, list(model.config.coarse_bands)]
    spectra, valid = coarse.movedim(1, -1).clone(), batch.valid > 0
    own = spectra[valid]
    spectra[valid] = own[torch.randperm(len(own), generator=generator)]
    turned = spectra.movedim(-1, 1)

    def error(given: Tensor) -> float:
        draw = model.drawn_by(torch.Generator().manual_seed(seed), len(given), *given.shape[2:])
        estimate = model.refine(batch.rgb, given, draw)
        squared = (estimate - batch.target).square() * batch.valid[:, None]
        return math.sqrt(float(squared.sum() / (batch.valid.sum() * estimate.shape[1])))

    return error(turned) / error(coarse)
