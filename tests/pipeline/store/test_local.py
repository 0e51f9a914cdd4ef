"""Files in a folder, whoever else writes there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spectile.pipeline.store.base import Exists
from spectile.pipeline.store.local import LocalStorage


class Told(Exception):
    """What the guard says."""


@pytest.mark.parametrize("put", ["put", "put_new"])
def test_a_file_that_another_swept_away_is_written_again(tmp_path, monkeypatch, put):
    storage, step = LocalStorage(tmp_path), {"put": "replace", "put_new": "link"}[put]
    move, late = getattr(os, step), iter([storage.sweep])

    def moved(part: Path, path: Path) -> None:
        for sweep in late:
            sweep()
        move(part, path)

    monkeypatch.setattr(os, step, moved)
    getattr(storage, put)("a/b", b"1")
    assert storage.get("a/b") == b"1"


def test_of_a_race_the_loser_is_told_though_the_winner_swept_its_file_away(tmp_path, monkeypatch):
    storage, link = LocalStorage(tmp_path), os.link

    def late(part: Path, path: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        storage.put_new("lease", b"the winner's")
        storage.sweep()
        link(part, path)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(Exists):
        storage.put_new("lease", b"the loser's")
    assert storage.get("lease") == b"the winner's"


@pytest.mark.parametrize("there", [None, b"the successor's"])
def test_a_new_file_that_was_let_through_does_not_appear_after_a_take_over(tmp_path, there):
    storage, asked = LocalStorage(tmp_path), []

    def guard() -> None:
        asked.append(None)
        if len(asked) == 2:
            storage.sweep()
            if there:
                storage.put("a", there)
        elif len(asked) > 2:
            raise Told

    with pytest.raises((Told, Exists)):
        storage.put_new("a", b"new", guard)
    assert storage.get("a") == there
    assert [path.name for path in tmp_path.iterdir()] == (["a"] if there else [])


def test_files_that_are_no_objects_are_no_store(tmp_path):
    storage = LocalStorage(tmp_path)
    version = storage.put_new("lease", b"1")
    storage.put_if("lease", b"2", version)
    storage.delete("lease")
    (tmp_path / ".lease.0123.partial").write_bytes(b"half")
    assert not storage.exists()
    storage.sweep()
    assert [path.name for path in tmp_path.iterdir()] == [".lease.lock"]
