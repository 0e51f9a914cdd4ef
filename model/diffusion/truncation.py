"""Progressive Dynamic Truncation (PDT; Chen et al. 2024, section III-D).

The paper clamps the guided noise estimate ("eps"), the authors' code the state before the network ("x_t").
On data with an exact score the first leaves noise that no later step removes, and the second changes almost
nothing. So the preset uses the second.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

TruncationTarget = Literal["x_t", "eps"]


def percentile(t: float, *, steps: int, p_T: float) -> float:
    """p(t), linear from ``p_T`` at t = T to 1 at t = 1, the last step (SCDM equation 20).

    The paper's settings state p_0 = .96, but its equation has p_0 = 1 and a smaller p_T. This function
    follows the equation and the code, which counts times from 0.
    """
    share = max(t - 1.0, 0.0) / max(steps - 1.0, 1.0)
    return 1.0 + (p_T - 1.0) * share


def truncate(x: Tensor, share: float) -> Tensor:
    """The (N, ...) values clamped to [-tau, tau], with tau the ``share`` quantile of each |x|, at least 1."""
    tau = quantile(x.abs().flatten(1).float(), share).clamp(min=1.0)
    tau = tau.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))
    return x.clamp(-tau, tau)


def quantile(values: Tensor, share: float) -> Tensor:
    """The (N,) quantile of each row of (N, M), exact, between neighbours in rank by linear interpolation.

    It uses selection: ``torch.quantile`` refuses more than 2**24 values (102 bands of 512 by 512 pixels have
    more), and ``torch.kthvalue`` takes quadratic time on sorted values.
    """
    rank = share * (values.shape[1] - 1)
    below = math.floor(rank)
    top = values.topk(values.shape[1] - below, dim=1, sorted=False).values
    least = top.topk(min(2, top.shape[1]), dim=1, largest=False).values
    return torch.lerp(least[:, 0], least[:, -1], rank - below)
