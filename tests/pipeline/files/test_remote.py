import hashlib

import pytest

from spectile.catalog.errors import SpectileError
from spectile.catalog.urls import locate
from spectile.pipeline.files import remote
from spectile.pipeline.files.remote import CACHE_BYTES, ask, gdal_path, reading
from spectile.pipeline.store.opening import open_storage

URL = "s3://bucket/scenes/a.tif"


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("folder/a.tif", "folder/a.tif"),
        ("file:///folder/a%20b.tif", "/folder/a b.tif"),
        ("https://host/a.tif?sig=1", "/vsicurl/https://host/a.tif?sig=1"),
        (URL, "/vsis3/bucket/scenes/a.tif"),
        ("gs://bucket/a.tif", "/vsigs/bucket/a.tif"),
    ],
)
def test_gdal_gets_the_name_that_its_own_clients_know(place, name):
    assert gdal_path(place) == name


def test_gdal_keeps_little_and_nothing_of_what_is_elsewhere(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9/path/")
    here, there = reading("a.tif").options, reading(URL).options
    assert here == {"GDAL_CACHEMAX": CACHE_BYTES, "CPL_VSIL_GZIP_WRITE_PROPERTIES": "NO"}
    assert there["CPL_VSIL_CURL_NON_CACHED"] == "/vsis3/bucket/scenes/a.tif"
    assert there["GDAL_DISABLE_READDIR_ON_OPEN"] == "EMPTY_DIR"
    assert (there["AWS_S3_ENDPOINT"], there["AWS_HTTPS"]) == ("127.0.0.1:9/path", "NO")


def test_an_object_that_changes_while_it_is_read_is_told(object_server, monkeypatch):
    monkeypatch.setattr(remote, "PART", 7)
    storage = open_storage("s3://bucket/scenes")
    storage.put("a.tif", b"twenty bytes of text")
    before = ask(locate(URL))
    assert before.size == 20
    assert before.digest() == hashlib.sha256(b"twenty bytes of text").digest()
    before.check_unchanged()
    storage.put("a.tif", b"other text")
    with pytest.raises(SpectileError, match=r"changed while it was read .*10 bytes"):
        before.check_unchanged()
