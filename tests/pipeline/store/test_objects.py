"""Objects in a bucket of a real S3 server, and what goes wrong with it."""

from __future__ import annotations

import copy
from urllib.request import Request, urlopen

import pytest
from obstore.exceptions import PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore

from spectile.catalog.errors import StoreError
from spectile.catalog.urls import Location
from spectile.pipeline.store import objects
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage
from tests.object_server import Fault


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


def test_an_object_that_is_gone_is_removed_without_a_word_where_the_store_says_so(tmp_path):
    class Refusing(objects.ObjectStorage):
        """Google Cloud Storage answers 404 to a delete of what is not there, as a client of files does."""

        _store = LocalStore(tmp_path)

    storage = Refusing(Location("gs", "bucket", "cube.zarr"))
    storage.put("ledger/lease", b"1")
    for _ in range(2):
        storage.delete("ledger/lease")
    assert storage.get("ledger/lease") is None


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
