"""Image Condition Mixture Guidance (ICMG; Chen et al. 2024, section III-C) and the training it needs."""

from __future__ import annotations

import torch
from torch import Tensor


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """eps_c + s (eps_c - eps_u), SCDM equation 19; s = 0 leaves the conditional prediction.

    Raising s narrows the spread of samples, which lowers their squared error whether or not they get
    better: judge it by the spread too.
    """
    return conditional + scale * (conditional - unconditional)


def null_condition(condition: Tensor) -> Tensor:
    """The condition that stands for none: 0 after normalisation, as in the authors' code.

    The paper says pixel value 0, before it.
    """
    return torch.zeros_like(condition)


def drop_condition(condition: Tensor, probability: float, *, generator: torch.Generator) -> Tensor:
    """The (N, C, h, w) conditions, each replaced by none with ``probability`` (SCDM, algorithm 1 line 3)."""
    draw = torch.rand(len(condition), generator=generator, device=generator.device)
    keep = (draw >= probability).to(condition.device).reshape(-1, *[1] * (condition.dim() - 1))
    return torch.where(keep, condition, null_condition(condition))
