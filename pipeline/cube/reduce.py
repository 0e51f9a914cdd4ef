"""Two by two pixels of a cube's arrays as one, as the overviews hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.counts import NODATA
from spectile.pipeline.plan.arrays import Values
from spectile.pipeline.plan.quality_layers import FLAGS


def reduce_counts(counts: NDArray[np.uint16], valid: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The mean count of the valid pixels, halves to the even one: (B, ⌈h/2⌉, ⌈w/2⌉) uint16.

    NODATA where none of the up to four pixels is valid.

    Parameters
    ----------
    counts : (B, h, w) uint16, NODATA where not valid.
    valid : (h, w) uint8, 1 where valid.
    """
    known = _quartets(valid, 0).sum(axis=0, dtype=np.uint32)
    means: NDArray[np.uint16] = np.empty((len(counts), *known.shape), dtype=np.uint16)
    complete = bool((known == 4).all())
    missing = NODATA * (4 - known)
    divisor = np.maximum(known, 1).astype(np.float32)
    for band, mean in zip(counts, means, strict=True):  # one stays in the processor's cache
        if band.shape[0] % 2 or band.shape[1] % 2:
            band = _even(band, NODATA)
        # Neighbours of a row as one number, which is quicker than every second of them.
        pairs = np.ascontiguousarray(band).view(np.uint32)
        summed = (pairs & np.uint32(0xFFFF)) + (pairs >> np.uint32(16))
        summed = summed[0::2] + summed[1::2]
        if complete:
            # (s + 1 + bit 2 of s) ÷ 4: what lies above a half goes up, and a half where the count would be
            # odd.
            summed += ((summed >> np.uint32(2)) & np.uint32(1)) + np.uint32(1)
            mean[...] = summed >> np.uint32(2)
        else:
            # Exact: sums are less than 2^18, and a third of one is never near a half.
            mean[...] = np.rint((summed - missing).astype(np.float32) / divisor)
            mean[known == 0] = NODATA
    return means


def reduce_flat(kind: Values, values: NDArray[Any]) -> NDArray[Any]:
    """An array (h, w) without bands, as ``Values`` says of its kind."""
    if kind == "reflectance":
        counts: NDArray[Any] = reduce_counts(values[None], (values != NODATA).astype(np.uint8))[0]
        return counts
    if kind == "flags":
        nodata = np.uint8(FLAGS["nodata"])
        quartets = _quartets(values, FLAGS["nodata"])
        some, every = np.bitwise_or.reduce(quartets), np.bitwise_and.reduce(quartets)
        return np.asarray((some & ~nodata) | (every & nodata), dtype=np.uint8)
    quartets = _quartets(values, 0)
    if kind == "mask":
        return np.asarray(quartets.max(axis=0))
    first = (quartets != 0).argmax(axis=0)
    return np.asarray(np.take_along_axis(quartets, first[None], axis=0)[0])


def _quartets(values: NDArray[Any], fill: int) -> NDArray[Any]:
    """(4, ⌈h/2⌉, ⌈w/2⌉): the upper left, upper right, lower left and lower right pixel."""
    whole = _even(values, fill)
    return np.stack([whole[row::2, col::2] for row in (0, 1) for col in (0, 1)])


def _even(values: NDArray[Any], fill: int) -> NDArray[Any]:
    """The last two axes filled up to even lengths."""
    odd = ((0, 0),) * (values.ndim - 2) + ((0, values.shape[-2] % 2), (0, values.shape[-1] % 2))
    return np.pad(values, odd, constant_values=fill)
