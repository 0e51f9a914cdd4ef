"""The kinds of numbers that settings hold, as pydantic validates them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from spectile.catalog.limits import LAST_SEED

Count = Annotated[int, Field(ge=1, le=10**9)]
"""A count of at least one."""
Width = Annotated[int, Field(ge=1, le=8192)]
"""Channels of a layer; the limit keeps a file from requesting more memory than any machine has."""
Depth = Annotated[int, Field(ge=0, le=64)]
"""Layers, levels or networks; limited for the same reason."""
Members = Annotated[int, Field(ge=1, le=64)]
"""Networks per stage."""
Steps = Annotated[int, Field(ge=1, le=10_000)]
"""Steps of a diffusion."""
Side = Annotated[int, Field(ge=16, le=8192)]
"""Rows and columns of a scene that is made up, px; limited for the same reason."""
Whole = Annotated[int, Field(ge=0, le=10**6)]
"""A whole number, zero or more: columns, or scenes that are made up."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A finite number."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A finite number above zero."""
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A finite number, zero or more."""
Share = Annotated[float, Field(ge=0, le=1)]
"""A number from zero to one."""
Seed = Annotated[int, Field(ge=0, le=LAST_SEED)]
"""A seed of noise."""
