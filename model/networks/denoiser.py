"""The methods that a denoiser names, so that they can be accelerated and timed."""

from __future__ import annotations

from typing import ClassVar

from torch import nn


class Denoiser(nn.Module):
    """A network with a condition branch and a denoiser."""

    calls: ClassVar[tuple[str, str]]
    """The methods that do its work: the condition branch, the denoiser."""
    narrow: ClassVar[tuple[str, ...]] = ()
    """Methods whose results may stay in bfloat16 at any size."""
