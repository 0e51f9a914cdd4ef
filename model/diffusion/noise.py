"""Standard normal noise as a function of the position on the scene's grid.

The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
counter-based: each pixel's value depends on its own counter and key alone, so that overlapping tiles
agree and neither batch size nor order of tiles can change a scene. Words are 32 bits wide and live in
int64 tensors, whose multiplication wraps modulo 2**64 on every device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spectile.catalog.errors import UsageError
from spectile.catalog.limits import check_seed

# Salmon et al. 2011, section 4.1: multipliers and the Weyl increments of the key.
_MULTIPLIER_0 = 0xD2511F53
_MULTIPLIER_1 = 0xCD9E8D57
_WEYL_0 = 0x9E3779B9
_WEYL_1 = 0xBB67AE85
_WORD = 0xFFFFFFFF
_ROUNDS = 10

_CHANNELS_PER_CALL = 4
_STEP_BITS = 16


def philox4x32(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four words of random bits for each counter, as int64 tensors in [0, 2**32).

    Parameters
    ----------
    counter : four int64 tensors in [0, 2**32) that broadcast against each other. What depends on fewer
        axes is kept so for as many rounds as it lasts, which saves about a quarter of the work.
    key : two integers in [0, 2**32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # (hi, lo) of the 64-bit products; >> is arithmetic, so the sign bits are masked away.
        product_0 = c0 * _MULTIPLIER_0
        product_1 = c2 * _MULTIPLIER_1
        c0 = _mix(product_1, c1, k0)
        c2 = _mix(product_0, c3, k1)
        c1 = product_1.bitwise_and_(_WORD)
        c3 = product_0.bitwise_and_(_WORD)
        k0 = (k0 + _WEYL_0) & _WORD
        k1 = (k1 + _WEYL_1) & _WORD
    return c0, c1, c2, c3


def _mix(product: Tensor, word: Tensor, key: int) -> Tensor:
    """The high word of ``product``, exclusive-or ``word`` and ``key``."""
    high = (product >> 32).bitwise_and_(_WORD).bitwise_xor_(key)
    # In place where the shape allows: the word may still span an axis that the product does not.
    in_place = all(wide in (1, deep) for wide, deep in zip(word.shape, high.shape, strict=True))
    return high.bitwise_xor_(word) if in_place else high ^ word


def noise(
    *,
    seed: int,
    stage: int,
    step: int,
    sample: int,
    channels: int,
    origins: Tensor,
    height: int,
    width: int,
    device: torch.device | str,
    level: int = 0,
) -> Tensor:
    """Standard normal noise of windows on the scene's grid, (N, channels, height, width) float32.

    The same pixel has the same value whatever window asks for it. Bits are the same on every device;
    the float64 logarithm and sine behind the normals may differ in the last bit, which float32 hides
    but for one value in about 2**28.

    Parameters
    ----------
    seed, stage : the key, each in [0, 2**32); ``spectile.catalog.limits`` has the seed's limit.
    step, sample : in [0, 2**16).
    channels : number of channels C, at least 1.
    origins : (N, 2) int64, (row, col) of each window's first pixel; may be negative.
    height, width : of the windows, in pixels.
    device : where to compute.
    level : in [0, 2**16); levels are independent of each other, as channels are.

    Raises
    ------
    UsageError
        Where seed, stage, step or sample is out of its range.
    """
    check_seed(seed)
    _check("stage", stage, 1 << 32)
    _check("step", step, 1 << _STEP_BITS)
    _check("sample", sample, 1 << _STEP_BITS)
    _check("level", level, 1 << _STEP_BITS)
    out = torch.empty((len(origins), channels, height, width), dtype=torch.float32, device=device)
    rows = torch.arange(height, dtype=torch.int64, device=device)[:, None]
    cols = torch.arange(width, dtype=torch.int64, device=device)[None, :]
    last = torch.tensor([[(sample << _STEP_BITS) | step]], dtype=torch.int64, device=device)
    # One window and one group of channels at a time: what is held at once stays in the cache.
    for window, (row, col) in enumerate(origins.tolist()):
        row_word = (rows + row) & _WORD
        col_word = (cols + col) & _WORD
        for first in range(0, channels, _CHANNELS_PER_CALL):
            word = (level << _STEP_BITS) | (first // _CHANNELS_PER_CALL)
            group = torch.tensor([[word]], dtype=torch.int64, device=device)
            words = philox4x32((row_word, col_word, group, last), (seed, stage))
            normals = (*_box_muller(words[0], words[1]), *_box_muller(words[2], words[3]))
            for offset, normal in enumerate(normals[: channels - first]):
                out[window, first + offset] = normal
    return out


def _box_muller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent standard normal tensors, float64, from two of 32-bit words.

    Box and Muller 1958: r cos(a), r sin(a) with r = sqrt(-2 ln u), a = 2 pi v. The half keeps u off
    zero, and bounds the normals at 6.76.
    """
    radius = first.double().add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    angle = second.double().mul_(2.0 * math.pi * 2.0**-32)
    return radius * angle.cos(), angle.sin_().mul_(radius)


def _check(name: str, value: int, stop: int) -> None:
    if not 0 <= value < stop:
        raise UsageError(f"{name} out of range", got=value, expected=f"0 to {stop - 1}")
