"""The kinds of numbers that settings hold, as pydantic validates them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from catalog.limits import LAST_SEED

Seed = Annotated[int, Field(ge=0, le=LAST_SEED)]
"""A seed of noise."""
