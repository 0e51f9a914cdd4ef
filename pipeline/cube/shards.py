"""Shards made and read in memory: the bytes of one object, whatever the store.

zarr reads them too. Here they are written and read without its event loop, in threads that no lock of
Python's holds up.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from spectile.pipeline.cube import ledger
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
    grid = packing.grid
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

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: int
    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    level: int
    shuffle: int

    @property
    def grid(self) -> tuple[int, ...]:
        """Chunks of a shard along each axis."""
        return tuple(whole // part for whole, part in zip(self.shard, self.chunk, strict=True))

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
        tuple(fields["shape"]), np.dtype(fields["data_type"]), fields["fill_value"],
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


def decode_shard(
    metadata: bytes, row: int, col: int, value: bytes
) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
    """The values of a shard as far as they lie in the array, some bands at a time.

    Parameters
    ----------
    metadata, row, col : as of ``encode_shard``.
    value : bytes that are known to be a shard's.

    Yields
    ------
    The bands, (), where there are none, and their values (b, h, w) or (h, w).
    """
    packing = _packing(metadata)
    *lead, rows, cols = packing.shape
    height, width = min(SHARD, rows - row * SHARD), min(SHARD, cols - col * SHARD)
    grid = packing.grid
    table = np.frombuffer(value[-(16 * math.prod(grid) + 4) : -4], dtype="<u8").reshape(*grid[-3:], 2)
    depth, side_y, side_x = (1, *packing.chunk)[-3:]
    bytes_there = memoryview(value)
    for number, plane in enumerate(table.reshape(-1, *grid[-2:], 2)):
        bands = slice(number * depth, min((number + 1) * depth, lead[0])) if lead else slice(0, 1)
        values = np.full((bands.stop - bands.start, height, width), packing.fill, dtype=packing.dtype)
        for down, right in np.ndindex(plane.shape[:2]):
            offset, length = map(int, plane[down, right])
            part = values[:, down * side_y : (down + 1) * side_y, right * side_x : (right + 1) * side_x]
            if offset != _EMPTY and part.size:
                chunk = np.frombuffer(blosc.decompress(bytes_there[offset : offset + length]), packing.dtype)
                within = tuple(slice(0, side) for side in part.shape)
                part[...] = chunk.reshape(depth, side_y, side_x)[within]
        yield ((bands,), values) if lead else ((), values[0])
