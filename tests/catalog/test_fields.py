"""Numbers that settings may hold, at their edges."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from spectile.catalog import fields

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("name", "taken", "refused"),
    [
        ("Count", (1, 10**9), (0, -1, 10**9 + 1, 1.5)),
        ("Width", (1, 8192), (0, 8193)),
        ("Depth", (0, 64), (-1, 65)),
        ("Members", (1, 64), (0, 65)),
        ("Steps", (1, 10_000), (0, 10_001)),
        ("Finite", (-1e300, 0.0, 1e300), (INF, -INF, NAN)),
        ("Positive", (1e-300, 1e300), (0.0, -1e-300, INF, NAN)),
        ("NotNegative", (0.0, 1e300), (-1e-300, INF, NAN)),
        ("Share", (0.0, 1.0), (-1e-9, 1.0 + 1e-9, INF, NAN)),
        ("Seed", (0, 2**32 - 1), (-1, 2**32)),
    ],
)
def test_a_kind_of_number_takes_its_edges_and_nothing_beyond(
    name: str, taken: tuple[Any, ...], refused: tuple[Any, ...]
) -> None:
    check = TypeAdapter(getattr(fields, name))
    assert tuple(map(check.validate_python, taken)) == taken
    for value in refused:
        with pytest.raises(ValidationError):
            check.validate_python(value)
