"""The kinds of numbers that settings hold, as pydantic validates them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from spectile.catalog.limits import LAST_SEED

Count = Annotated[int, Field(ge=1, le=10**9)]
"""How many of what there must be at least one of."""
Width = Annotated[int, Field(ge=1, le=8192)]
"""Channels of a layer: bounded, so that a file cannot ask for more memory than any machine has."""
Depth = Annotated[int, Field(ge=0, le=64)]
"""Layers, levels or networks; bounded alike."""
Members = Annotated[int, Field(ge=1, le=64)]
"""Networks a stage."""
Steps = Annotated[int, Field(ge=1, le=10_000)]
"""Steps of a diffusion."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A finite number …"""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""… above zero …"""
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""… or not below it."""
Share = Annotated[float, Field(ge=0, le=1)]
"""A number from zero to one."""
Seed = Annotated[int, Field(ge=0, le=LAST_SEED)]
"""A seed of noise."""
