"""A folder as a store."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spectile.catalog.files import beside
from spectile.pipeline.store.base import (
    TRIES,
    Changed,
    Exists,
    Storage,
    agree,
    check_file,
    checked,
    inside,
    read_bounded,
)

if TYPE_CHECKING:
    from zarr.abc.store import Store

_OWN = (".partial", ".lock")
"""Suffixes of files that are not objects."""


_PART = re.compile(r"\..+\.[0-9a-f]+\.partial")
"""Pattern of the names of unfinished files."""


@dataclass(frozen=True)
class LocalStorage(Storage):
    """A folder of files.

    ``put``, ``put_guarded`` and ``put_if`` rename a finished file over the old one; ``put_if`` holds a lock
    on the key. ``put_new`` links a finished file to a name that must not exist. This works between processes
    of one machine on any POSIX file system with hard links, and between machines on a share with locks
    (NFSv4).
    """

    root: Path
    """The folder."""

    def __str__(self) -> str:
        return str(self.root)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.root.name

    @property
    def parent(self) -> LocalStorage:
        """The folder that holds this one."""
        return LocalStorage(self.root.parent)

    def at(self, key: str) -> str:
        """The file's path."""
        return str(self.root / checked(key))

    def zarr(self, *, read_only: bool = False) -> Store:
        """The same files as a store for zarr."""
        from spectile.pipeline.store.zarr_files import ZarrFiles

        return ZarrFiles(self.root, read_only=read_only)

    def get(self, key: str) -> bytes | None:
        """The file's bytes, or None if there is none."""
        path = inside(self.root, checked(key))
        try:
            check_file(path)
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def get_bounded(self, key: str, most: int) -> bytes | None:
        """The file's bytes, at most ``most``, or None if there is none."""
        path = self.root / checked(key)
        try:
            return read_bounded(path, most, within=self.root)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, key: str) -> tuple[bytes, str] | None:
        """The file's bytes and their hash, or None if there is none."""
        value = self.get(key)
        return None if value is None else (value, _version(value))

    def put(self, key: str, value: bytes) -> None:
        """Write a file beside the old one and rename it."""
        self._land(key, value, agree, os.replace)

    def put_new(self, key: str, value: bytes, guard: Callable[[], None] = agree) -> str:
        """Write a file, call the guard and link the file to its name; returns its version."""

        def link(part: Path, path: Path) -> None:
            try:
                os.link(part, path)
            except FileExistsError as err:
                raise Exists(key) from err

        self._land(key, value, guard, link)
        return _version(value)

    def put_if(self, key: str, value: bytes, version: str) -> str:
        """Compare and rename under a lock; returns the new version."""
        with self._part(key, value) as (part, path), _lock(path):
            stored = self.read(key)
            if stored is None or stored[1] != version:
                raise Changed(key)
            os.replace(part, path)
        return _version(value)

    def put_guarded(self, key: str, value: bytes, guard: Callable[[], None]) -> None:
        """Write a file beside the old one, call the guard and rename the file."""
        self._land(key, value, guard, os.replace)

    def _land(
        self, key: str, value: bytes, guard: Callable[[], None], land: Callable[[Path, Path], None]
    ) -> None:
        """Write a file beside its place, call the guard and move the file there."""
        for _ in range(TRIES):
            guard()  # before a folder or a file is made
            try:
                with self._part(key, value) as (part, path):
                    guard()
                    land(part, path)
                    return
            except FileNotFoundError:
                # Another process removed the file: a successor (then the guard raises), a process that lost
                # its own lease, or the winner of a race. Try again.
                continue
        raise OSError(f"{key}: the unfinished file is removed again and again")

    @contextmanager
    def _part(self, key: str, value: bytes) -> Iterator[tuple[Path, Path]]:
        """A file with the value under a unique name, and its final path."""
        path = inside(self.root, checked(key))
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside(path) as part:
            part.write_bytes(value)
            yield part, path

    def delete(self, key: str) -> None:
        """Remove a file, if it exists."""
        inside(self.root, checked(key)).unlink(missing_ok=True)

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of the files directly under a prefix, in order."""
        folder = inside(self.root, checked(prefix))
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.is_file() and not path.name.startswith("."):
                    yield f"{prefix}/{path.name}"

    def exists(self) -> bool:
        """Whether the place contains anything except unfinished files and their folders."""
        if not self.root.is_dir():
            return self.root.exists()
        return any(not name.endswith(_OWN) for _, _, names in os.walk(self.root) for name in names)

    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.root.rglob("*") if path.is_file())

    def walk(self) -> Iterator[str]:
        """The keys of all files, without hidden ones."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                if not name.startswith("."):
                    yield (Path(folder) / name).relative_to(self.root).as_posix()

    def sweep(self, *, beside: Sequence[str] = ()) -> None:
        """Remove unfinished files."""
        for name in beside:
            for path in self.root.parent.glob(f".{name}.*.partial"):
                path.unlink(missing_ok=True)
        for folder, _, names in os.walk(self.root):
            for name in names:
                if _PART.fullmatch(name):
                    (Path(folder) / name).unlink(missing_ok=True)


def _version(value: bytes) -> str:
    return hashlib.blake2b(value, digest_size=16).hexdigest()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file. It ends when the process dies; the lock file stays."""
    with path.with_name(f".{path.name}.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
