"""The losses of the diffusion models: noise and spectral angle (Chen et al. 2024, III-B.2).

A mask selects the values that count: (N, B) for scenes that lack bands, (N, B, h, w) for masked pixels, both
bool or float in {0, 1}. Means are over the selected values; if there are none, the loss is 0.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from spectile.model.diffusion.parameterization import to_x0


def prediction_loss(
    output: Tensor, target: Tensor, *, kind: Literal["mse", "l1"], mask: Tensor | None = None
) -> Tensor:
    """The mean error of (N, B, h, w) predictions: squared (SCDM equation 13) or absolute (its code)."""
    difference = output - target
    if mask is not None:
        # Masked before the square, because the gradient of the square would propagate a masked NaN.
        difference = difference.where(_expand(mask, difference), 0.0)
    return _mean(difference.square() if kind == "mse" else difference.abs(), mask)


def spectral_loss(
    estimate: Tensor, truth: Tensor, *, weight: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """The mean of w (1 - cos) between (N, B, h, w) spectra, SCDM equation 14.

    Parameters
    ----------
    estimate, truth : spectra as measured; after subtraction of a mean the angle would be meaningless.
    weight : (N,), one per sample; 1 if None.
    mask : unselected bands are left out of a pixel's angle, pixels without selected bands out of the mean.
    """
    pixels = None
    if mask is not None:
        mask = _expand(mask, truth)
        # where instead of a product, because masked values may be NaN.
        estimate, truth = estimate.where(mask, 0.0), truth.where(mask, 0.0)
        pixels = mask.any(dim=1)
    loss = 1.0 - F.cosine_similarity(estimate, truth, dim=1)
    if weight is not None:
        loss = loss * weight.reshape(-1, 1, 1)
    return _mean(loss, pixels)


def scdm_loss(
    output: Tensor,
    eps: Tensor,
    *,
    x_0: Tensor,
    x_t: Tensor,
    alpha_bar: Tensor,
    offset: float,
    scale: float,
    kind: Literal["mse", "l1"] = "l1",
    spectral_weight: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """SCDM equation 15 for a network that predicts the noise.

    Two differences from the authors' code, which uses the cosine of normalised spectra with one weight for
    all times. Spectra are de-normalised first. Each sample has the weight ``alpha_bar``, its share of signal,
    because at t = T the estimate of x_0 multiplies the network's error by about 160.

    Parameters
    ----------
    output, eps : (N, B, h, w), the predicted and the true noise.
    x_0, x_t : (N, B, h, w), data and state, normalised.
    alpha_bar : (N, 1, 1, 1).
    offset, scale : normalised = (measured - offset) / scale.
    """
    estimate = to_x0(output, x_t, alpha_bar, "eps")
    angle = spectral_loss(
        estimate * scale + offset, x_0 * scale + offset, weight=alpha_bar.flatten(), mask=mask
    )
    return prediction_loss(output, eps, kind=kind, mask=mask) + spectral_weight * angle


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return values.mean()
    mask = _expand(mask, values)
    return values.where(mask, 0.0).sum() / mask.sum().clamp(min=1)


def _expand(mask: Tensor, like: Tensor) -> Tensor:
    """The mask as bool, in the shape of ``like``."""
    tail = [1] * (like.dim() - mask.dim())
    return mask.to(torch.bool).reshape(*mask.shape, *tail).expand_as(like)
