"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A hidden name of its own next to a file, in the same file system; whatever bears it goes on leaving."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to; on leaving, the file takes the place of ``path`` in one step.

    Where an error is raised inside, ``path`` stays as it was, and nothing else is left.
    """
    with beside(path) as part:
        yield part
        os.replace(part, path)


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, in one step.

    Raises
    ------
    OSError : it cannot be written; what was there is there still.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
