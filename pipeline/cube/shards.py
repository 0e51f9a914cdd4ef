"""Shards made and read in memory: the bytes of one object, whatever the store.

They are read by zarr, and written here, in threads that no lock of Python's holds up.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs import blosc
from numpy.typing import NDArray
from zarr.buffer import cpu
from zarr.storage import MemoryStore

from spectile.pipeline.cube import ledger
from spectile.pipeline.plan.arrays import ArraySpec
from spectile.pipeline.plan.plan import SHARD
from spectile.pipeline.store.base import Storage


def shard_key(spec: ArraySpec, row: int, col: int) -> str:
    """The key of a shard of an array, in the array's group; spectral arrays have all bands in one."""
    return f"{spec.name}/{_chunk(spec.is_spectral, row, col)}"


def _chunk(spectral: bool, row: int, col: int) -> str:
    return f"c/0/{row}/{col}" if spectral else f"c/{row}/{col}"


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


def read_all_metadata(storage: Storage, keys: Iterable[str]) -> list[bytes]:
    """The metadata of several arrays, as ``read_metadata``."""
    wanted = list(keys)
    values = ledger.get_all(storage, wanted)
    return [read_metadata(storage, key) if value is None else value
            for key, value in zip(wanted, values, strict=True)]  # fmt: skip


def encode_shard(metadata: bytes, row: int, col: int, values: NDArray[Any]) -> bytes:
    """The bytes of a shard. An existing shard is not read.

    The format is that of zarr's codec ``sharding_indexed``. zarr itself would take half as long again, most
    of it for its event loop, and it would leave out a fully masked shard; but verifying needs every shard.

    Parameters
    ----------
    metadata : of the array.
    row, col : the shard's place.
    values : (…, h, w), all pixels of the shard that lie in the array.

    Raises
    ------
    ValueError : the array is not stored as arrays of cubes are.
    """
    packing = _packing(metadata)
    sides = packing.shard[-2:]
    grid = tuple(whole // part for whole, part in zip(packing.shard, packing.chunk, strict=True))
    assert all(n <= side for n, side in zip(values.shape[-2:], sides, strict=True)), (row, col)
    index = np.full((*grid, 2), _EMPTY, dtype="<u8")
    pieces, offset = [], 0
    for at in np.ndindex(*grid):
        start = [place * side for place, side in zip(at, packing.chunk, strict=True)]
        part = values[tuple(slice(a, a + side) for a, side in zip(start, packing.chunk, strict=True))]
        if not part.size:
            continue
        if part.shape != packing.chunk:
            whole = np.full(packing.chunk, packing.fill, dtype=packing.dtype)
            whole[tuple(slice(0, side) for side in part.shape)] = part
            part = whole
        piece = packing.compress(np.ascontiguousarray(part, dtype=packing.dtype))
        index[at] = offset, len(piece)
        pieces.append(piece)
        offset += len(piece)
    table = index.tobytes()
    return b"".join([*pieces, table, google_crc32c.value(table).to_bytes(4, "little")])


_EMPTY = 2**64 - 1
"""Offset and length of a chunk that holds nothing."""


@dataclass(frozen=True)
class _Packing:
    """How an array's shards are stored."""

    dtype: np.dtype[Any]
    fill: int
    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    level: int
    shuffle: int

    def compress(self, chunk: NDArray[Any]) -> bytes:
        """The bytes of a chunk."""
        compressed: bytes = blosc.compress(chunk, b"zstd", self.level, self.shuffle, 0)
        return compressed


_SHUFFLES = {"noshuffle": blosc.NOSHUFFLE, "shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}


@lru_cache(64)
def _packing(metadata: bytes) -> _Packing:
    fields = json.loads(metadata)
    (sharding,) = fields["codecs"]
    inner, compressor = sharding["configuration"]["codecs"]
    options = compressor["configuration"]
    packing = _Packing(
        np.dtype(fields["data_type"]), fields["fill_value"],
        tuple(fields["chunk_grid"]["configuration"]["chunk_shape"]),
        tuple(sharding["configuration"]["chunk_shape"]), options["clevel"], _SHUFFLES[options["shuffle"]],
    )  # fmt: skip
    expected = _codecs(packing, options["shuffle"])
    if (inner, compressor, sharding) != expected:
        raise ValueError(f"codecs of no cube: {fields['codecs']}")
    return packing


def _codecs(packing: _Packing, shuffle: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The codecs of such an array, as zarr writes them."""
    size = packing.dtype.itemsize
    as_bytes: dict[str, Any] = {"name": "bytes"}
    if size > 1:
        as_bytes["configuration"] = {"endian": "little"}
    options = {"typesize": size, "cname": "zstd", "clevel": packing.level, "shuffle": shuffle, "blocksize": 0}
    compressor = {"name": "blosc", "configuration": options}
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    sharding = {
        "chunk_shape": list(packing.chunk), "codecs": [as_bytes, compressor], "index_codecs": index,
        "index_location": "end",
    }  # fmt: skip
    return as_bytes, compressor, {"name": "sharding_indexed", "configuration": sharding}


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
