"""zarr's store over the files of a cube; refuses links out of the folder, pipes and devices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from zarr.storage import LocalStore

from spectile.pipeline.store.base import check_file, inside

if TYPE_CHECKING:
    from zarr.abc.buffer import Buffer, BufferPrototype
    from zarr.abc.store import ByteRequest


class ZarrFiles(LocalStore):
    """A folder of files, for zarr."""

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """A file, or a range of it."""
        await asyncio.to_thread(self._check, key)
        return await super().get(key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Ranges of files."""
        ranges = list(key_ranges)
        for key in {key for key, _ in ranges}:
            await asyncio.to_thread(self._check, key)
        return await super().get_partial_values(prototype, ranges)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """A file, or a range of it, without an event loop."""
        self._check(key)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    def _check(self, key: str) -> None:
        path = inside(self.root, key)
        with suppress(FileNotFoundError, NotADirectoryError):
            if not path.is_dir():  # zarr also reads folders
                check_file(path)
