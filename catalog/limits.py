"""The range of a setting that every package checks, in one place."""

from __future__ import annotations

from typing import Final

from spectile.catalog.errors import UsageError

LAST_SEED: Final = 2**32 - 1
"""The greatest seed: noise is keyed by words of 32 bits."""


def check_seed(seed: int) -> None:
    """Raise UsageError where a seed is out of range."""
    if not 0 <= seed <= LAST_SEED:
        raise UsageError("seed out of range", got=seed, expected=f"0 to {LAST_SEED}")
