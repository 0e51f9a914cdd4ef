"""One storage, two kinds: what is said of the one holds of the other, against a real S3 server."""

from __future__ import annotations

import copy
import json
import os
import threading
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from obstore.exceptions import PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore

from spectile.catalog.errors import StoreError, UsageError
from spectile.catalog.urls import Location
from spectile.pipeline.store import objects
from spectile.pipeline.store.base import Changed, Exists, Storage
from spectile.pipeline.store.local import LocalStorage
from spectile.pipeline.store.opening import open_storage
from tests.object_server import Fault


@pytest.fixture(params=["files", "objects"])
def storage(request, tmp_path) -> Storage:
    if request.param == "files":
        return open_storage(tmp_path / "a b" / "cube.zarr")
    request.getfixturevalue("object_server")
    return open_storage("s3://bucket/a b/c%20é/cube.zarr")


@pytest.fixture
def remote(object_server) -> Storage:
    return open_storage("s3://bucket/cube.zarr")


@pytest.fixture
def impatient(monkeypatch) -> None:
    monkeypatch.setitem(objects.RETRY, "max_retries", 2)


def in_turn(*answers: str | None, method: str) -> Fault:
    """What the requests of a method get, one after the other; then they pass."""
    left = iter(answers)
    return lambda request: next(left, None) if request[0] == method else None


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


def test_an_object_that_is_gone_is_removed_without_a_word_where_the_store_says_so(tmp_path):
    class Refusing(objects.ObjectStorage):
        """Google Cloud Storage answers 404 to a delete of what is not there, as a client of files does."""

        _store = LocalStore(tmp_path)

    storage = Refusing(Location("gs", "bucket", "cube.zarr"))
    storage.put("ledger/lease", b"1")
    for _ in range(2):
        storage.delete("ledger/lease")
    assert storage.get("ledger/lease") is None


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


def test_a_large_object_is_one_request_and_leaves_no_part(remote, object_server):
    import numpy as np
    import zarr

    group = zarr.create_group(remote.zarr(), zarr_format=3)
    noise = np.random.default_rng(0).integers(0, 2**16, (12, 512, 512)).astype(np.uint16)
    array = group.create_array("a", shape=noise.shape, chunks=(4, 256, 256), shards=noise.shape, dtype="u2")
    object_server.requests.clear()
    array[:] = noise
    assert [method for method, *_ in object_server.requests if method != "GET"] == ["PUT"]
    assert remote.size() > 6 * 2**20
    np.testing.assert_array_equal(zarr.open_array(remote.zarr(read_only=True), path="a", mode="r")[:], noise)


def test_a_transient_failure_is_tried_again(remote, object_server):
    with object_server.failing(in_turn("503 Slow Down", "500 Oops", method="PUT")):
        remote.put("a", b"1")
    assert remote.get("a") == b"1"


def test_an_answer_that_got_lost_is_no_lost_race(remote, object_server):
    for put in (lambda: remote.put_new("lease", b"mine"),
                lambda: remote.put_if("lease", b"mine again", remote.read("lease")[1])):  # fmt: skip
        with object_server.failing(in_turn("500 Lost", method="PUT"), lose_answers=True):
            version = put()
        assert remote.read("lease")[1] == version


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [
        ("403 Forbidden", "AccessDenied", "no permission (got 403 AccessDenied); set AWS_ACCESS_KEY_ID"),
        ("401 Unauthorized", "InvalidToken", "no permission (got 401 InvalidToken)"),
        ("301 Moved", "PermanentRedirect", "the bucket is in another region; set AWS_REGION"),
        ("503 Slow Down", "SlowDown", "the store refuses (got 503 SlowDown, tried 3 times)"),
    ],
)
def test_what_the_store_refuses_is_told_in_a_line(remote, object_server, impatient, status, code, why):
    uses = (lambda: remote.get("a"), lambda: remote.put("a", b""), lambda: remote.put_new("a", b""),
            remote.exists, lambda: list(remote.keys("a")), lambda: remote.delete("a"))  # fmt: skip
    with object_server.failing(lambda _: status, code=code):
        for use in uses:
            with pytest.raises(StoreError) as caught:
                use()
            assert why in str(caught.value)
            assert str(caught.value).startswith("s3://bucket/cube.zarr")
            assert "wJalr" not in str(caught.value)
            assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize("kind", [PermissionDeniedError, UnauthenticatedError])
def test_a_refusal_is_known_by_its_type_and_not_by_its_words(kind):
    said = str(objects.explain(kind("Verweigert"), "gs://bucket/cube.zarr"))
    assert said.startswith("gs://bucket/cube.zarr: no permission; set GOOGLE_APPLICATION_CREDENTIALS")


def test_a_missing_bucket_is_named(object_server):
    storage = open_storage("s3://elsewhere/cube.zarr")
    for use in (storage.exists, lambda: storage.get("a"), lambda: storage.put("a", b""),
                lambda: storage.put_new("a", b""), lambda: storage.put_if("a", b"", '"0"')):  # fmt: skip
        with pytest.raises(StoreError, match=r"s3://elsewhere/cube.zarr.*no such bucket"):
            use()


def test_a_server_that_does_not_answer_is_told(object_server, impatient, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"cannot be reached \(got .*tried 3 times\); check the network"):
        open_storage("s3://bucket/cube.zarr").get("a")


def test_plain_http_is_used_for_an_endpoint_that_says_so_alone(object_server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_server.url.replace("http:", "https:"))
    monkeypatch.setitem(objects.RETRY, "max_retries", 0)
    with pytest.raises(StoreError, match="cannot be reached"):
        open_storage("s3://bucket/cube.zarr").get("a")
    assert object_server.requests == []


def test_half_of_the_credentials_are_none(object_server, monkeypatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET"):
        open_storage("s3://bucket/cube.zarr").get("a")


def test_a_public_bucket_needs_no_credentials(object_server, monkeypatch):
    open_storage("s3://bucket/cube.zarr").put("private", b"1")
    url = f"{object_server.url}/bucket/cube.zarr/public"
    headers = {"x-amz-acl": "public-read", "Content-Type": "text/plain"}
    with urlopen(Request(url, b"2", headers, method="PUT")):
        pass
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    storage = open_storage("s3://bucket/cube.zarr")
    assert storage.get("public") == b"2"
    with pytest.raises(StoreError, match="no permission"):
        storage.get("private")


def test_a_storage_travels_without_its_credentials(remote):
    remote.put("a", b"1")
    # What goes to another process is what its copy is made of.
    assert "wJalr" not in repr(remote.__reduce_ex__(4))
    assert copy.deepcopy(remote).get("a") == b"1"


def test_the_web_is_not_written_to():
    with pytest.raises(UsageError, match="not a place for cubes or catalogs"):
        open_storage("https://host/cube.zarr")
