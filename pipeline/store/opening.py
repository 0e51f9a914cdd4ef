"""The store at a place: a folder or a bucket."""

from __future__ import annotations

from pathlib import Path

from spectile.catalog.errors import UsageError
from spectile.catalog.urls import locate
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.local import LocalStorage


def open_storage(place: str | Path) -> Storage:
    """The storage at a path or URL; makes no request yet.

    Raises
    ------
    UsageError : the URL cannot be used, or not written to.
    """
    where = locate(place)
    if isinstance(where, Path):
        return LocalStorage(where)
    if where.scheme not in ("s3", "gs"):
        raise UsageError(
            "not a place for cubes or catalogs", where=str(where), expected="a path, s3:// or gs://"
        )
    from spectile.pipeline.store.objects import ObjectStorage  # imported late: runs on files need no client

    return ObjectStorage(where)
