"""The store of a cube: objects by key, each written whole or not at all.

Folders and object stores are used in the same way, and callers never rename objects. Objects that processes
compete for (e.g. a lease) are written under a condition: ``put_new`` if there is none yet, ``put_if`` if it
has not changed. If all processes write an object in this way, no update is lost: one of them succeeds, and
the others get an error. Each process must write different bytes, for example with its name or a number. Then
a writer can see that its request succeeded although the answer was lost.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spectile.catalog.errors import StoreError, UsageError

if TYPE_CHECKING:
    from zarr.abc.store import Store

LARGEST_OBJECT = 600_000_000
"""Most bytes of an object that is read: a shard with the largest number of bands."""
LARGEST_JSON = 64_000_000
"""Most bytes of an object that is JSON, by its name."""
TRIES = 5
"""Most attempts for a write that other processes interfere with."""


class Exists(Exception):
    """The object exists already."""


class Changed(Exception):
    """The object has changed since its version was read, or was removed."""


def agree() -> None:
    """A guard that allows every write."""


class Storage(ABC):
    """A place for objects. Keys use slashes; a put replaces the object in one step.

    Its text is the place, to show and to record; it contains no secret. Every operation raises StoreError if
    an object store cannot be reached or refuses, and OSError if a disk fails.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of the place."""

    @property
    @abstractmethod
    def parent(self) -> Storage:
        """The storage that contains this one."""

    @abstractmethod
    def at(self, key: str) -> str:
        """The place of an object, to show."""

    @abstractmethod
    def zarr(self, *, read_only: bool = False) -> Store:
        """The same objects as a store for zarr."""

    @abstractmethod
    def read(self, key: str) -> tuple[bytes, str] | None:
        """The object and its version, or None if there is none."""

    @abstractmethod
    def put(self, key: str, value: bytes) -> None:
        """Write an object; readers see the old one or the new one, never a part."""

    @abstractmethod
    def put_new(self, key: str, value: bytes, guard: Callable[[], None] = agree) -> str:
        """Write an object that does not exist yet, unless ``guard`` raises; returns its version.

        Raises
        ------
        Exists : the object exists.
        """

    @abstractmethod
    def put_if(self, key: str, value: bytes, version: str) -> str:
        """Replace an object that still has this version; returns its new version.

        Raises
        ------
        Changed : it has another version, or was removed.
        """

    @abstractmethod
    def put_guarded(self, key: str, value: bytes, guard: Callable[[], None]) -> None:
        """Write an object, unless ``guard`` raises; it is called again right before the object appears.

        Suppose that another process makes the guard raise, and then sweeps (files) or writes the same key
        (objects). After that, no write that passed the guard earlier can appear: its unfinished file is
        removed, or its condition on the object fails. See docs/decisions/0006-lease-and-fencing.md.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object, if it exists."""

    @abstractmethod
    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of the objects directly under a prefix, in order."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether the place contains anything except unfinished writes."""

    @abstractmethod
    def size(self) -> int:
        """Bytes of all objects."""

    @abstractmethod
    def walk(self) -> Iterator[str]:
        """The keys of all objects."""

    @abstractmethod
    def sweep(self, *, beside: Sequence[str] = ()) -> None:
        """Remove the unfinished writes of processes that were killed or lost their lease.

        Parameters
        ----------
        beside : names of objects next to the store whose unfinished writes are removed too.
        """

    @abstractmethod
    def get_bounded(self, key: str, most: int) -> bytes | None:
        """An untrusted object, or None if there is none.

        Raises
        ------
        UsageError : it is larger than ``most`` bytes, not a file, or a link that leads out of the place.
        """

    def get(self, key: str) -> bytes | None:
        """The object, or None if there is none."""
        stored = self.read(key)
        return None if stored is None else stored[0]


def stem(name: str) -> str:
    """The base name of a cube, which the files beside it share."""
    return name.removesuffix(".zarr") or name


def read_bounded(path: Path, most: int, *, within: Path | None = None) -> bytes:
    """The bytes of an untrusted file.

    Parameters
    ----------
    within : the folder that links must not lead out of.

    Raises
    ------
    UsageError : it is larger than ``most`` bytes, not a file, or a link that leads out of ``within``.
    OSError : it cannot be read.
    """
    if within is not None and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(within)):
        raise UsageError("a link that leads out of the place", where=str(path), expected="a file of its own")
    # Checked first, because opening a pipe waits for its writer.
    if not stat.S_ISREG(path.stat().st_mode):
        raise UsageError("not a file", where=str(path))
    with path.open("rb") as file:
        value = file.read(most + 1)
    if len(value) > most:
        raise too_large(str(path), most)
    return value


def too_large(where: str, most: int) -> UsageError:
    """The error for a document that is too large to read."""
    return UsageError("the document is too large", where=where, expected=f"up to {most:,} bytes")


def checked(key: str) -> str:
    """The key, checked to stay inside the store.

    Raises
    ------
    UsageError : it leads out of the store.
    """
    if {"", ".", ".."} & set(key.split("/")) or "\\" in key or "\0" in key:
        raise UsageError("the key leads out of the store", got=repr(key))
    return key


def check_size(size: int, place: str) -> None:
    """Refuse an object that is too large for a cube, before it is read.

    Raises
    ------
    StoreError : it is too large.
    """
    most = LARGEST_JSON if place.endswith(".json") else LARGEST_OBJECT
    if size > most:
        raise StoreError("the object is too large", where=place, got=size, expected=f"at most {most} bytes")


def inside(root: Path, key: str) -> Path:
    """The path of a key below a folder; links are followed only inside the folder.

    Raises
    ------
    StoreError : a link leads out of the folder.
    """
    path = root / key
    if not os.path.realpath(path).startswith(os.path.join(os.path.realpath(root), "")):
        raise StoreError("a link leads out of the store", where=str(path), remedy="remove the link")
    return path


def check_file(path: Path) -> None:
    """Refuse a pipe, a device, or a file that is too large.

    Raises
    ------
    FileNotFoundError, NotADirectoryError : there is no file.
    StoreError : it is not a regular file, or too large.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise StoreError("not a file", where=str(path), remedy="remove it")
    check_size(status.st_size, str(path))
