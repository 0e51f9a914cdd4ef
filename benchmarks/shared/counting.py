"""Multiply-adds of a computation in torch, counted while it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


class _Pointwise(TorchDispatchMode):
    """Counts the values that operations on single values make."""

    values = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if torch.Tag.pointwise in func.tags and isinstance(out, torch.Tensor):
            self.values += out.numel()
        return out


def _transform(shape: Sequence[int], dim: Sequence[int], *rest: object, **named: object) -> int:
    """5 N log₂ N operations of a complex Fourier transform of N values, for each one."""
    points = math.prod(shape[axis] for axis in dim)
    return round(5.0 * math.prod(shape) * math.log2(max(points, 2)))


def multiply_adds(compute: Callable[[], object]) -> float:
    """Those of matrix products, convolutions, Fourier transforms and operations on single values.

    An operation on a single value is half a multiply-add; a transform of N values is 2.5 N log₂ N. Sums,
    softmax, sorting and interpolation are not counted.
    """
    aten = torch.ops.aten
    transforms = dict.fromkeys((aten._fft_c2c, aten._fft_r2c, aten._fft_c2r), _transform)
    with _Pointwise() as single, FlopCounterMode(display=False, custom_mapping=transforms) as products:
        compute()
    return (products.get_total_flops() + single.values) / 2.0
