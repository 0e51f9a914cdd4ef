"""Losses of the code and of the codebook."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

WINDOW = 11
SIGMA = 1.5
RANGE = 2.0
"""Of a scaled code, which the code's authors keep between −1 and 1."""
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001)
"""Of the finest scales (Wang et al. 2003)."""


def codebook_losses(code: Tensor, nearest: Tensor, kind: Literal["l1", "l2"]) -> tuple[Tensor, Tensor]:
    """How far the codes are from what is encoded (N, n, h, w), and the reverse (equation 4)."""
    pull = functional.l1_loss if kind == "l1" else functional.mse_loss
    return pull(nearest, code.detach()), pull(code, nearest.detach())


def structural_loss(estimate: Tensor, truth: Tensor, *, scales: int = 1) -> Tensor:
    """1 − SSIM of scaled codes (N, n, h, w), equation 23; over several scales 1 − MS-SSIM (Wang et al. 2003).

    Windows are Gaussian, of 11 values with σ 1.5, or as large as the code is. A finer scale counts by its
    contrast and structure, the coarsest by its luminance too.
    """
    used = SCALE_WEIGHTS[:scales]
    total = estimate.new_ones(estimate.shape[:2])
    for scale, weight in enumerate(used):
        luminance, structure = _similarity(estimate, truth)
        last = scale + 1 == scales
        part = (luminance * structure if last else structure).mean((2, 3))
        if scales == 1:
            return 1.0 - part.mean()
        total = total * part.clamp_min(1e-6) ** (weight / sum(used))
        if not last:
            estimate, truth = functional.avg_pool2d(estimate, 2), functional.avg_pool2d(truth, 2)
    return 1.0 - total.mean()


def _similarity(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance, and contrast × structure, at each window inside (N, n, h, w)."""
    size = min(WINDOW, *a.shape[-2:])
    at = torch.arange(size, dtype=a.dtype, device=a.device) - (size - 1) / 2
    line = torch.exp(-0.5 * (at / SIGMA) ** 2)
    line = line / line.sum()
    channels = a.shape[1]

    def blurred(x: Tensor) -> Tensor:
        x = functional.conv2d(x, line.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
        return functional.conv2d(x, line.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)

    mean_a, mean_b = blurred(a), blurred(b)
    var_a, var_b = blurred(a * a) - mean_a.square(), blurred(b * b) - mean_b.square()
    covariance = blurred(a * b) - mean_a * mean_b
    c_1, c_2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    luminance = (2.0 * mean_a * mean_b + c_1) / (mean_a.square() + mean_b.square() + c_1)
    return luminance, (2.0 * covariance + c_2) / (var_a + var_b + c_2)
