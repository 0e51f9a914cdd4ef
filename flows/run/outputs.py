"""Checks before any work that a cube can be written to its place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from spectile.catalog.errors import CubeError, StoreError, UsageError
from spectile.catalog.stac.documents import parse_json
from spectile.catalog.urls import Location, locate, nested
from spectile.pipeline.product.quicklook import quicklook_names
from spectile.pipeline.product.report import report_name
from spectile.pipeline.stac.collection import MOST_BYTES, beside_name
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage


def names_beside(name: str) -> tuple[str, ...]:
    """The names of what a run writes beside the cube of this name."""
    return (*quicklook_names(name), report_name(name), beside_name(name))


def check_apart(out: str, scenes: Sequence[str]) -> None:
    """Refuse a cube that would replace one of its scenes, lie in it, or have a picture in its place.

    Raises
    ------
    UsageError : it would.
    """
    storage = open_storage(out)
    written = [locate(out), *(locate(storage.parent.at(name)) for name in names_beside(storage.name))]
    if any(nested(locate(scene), place) for scene in scenes for place in written):
        raise UsageError("the cube would overwrite the scene", where=out, remedy="choose another --out")


def check_place(out: str) -> None:
    """Refuse a place on a disk that cannot be written, and a cube whose links lead out of it.

    Raises
    ------
    StoreError : nothing can be written there.
    CubeError : a link inside leads out, or somebody else's item is beside it.
    """
    storage = open_storage(out)
    _check_item(storage)
    root = locate(out)
    if isinstance(root, Location):
        return
    _check_writable(root)
    inside = os.path.realpath(root)
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder, name)
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside):
                raise CubeError(
                    "a link in the cube leads out of it",
                    where=str(path),
                    remedy="remove it, or another --out",
                )


def _check_writable(root: Path) -> None:
    """Create a file without a name in the folder of the first output."""
    there = root
    # A link that leads nowhere is there.
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as err:
        raise StoreError(
            "the output cannot be written", where=str(root), got=f"{there}: {err.strerror or err}",
            remedy="choose another --out",
        ) from err  # fmt: skip


def _check_item(storage: Storage) -> None:
    """Refuse to replace a file beside the cube that is not the item of a cube."""
    key = beside_name(storage.name)
    try:
        value = storage.parent.get_bounded(key, MOST_BYTES)
        if value is None or "spectile:digest" in parse_json(value, key)["properties"]:
            return
    except (UsageError, KeyError, TypeError):
        pass
    raise CubeError(
        "the cube's item would replace another", where=storage.parent.at(key),
        remedy="move it away, or choose another --out",
    )  # fmt: skip
