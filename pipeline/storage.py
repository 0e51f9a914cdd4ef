"""The store that holds a cube: whole objects by key, each put at once or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Storage:
    """A folder of objects. Keys use slashes; a put replaces the object in one step."""

    root: Path
    """The folder."""

    def get(self, key: str) -> bytes | None:
        """The object, or None where there is none."""
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def put(self, key: str, value: bytes) -> None:
        """Write an object; a reader sees the old one or the new one, never a part."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
        try:
            part.write_bytes(value)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        (self.root / key).unlink(missing_ok=True)

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of the objects directly under a prefix, in order."""
        folder = self.root / prefix
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.is_file() and not path.name.startswith("."):
                    yield f"{prefix}/{path.name}"

    def exists(self) -> bool:
        """Whether there is anything at the store's place, other than parts of a first object."""
        if not self.root.is_dir():
            return self.root.exists()
        return any(not path.name.endswith(".partial") for path in self.root.iterdir())

    def clear(self, *, first: str, last: str) -> None:
        """Remove the store: the entry ``first`` before all others, and the object ``last`` after them.

        A process that is killed on the way leaves a store that still says what it was, and claims nothing.
        """
        for path in sorted(self.root.iterdir(), key=lambda path: (path.name == last, path.name != first)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def sweep(self) -> None:
        """Remove the parts that a killed process left behind."""
        for pattern in ("*.partial", ".*.partial"):
            for path in self.root.rglob(pattern):
                path.unlink(missing_ok=True)
