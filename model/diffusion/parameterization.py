"""The quantities that a network may predict, and the conversions between them.

With a = sqrt(alpha_bar) and s = sqrt(1 - alpha_bar): ``x_t = a x_0 + s eps`` and
``v = a eps - s x_0`` (Salimans and Ho 2022, section 4), so ``x_0 = a x_t - s v``.
``alpha_bar`` is a float or a tensor that broadcasts against the states.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

Prediction = Literal["eps", "x0", "v"]


def add_noise(x_0: Tensor, eps: Tensor, alpha_bar: float | Tensor) -> Tensor:
    """The state x_t (Ho et al. 2020, equation 4)."""
    return _sqrt(alpha_bar) * x_0 + _sqrt(1.0 - alpha_bar) * eps


def to_x0(output: Tensor, x_t: Tensor, alpha_bar: float | Tensor, kind: Prediction) -> Tensor:
    """The estimate of x_0 from the network's output."""
    a, s = _sqrt(alpha_bar), _sqrt(1.0 - alpha_bar)
    if kind == "eps":
        return (x_t - s * output) / a
    return output if kind == "x0" else a * x_t - s * output


def target(x_0: Tensor, eps: Tensor, alpha_bar: float | Tensor, kind: Prediction) -> Tensor:
    """The training target of the network's output."""
    if kind == "eps":
        return eps
    return x_0 if kind == "x0" else _sqrt(alpha_bar) * eps - _sqrt(1.0 - alpha_bar) * x_0


def _sqrt(value: float | Tensor) -> float | Tensor:
    return value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)
