"""One storage, two kinds: what is said of the one holds of the other, against a real S3 server."""

from __future__ import annotations

import copy
import json
import threading

import pytest

from spectile.catalog.errors import UsageError
from spectile.pipeline.store.base import Changed, Exists, Storage
from spectile.pipeline.store.local import LocalStorage
from spectile.pipeline.store.opening import open_storage


@pytest.fixture(params=["files", "objects"])
def storage(request, tmp_path) -> Storage:
    if request.param == "files":
        return open_storage(tmp_path / "a b" / "cube.zarr")
    request.getfixturevalue("object_server")
    return open_storage("s3://bucket/a b/c%20é/cube.zarr")


def test_an_object_is_put_replaced_listed_and_removed(storage):
    assert not storage.exists()
    assert storage.get("ledger/a.json") is None
    storage.put("ledger/b.json", b"12")
    storage.put("ledger/a.json", b"1")
    storage.put("ledger/a.json", b"345")
    storage.put("ledger/deeper/c.json", b"")
    storage.put("ledgers/d.json", b"")
    assert storage.get("ledger/a.json") == b"345"
    assert list(storage.keys("ledger")) == ["ledger/a.json", "ledger/b.json"]
    assert list(storage.keys("nothing")) == []
    assert (storage.exists(), storage.size()) == (True, 5)
    for _ in range(2):
        storage.delete("ledger/b.json")
    assert list(storage.keys("ledger")) == ["ledger/a.json"]
    assert storage.name == "cube.zarr"
    assert storage.at("x").startswith(str(storage.parent))


def test_what_is_there_is_not_put_as_new(storage):
    version = storage.put_new("lease", b"first")
    with pytest.raises(Exists):
        storage.put_new("lease", b"second")
    assert storage.read("lease") == (b"first", version)


def test_what_has_changed_is_not_replaced(storage):
    with pytest.raises(Changed):
        storage.put_if("lease", b"nobody's", storage.put_new("other", b"x"))
    first = storage.put_new("lease", b"first")
    second = storage.put_if("lease", b"second", first)
    with pytest.raises(Changed):
        storage.put_if("lease", b"third", first)
    assert storage.read("lease") == (b"second", second)
    storage.put("lease", b"fourth")
    with pytest.raises(Changed):
        storage.put_if("lease", b"fifth", second)
    assert storage.get("lease") == b"fourth"


def test_of_those_that_race_one_wins_and_no_update_is_lost(storage):
    won: list[int] = []
    storage.put_new("count", b"[]")
    start = threading.Barrier(6)

    def race(number: int) -> None:
        mine = copy.deepcopy(storage)  # another client
        start.wait()
        try:
            mine.put_new("lease", f"writer {number}".encode())
            won.append(number)
        except Exists:
            pass
        while True:
            text, version = mine.read("count")
            try:
                mine.put_if("count", json.dumps([*json.loads(text), number]).encode(), version)
                return
            except Changed:
                continue

    threads = [threading.Thread(target=race, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.get("lease") == f"writer {won[0]}".encode()
    assert len(won) == 1
    assert sorted(json.loads(storage.get("count"))) == list(range(6))


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "a//b", "", ".", "a\\..\\b", "a\0"])
def test_a_key_that_leads_out_is_refused(storage, key):
    for use, *rest in ((storage.get,), (storage.delete,), (storage.put, b""), (storage.put_new, b""),
                       (storage.put_if, b"", "1")):  # fmt: skip
        with pytest.raises(UsageError, match="leads out of the store"):
            use(key, *rest)


def test_all_objects_are_found(storage):
    keys = ["zarr.json", "ledger/zarr.json", "ledger/r1.json", "valid/c/0/0", "ledgers"]
    for key in keys:
        storage.put(key, b"x")
    assert sorted(storage.walk()) == sorted(keys)


class Told(Exception):
    """What the guard says."""


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_put_whose_guard_says_no_changes_nothing(storage, before):
    if before:
        storage.put("a/b", before)

    def guard() -> None:
        raise Told

    with pytest.raises(Told):
        storage.put_guarded("a/b", b"new", guard)
    assert storage.get("a/b") == before
    assert list(storage.walk()) == (["a/b"] if before else [])


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_put_that_was_let_through_does_not_appear_over_what_a_successor_did(storage, before):
    """The process stands still between the guard's last yes and its write, and wakes up after a take-over."""
    if before:
        storage.put("a/b", before)
    asked = []

    def guard() -> None:
        asked.append(None)
        if len(asked) == 1 + isinstance(storage, LocalStorage):
            storage.sweep()
            storage.put("a/b", b"the successor's")
        elif len(asked) > 1 + isinstance(storage, LocalStorage):
            raise Told

    with pytest.raises(Told):
        storage.put_guarded("a/b", b"new", guard)
    assert storage.get("a/b") == b"the successor's"
    assert list(storage.walk()) == ["a/b"]


def test_a_holder_writes_over_what_came_late(storage):
    asked = []

    def guard() -> None:
        asked.append(None)
        if len(asked) == 1 + isinstance(storage, LocalStorage):
            storage.sweep()
            storage.put("a", b"of one that was overtaken")

    storage.put_guarded("a", b"the holder's", guard)
    assert storage.get("a") == b"the holder's"
