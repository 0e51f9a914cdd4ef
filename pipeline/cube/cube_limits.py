"""What a cube may ask of whoever looks at it, checked before a value is read: it may come from anybody."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from spectile.catalog.errors import CubeError
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.local import LocalStorage

CODECS = frozenset({"bytes", "blosc", "zstd", "crc32c", "sharding_indexed"})
"""How values of cubes are stored; zarr knows others, some of which run code or build objects."""
LARGEST_CHUNK = 2**26
"""Bytes of a chunk at most; cubes of spectile have 2 MB."""
MOST_CHUNKS = 2**14
"""Chunks of a shard at most: its index is read at once, 16 bytes for each."""
MOST_BANDS = 10_000
"""Bands at most."""


@contextmanager
def readable(where: object, what: str = "cube") -> Iterator[None]:
    """Tell in one line whatever zarr and its codecs raise over metadata and bytes that are no cube's.

    Raises
    ------
    CubeError : something inside cannot be read.
    """
    try:
        yield
    except (
        LookupError, ValueError, TypeError, AttributeError, RuntimeError, ArithmeticError, MemoryError
    ) as err:  # fmt: skip
        got = f"{type(err).__name__}: {err}"[:200]
        raise CubeError(f"the {what} cannot be read", where=str(where), got=got) from err


def check_array(group: Any, name: str, *, shape: Sequence[int], dtype: str) -> None:
    """Refuse an array that is not what cubes have, or that takes much memory for little on the disk.

    Parameters
    ----------
    group : the cube, opened by zarr.
    name : the array's path in it.
    shape : what it must have.
    dtype : what its values must be.

    Raises
    ------
    CubeError : it is something else.
    """
    array, where = group[name], f"{group.store}/{name}"
    if not isinstance(array, zarr.Array):
        raise CubeError("the cube's array is missing", where=where, got=type(array).__name__)
    found = f"{_size(array.shape)} {array.dtype}"
    if array.shape != tuple(shape) or str(array.dtype) != dtype:
        raise CubeError(
            "the array is not the cube's", where=where, got=found, expected=f"{_size(shape)} {dtype}"
        )
    told: Any = array.metadata.to_dict()
    if strange := sorted(set(_codecs(told["codecs"])) - CODECS):
        raise CubeError(
            "the array is stored in a way that cubes are not", where=where, got=", ".join(strange),
            expected=f"one of {', '.join(sorted(CODECS))}",
        )  # fmt: skip
    inner, outer = math.prod(array.chunks), math.prod(array.shards or array.chunks)
    if inner * array.dtype.itemsize > LARGEST_CHUNK or outer > MOST_CHUNKS * inner:
        raise CubeError(
            "the array's chunks are not as cubes have them", where=where,
            got=f"chunks {_size(array.chunks)}, shards {_size(array.shards or ())}",
            expected=f"{LARGEST_CHUNK >> 20} MiB a chunk and {MOST_CHUNKS:,} chunks a shard at most",
        )  # fmt: skip


def _codecs(told: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for codec in told:
        yield str(codec["name"])
        more = codec.get("configuration") or {}
        for key in ("codecs", "index_codecs"):
            yield from _codecs(more.get(key, ()))


def _size(shape: Sequence[int]) -> str:
    return " × ".join(f"{side:,}" for side in shape)


def contained(storage: Storage) -> Store:
    """The cube's objects for zarr, to read; none that a link brings in from elsewhere."""
    return InsideStore(storage.root) if isinstance(storage, LocalStorage) else storage.zarr(read_only=True)


class InsideStore(LocalStore):
    """The files of a folder, read only; links out of it are not followed.

    Parameters
    ----------
    root : the folder; may itself be a link.
    """

    def __init__(self, root: Path | str, *, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)
        self._inside = self.root.resolve()

    def _check(self, key: str) -> None:
        if not (self.root / key).resolve().is_relative_to(self._inside):
            raise CubeError(
                "a link leads out of the cube", where=str(self.root / key), remedy="copy the file"
            )

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """A file's bytes, or None where there is none."""
        self._check(key)
        return await super().get(key, prototype, byte_range)

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """A file's bytes, or None where there is none."""
        self._check(key)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)
