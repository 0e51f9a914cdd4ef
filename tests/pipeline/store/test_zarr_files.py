"""zarr reads the files of a cube, and nothing that a stranger may have put in their place."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from zarr.buffer import cpu

from spectile.catalog.errors import StoreError
from spectile.pipeline.store.zarr_files import ZarrFiles


def _reads(root: Path, key: str) -> list[bytes | None]:
    """A file in each of the ways in which zarr asks for it."""
    store, prototype = ZarrFiles(root, read_only=True), cpu.buffer_prototype
    found = [
        asyncio.run(store.get(key, prototype)),
        *asyncio.run(store.get_partial_values(prototype, [(key, None)])),
        store.get_sync(key, prototype=prototype),
    ]
    return [None if each is None else each.to_bytes() for each in found]


def test_a_file_is_read_and_one_that_is_not_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "0").write_bytes(b"12")
    (tmp_path / "inside").symlink_to("c/0")
    assert _reads(tmp_path, "c/0") == _reads(tmp_path, "inside") == [b"12"] * 3
    store, prototype = ZarrFiles(tmp_path, read_only=True), cpu.buffer_prototype
    for key in ("c/1", "c/0/1", "c"):
        assert asyncio.run(store.get(key, prototype)) is None
        assert store.get_sync(key, prototype=prototype) is None


@pytest.mark.parametrize("kind", ["a link out", "a pipe", "a large file"])
def test_what_is_no_file_of_the_cube_is_refused_in_each_way(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "cube.zarr"
    root.mkdir()
    if kind == "a link out":
        (tmp_path / "secret").write_bytes(b"x")
        (root / "0").symlink_to(tmp_path / "secret")
    elif kind == "a pipe":
        os.mkfifo(root / "0")
    else:
        with (root / "0").open("wb") as file:
            file.truncate(2**40)  # sparse: nothing is stored
    told = {"a link out": "leads out", "a pipe": "not a file", "a large file": "too large"}[kind]
    store, prototype = ZarrFiles(root, read_only=True), cpu.buffer_prototype
    with pytest.raises(StoreError, match=told):
        asyncio.run(store.get("0", prototype))
    with pytest.raises(StoreError, match=told):
        asyncio.run(store.get_partial_values(prototype, [("0", None)]))
    with pytest.raises(StoreError, match=told):
        store.get_sync("0", prototype=prototype)
