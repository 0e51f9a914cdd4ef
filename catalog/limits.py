"""The range of seeds, which every package checks."""

from __future__ import annotations

from typing import Final

from spectile.catalog.errors import UsageError

LAST_SEED: Final = 2**32 - 1
"""The largest seed: the key of the noise has words of 32 bits."""


def check_seed(seed: int) -> None:
    """Raise UsageError if a seed is out of range."""
    if not 0 <= seed <= LAST_SEED:
        raise UsageError("seed out of range", got=seed, expected=f"0 to {LAST_SEED}")
