"""How far a network sees."""

from __future__ import annotations

import torch
from torch import nn


def reach_of(module: nn.Module) -> int:
    """How far, in pixels, one output pixel sees to its sides."""
    rgb = torch.randn(1, 3, 1, 89, requires_grad=True)
    module(rgb)[0, :, 0, 44].sum().backward()
    assert rgb.grad is not None
    seen = torch.nonzero(rgb.grad.abs().sum((0, 1, 2)))[:, 0]
    return int((seen - 44).abs().max())
