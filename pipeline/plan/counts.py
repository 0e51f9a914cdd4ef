"""Reflectance as the counts that a cube stores. Pure."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.counts import NODATA, SCALE, to_counts

F = TypeVar("F", np.float32, np.float64)


def encode(reflectance: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Stored counts (B, h, w) uint16 of reflectance; NODATA where ``valid`` (h, w) is False."""
    stored: NDArray[np.uint16] = np.empty(reflectance.shape, dtype=np.uint16)
    masked = None if valid.all() else ~valid
    for band, out in zip(reflectance, stored, strict=True):  # one stays in the processor's cache
        counts = to_counts(band)
        if masked is not None:
            counts[masked] = NODATA
        out[...] = counts
    return stored


def encode_flat(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Stored counts (h, w) uint16 of reflectance; NODATA where it is NaN or ``valid`` is False."""
    known = valid & ~np.isnan(values)
    counts: NDArray[np.uint16] = encode(np.where(known, values, np.float32(0))[None], known)[0]
    return counts


@overload
def decode(counts: NDArray[Any]) -> NDArray[np.float32]: ...
@overload
def decode(counts: NDArray[Any], dtype: type[F]) -> NDArray[F]: ...
def decode(counts: NDArray[Any], dtype: Any = np.float32) -> NDArray[Any]:
    """Reflectance of stored counts, of any shape, as float32 or ``dtype``; NaN where they are NODATA."""
    values: NDArray[Any] = counts.astype(dtype)
    values *= dtype(SCALE)
    values[counts == NODATA] = np.nan
    return values
