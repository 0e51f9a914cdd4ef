"""Image Condition Mixture Guidance (ICMG; Chen et al. 2024, section III-C) and the training it needs."""

from __future__ import annotations

import torch
from torch import Tensor


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """eps_c + s (eps_c - eps_u), SCDM equation 19; s = 0 leaves the conditional prediction.

    A larger s narrows the spread of samples. That alone lowers their squared error, so judge s by the spread
    too.
    """
    return conditional + scale * (conditional - unconditional)


def null_condition(condition: Tensor) -> Tensor:
    """The null condition: 0 after normalisation, as in the authors' code.

    In the paper it is pixel value 0, before normalisation.
    """
    return torch.zeros_like(condition)


def drop_condition(condition: Tensor, probability: float, *, generator: torch.Generator) -> Tensor:
    """The (N, C, h, w) conditions, each replaced by the null one with ``probability`` (SCDM, algorithm 1)."""
    draw = torch.rand(len(condition), generator=generator, device=generator.device)
    keep = (draw >= probability).to(condition.device).reshape(-1, *[1] * (condition.dim() - 1))
    return torch.where(keep, condition, null_condition(condition))
