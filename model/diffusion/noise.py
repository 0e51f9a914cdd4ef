"""Standard normal noise as a function of the position on the scene's grid.

The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
counter-based: each pixel's value depends only on its own counter and key. So overlapping tiles agree, and
batch size and order of tiles cannot change a scene. Words have 32 bits and are stored in int64 tensors, whose
multiplication wraps modulo 2**64 on every device.
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
    counter : four int64 tensors in [0, 2**32) that broadcast against each other. Words that depend on fewer
        axes are not expanded before a round needs it, which saves about a quarter of the work.
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
    # In place if the shape allows it: the word may have an axis that the product does not have yet.
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

    A pixel has the same value in every window. The random bits are the same on every device. The float64
    logarithm and sine may differ in the last bit; after rounding to float32 that changes about one value in
    2**28.

    Parameters
    ----------
    seed, stage : the key, each in [0, 2**32); see ``spectile.catalog.limits`` for the seed.
    step, sample : in [0, 2**16).
    channels : number of channels C, at least 1.
    origins : (N, 2) int64, (row, col) of each window's first pixel; may be negative.
    height, width : of the windows, in pixels.
    device : where to compute.
    level : in [0, 2**16); levels are independent of each other, like channels.

    Raises
    ------
    UsageError
        Seed, stage, step or sample is out of range.
    """
    check_seed(seed)
    _check("stage", stage, 1 << 32)
    _check("step", step, 1 << _STEP_BITS)
    _check("sample", sample, 1 << _STEP_BITS)
    _check("level", level, 1 << _STEP_BITS)
    at = origins.to(device=device, dtype=torch.int64)
    rows = (at[:, 0, None] + torch.arange(height, device=device)) & _WORD
    cols = (at[:, 1, None] + torch.arange(width, device=device)) & _WORD
    groups = (level << _STEP_BITS) | torch.arange(-(-channels // _CHANNELS_PER_CALL), device=device)
    last, key = torch.tensor((sample << _STEP_BITS) | step, device=device), (seed, stage)
    if torch.device(device).type != "cpu":
        return _normals(rows, cols, groups, last, key)[:, :channels]
    # One window and one group of channels at a time, so that the intermediate values stay in the cache.
    out = torch.empty((len(origins), channels, height, width), dtype=torch.float32)
    for n in range(len(origins)):
        for group in range(len(groups)):
            first = group * _CHANNELS_PER_CALL
            part = _normals(rows[n : n + 1], cols[n : n + 1], groups[group : group + 1], last, key)[0]
            out[n, first : first + _CHANNELS_PER_CALL] = part[: channels - first]
    return out


def _normals(rows: Tensor, cols: Tensor, groups: Tensor, last: Tensor, key: tuple[int, int]) -> Tensor:
    """(N, 4 G, h, w) float32 normals of words (N, h), (N, w) and (G,), all at once."""
    counter = (
        rows[:, None, :, None],
        cols[:, None, None, :],
        groups[None, :, None, None],
        last.expand(1, 1, 1, 1),
    )
    words = philox4x32(counter, key)
    normals = (*_box_muller(words[0], words[1]), *_box_muller(words[2], words[3]))
    return torch.stack([normal.float() for normal in normals], dim=2).flatten(1, 2)


def _box_muller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent standard normal tensors, float64, from two of 32-bit words.

    Box and Muller 1958: r cos(a), r sin(a) with r = sqrt(-2 ln u), a = 2 pi v. Adding a half keeps u above
    zero and bounds the normals at 6.76.
    """
    radius = first.double().add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    angle = second.double().mul_(2.0 * math.pi * 2.0**-32)
    return radius * angle.cos(), angle.sin_().mul_(radius)


def _check(name: str, value: int, stop: int) -> None:
    if not 0 <= value < stop:
        raise UsageError(f"{name} out of range", got=value, expected=f"0 to {stop - 1}")
