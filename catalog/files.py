"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A unique hidden name beside a file, on the same file system; removed at the end."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to; at the end the file replaces ``path`` in one step.

    After an error inside, ``path`` is unchanged and the temporary file is removed.
    """
    with beside(path) as part:
        yield part
        os.replace(part, path)


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, in one step.

    Raises
    ------
    OSError : it cannot be written; an older file is unchanged.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, value: bytes) -> None:
    """Write a file in one step.

    Raises
    ------
    OSError : it cannot be written; an older file is unchanged.
    """
    with replacing(path) as part:
        part.write_bytes(value)
