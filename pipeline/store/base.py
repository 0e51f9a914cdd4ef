"""The store that holds a cube: whole objects by key, each put at once or not at all.

Files and object stores are used in the same way, and nothing counts on renaming. What one process may not
take from another (a lease, say) is put under a condition: ``put_new`` where there is nothing yet, ``put_if``
where nothing has changed. Between processes that put an object only so, no update is lost: of those that
race, one succeeds and the others are told. Each of them writes bytes of its own, such as its name or a
number: by them a writer sees that a request whose answer got lost has succeeded.
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
"""Bytes of an object that is read: what a shard of the most bands can take."""
LARGEST_JSON = 64_000_000
"""Bytes of one that is JSON, by its name."""
TRIES = 5
"""How often a write is tried again that another process got in the way of."""


class Exists(Exception):
    """There is an object already."""


class Changed(Exception):
    """The object is not as it was when its version was read, or is gone."""


def agree() -> None:
    """The guard of those who need none."""


class Storage(ABC):
    """A place for objects. Keys use slashes; a put replaces the object in one step.

    Its text is the place, to show and to record: it holds no secret. Every operation raises StoreError
    where an object store cannot be reached or refuses, and OSError where a disk does.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of the place."""

    @property
    @abstractmethod
    def parent(self) -> Storage:
        """The storage that this one lies in."""

    @abstractmethod
    def at(self, key: str) -> str:
        """The place of an object, to show."""

    @abstractmethod
    def zarr(self, *, read_only: bool = False) -> Store:
        """The same objects for zarr."""

    @abstractmethod
    def read(self, key: str) -> tuple[bytes, str] | None:
        """The object and its version, or None where there is none."""

    @abstractmethod
    def put(self, key: str, value: bytes) -> None:
        """Write an object; a reader sees the old one or the new one, never a part."""

    @abstractmethod
    def put_new(self, key: str, value: bytes, guard: Callable[[], None] = agree) -> str:
        """Write an object that is not there yet, unless ``guard`` raises; its version.

        Raises
        ------
        Exists : there is one.
        """

    @abstractmethod
    def put_if(self, key: str, value: bytes, version: str) -> str:
        """Replace an object that still has this version; its new version.

        Raises
        ------
        Changed : it has another, or is gone.
        """

    @abstractmethod
    def put_guarded(self, key: str, value: bytes, guard: Callable[[], None]) -> None:
        """Write an object, unless ``guard`` raises; it is asked again right before the object appears.

        Whoever makes the guard raise, and then sweeps (files) or puts the same key (objects), knows that no
        put that was let through before appears after that: the file to be renamed is gone, the object is not
        the one that was to be replaced. See docs/decisions/0006-lease-and-fencing.md.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""

    @abstractmethod
    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of the objects directly under a prefix, in order."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is anything at the place, other than parts of a first object."""

    @abstractmethod
    def size(self) -> int:
        """Bytes of all objects."""

    @abstractmethod
    def walk(self) -> Iterator[str]:
        """The keys of all objects."""

    @abstractmethod
    def sweep(self, *, beside: Sequence[str] = ()) -> None:
        """Remove what processes that were killed or overtaken left behind that is no object.

        Parameters
        ----------
        beside : names of objects next to the store whose unfinished writes go too.
        """

    @abstractmethod
    def get_bounded(self, key: str, most: int) -> bytes | None:
        """An object that a stranger may have put, or None where there is none.

        Raises
        ------
        UsageError : it is larger than ``most`` bytes; not a file, or a link that leads out of the place.
        """

    def get(self, key: str) -> bytes | None:
        """The object, or None where there is none."""
        found = self.read(key)
        return None if found is None else found[0]


def stem(name: str) -> str:
    """What a cube of this name is called, and what stands beside it."""
    return name.removesuffix(".zarr") or name


def read_bounded(path: Path, most: int, *, within: Path | None = None) -> bytes:
    """The bytes of a file that a stranger may have put there.

    Parameters
    ----------
    within : the folder that links must not lead out of.

    Raises
    ------
    UsageError : it is larger than ``most`` bytes; not a file, or a link that leads out of ``within``.
    OSError : it cannot be read.
    """
    if within is not None and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(within)):
        raise UsageError("a link that leads elsewhere", where=str(path), expected="a file of its own")
    # Asked first: to open a pipe waits for whoever writes it.
    if not stat.S_ISREG(path.stat().st_mode):
        raise UsageError("not a file", where=str(path))
    with path.open("rb") as file:
        value = file.read(most + 1)
    if len(value) > most:
        raise too_large(str(path), most)
    return value


def too_large(where: str, most: int) -> UsageError:
    """What is said of a document that is not read."""
    return UsageError("the document is too large", where=where, expected=f"up to {most:,} bytes")


def checked(key: str) -> str:
    """The key, if it stays inside the store.

    Raises
    ------
    UsageError : it does not.
    """
    if {"", ".", ".."} & set(key.split("/")) or "\\" in key or "\0" in key:
        raise UsageError("the key leads out of the store", got=repr(key))
    return key


def check_size(size: int, place: str) -> None:
    """Refuse an object that is too large to be one of a cube, before it is read.

    Raises
    ------
    StoreError : it is.
    """
    most = LARGEST_JSON if place.endswith(".json") else LARGEST_OBJECT
    if size > most:
        raise StoreError("the object is too large", where=place, got=size, expected=f"at most {most} bytes")


def inside(root: Path, key: str) -> Path:
    """The path of a key below a folder, whose links are followed as far as they stay in it.

    Raises
    ------
    StoreError : a link leads out of the folder.
    """
    path = root / key
    if not os.path.realpath(path).startswith(os.path.join(os.path.realpath(root), "")):
        raise StoreError("a link leads out of the store", where=str(path), remedy="remove the link")
    return path


def check_file(path: Path) -> None:
    """Refuse what cannot be read to its end: a pipe, a device, a file that is too large.

    Raises
    ------
    FileNotFoundError, NotADirectoryError : there is no file.
    StoreError : it is no file, or too large.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise StoreError("not a file", where=str(path), remedy="remove it")
    check_size(found.st_size, str(path))
