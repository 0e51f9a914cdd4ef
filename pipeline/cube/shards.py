"""Shards made and read in memory: the bytes of one object, whatever the store."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.buffer import cpu
from zarr.storage import MemoryStore

from spectile.pipeline.plan.arrays import ArraySpec
from spectile.pipeline.plan.plan import SHARD
from spectile.pipeline.store.base import Storage


def shard_key(spec: ArraySpec, row: int, col: int) -> str:
    """The key of a shard of an array, in the array's group; all bands or endmembers are in one."""
    return f"{spec.name}/{_chunk(spec.is_deep, row, col)}"


def _chunk(deep: bool, row: int, col: int) -> str:
    return f"c/0/{row}/{col}" if deep else f"c/{row}/{col}"


def read_bands(array: Any, bands: Sequence[int], at: tuple[slice, slice]) -> NDArray[Any]:
    """(N, h, w) some bands of an opened spectral array, as they are stored.

    Neighbours are read at once, others apart: zarr takes four times as long for a list.
    """
    runs = np.split(np.asarray(bands), np.flatnonzero(np.diff(bands) != 1) + 1)
    parts = [np.asarray(array[(slice(int(run[0]), int(run[-1]) + 1), *at)]) for run in runs]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def read_metadata(storage: Storage, key: str) -> bytes:
    """The metadata of an array.

    Raises
    ------
    FileNotFoundError : there are none.
    """
    value = storage.get(key)
    if value is None:
        raise FileNotFoundError(errno.ENOENT, "the array's metadata are missing", key)
    return value


def encode_shard(metadata: bytes, row: int, col: int, values: NDArray[Any]) -> bytes:
    """The bytes of a shard. An existing shard is not read.

    Parameters
    ----------
    metadata : of the array.
    row, col : the shard's place.
    values : (…, h, w), all pixels of the shard that lie in the array.
    """
    objects: dict[str, Any] = {"zarr.json": cpu.Buffer.from_bytes(metadata)}
    # zarr would leave out a fully masked shard; but verifying needs every shard.
    array = _open(objects, "r+").with_config({"write_empty_chunks": True})
    height, width = values.shape[-2:]
    array[(..., *_slices(row, col, height, width))] = values
    value: bytes = objects[_chunk(values.ndim == 3, row, col)].to_bytes()
    return value


class Shard:
    """A shard, decoded part by part."""

    def __init__(self, metadata: bytes, row: int, col: int, value: bytes) -> None:
        objects = {"zarr.json": cpu.Buffer.from_bytes(metadata)}
        self._array = _open(objects, "r")
        *lead, rows, cols = self._array.shape
        objects[_chunk(bool(lead), row, col)] = cpu.Buffer.from_bytes(value)
        self._at = _slices(row, col, min(SHARD, rows - row * SHARD), min(SHARD, cols - col * SHARD))
        self.lead: tuple[int, ...] = tuple(lead)
        """(B,), or () where there are no bands."""
        self.dtype: np.dtype[Any] = self._array.dtype
        """Of its values."""
        self.fill: Any = self._array.fill_value
        """The value where nothing is written."""

    @property
    def parts(self) -> list[tuple[slice, ...]]:
        """Bands, a chunk of them each; the whole, (), where there are none."""
        if not self.lead:
            return [()]
        depth = self._array.chunks[0]
        return [(slice(band, band + depth),) for band in range(0, self.lead[0], depth)]

    def read(self, part: tuple[slice, ...] = ()) -> NDArray[Any]:
        """The (b, h, w) or (h, w) values of a part, as far as they lie in the array."""
        return np.asarray(self._array[(*part, *self._at)])


def _open(objects: dict[str, Any], mode: Any) -> Any:
    return zarr.open_array(MemoryStore(objects), mode=mode)


def _slices(row: int, col: int, height: int, width: int) -> tuple[slice, slice]:
    top, left = row * SHARD, col * SHARD
    return slice(top, top + height), slice(left, left + width)
