"""Statistics of a cube's arrays: summed block by block in exact integers, computed once at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.counts import NODATA, SCALE
from spectile.pipeline.plan.arrays import Values
from spectile.pipeline.plan.quality_layers import FLAGS

Sums = dict[str, list[int]]
"""Of the pixels that hold something, in each band: ``count``, ``min``, ``max``, ``sum``, ``squares`` of
stored counts; of ``quality`` how many have each of FLAGS, ``flags``. Integers: exact in any order."""


def take_sums(kind: Values, values: NDArray[Any]) -> Sums | None:
    """The sums of stored values (B, h, w) or (h, w); None of a kind that has no statistics.

    Where no pixel holds anything, ``min`` is NODATA and ``max`` 0.
    """
    if kind == "flags":
        return {"flags": [int(np.count_nonzero(values & np.uint8(bit))) for bit in FLAGS.values()]}
    if kind != "reflectance":
        return None
    sums: Sums = {key: [] for key in ("count", "min", "max", "sum", "squares")}
    bands = values if values.ndim == 3 else values[None]
    whole = np.empty(bands.shape[1:], dtype=np.float64)
    for band in bands:
        # In float64 sums of squares are whole numbers up to 2^53, and those of a shard do not pass 2^50: in
        # whatever order they are summed, they are exact. NODATA is the largest count and one more is 0, so
        # nothing need be picked out.
        whole[...] = band
        exact = whole.ravel()
        missing = band.size - int(np.count_nonzero(band != NODATA))
        sums["count"].append(band.size - missing)
        sums["min"].append(int(band.min()))
        sums["max"].append(max(int((band + np.uint16(1)).max()) - 1, 0))
        sums["sum"].append(int(exact.sum()) - missing * NODATA)
        sums["squares"].append(int(np.einsum("i,i->", exact, exact)) - missing * NODATA**2)
    return sums


def add_sums(parts: Iterable[Mapping[str, Sums]]) -> dict[str, Sums]:
    """The sums of several parts of a cube together, by array."""
    total: dict[str, Sums] = {}
    for part in parts:
        for name, sums in part.items():
            summed = total.setdefault(name, {})
            for key, numbers in sums.items():
                before = summed.get(key)
                how = {"min": min, "max": max}.get(key, lambda a, b: a + b)
                summed[key] = list(numbers) if before is None else [*map(how, before, numbers)]
    return total


def describe(sums: Sums) -> dict[str, Any]:
    """What an array's attribute ``statistics`` says.

    ``valid_count``, and in reflectance, rounded to 1e-8, ``minimum``, ``maximum``, ``mean`` and ``stddev``
    (over n), each a list with a number for each band, None where no pixel holds anything; of ``quality`` the
    number of pixels with each flag, ``flag_counts``.
    """
    if "flags" in sums:
        return {"flag_counts": dict(zip(FLAGS, sums["flags"], strict=True))}
    described: dict[str, list[Any]] = {
        name: [] for name in ("valid_count", "minimum", "maximum", "mean", "stddev")
    }
    for count, low, high, total, squares in zip(*(sums[key] for key in _ORDER), strict=True):
        described["valid_count"].append(count)
        mean = total / count if count else None
        spread = (max(count * squares - total**2, 0) ** 0.5) / count if count else None
        numbers = (low, high, mean, spread) if count else (None,) * 4
        for name, number in zip(("minimum", "maximum", "mean", "stddev"), numbers, strict=True):
            described[name].append(None if number is None else round(number * SCALE, 8))
    return described


_ORDER = ("count", "min", "max", "sum", "squares")
