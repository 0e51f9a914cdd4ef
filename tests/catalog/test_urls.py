"""Places are checked before use, and no URL is shown with what could open it."""

from __future__ import annotations

from pathlib import Path

import pytest

from spectile.catalog.errors import SpectileError, UsageError
from spectile.catalog.redaction import redact, redact_url
from spectile.catalog.urls import Location, locate, nested

SECRET = "wJalrXUtnFEMI"


def test_paths_stay_paths_and_file_urls_become_them(tmp_path):
    assert locate("a/b.tif") == Path("a/b.tif")
    assert locate(tmp_path) == tmp_path
    assert locate("file:///data/a%20b.tif") == Path("/data/a b.tif")


def test_an_object_s_key_is_taken_as_it_is_and_a_web_path_as_it_is_quoted():
    scene = locate("s3://bucket/a b/c%20é.tif")
    assert scene == Location("s3", "bucket", "a b/c%20é.tif")
    assert isinstance(scene, Location)
    assert (scene.name, str(scene.parent), str(scene)) == (
        "c%20é.tif",
        "s3://bucket/a b",
        "s3://bucket/a b/c%20é.tif",
    )
    web = locate(f"https://host:8443/a%20b.tif?X-Amz-Signature={SECRET}")
    assert isinstance(web, Location)
    assert (web.name, str(web)) == ("a b.tif", "https://host:8443/a%20b.tif")
    assert web.url.endswith(SECRET)
    assert SECRET not in repr(web)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://host/scene.tif", "of this kind"),
        ("zip+https://host/scene.tif", "of this kind"),
        (f"s3://AKIA:{SECRET}@bucket/scene.tif", "holds credentials"),
        (f"s3://AKIA:{SECRET}/x@bucket/scene.tif", "holds credentials"),
        (f"https://user:{SECRET}@host/scene.tif", "holds credentials"),
        (f"https://{SECRET}@host/scene.tif", "holds credentials"),
        (f"s3://bucket/scene.tif?X-Amz-Signature={SECRET}", "has no query"),
        (f"s3://bucket/scene.tif#{SECRET}", "has no query"),
        ("s3://bucket", "names no object"),
        ("s3://bucket/", "names no object"),
        ("s3:///scene.tif", "names no object"),
        ("s3://bucket/a//b.tif", "names no object"),
        ("s3://bucket/../other/b.tif", "leads out"),
        ("s3://bucket/a/%2e%2e/b.tif", "leads out"),
        ("https://host/a/../b.tif", "leads out"),
        ("s3://bucket/a\nb.tif", "control characters"),
        ("s3://bucket/a\\..\\b.tif", "control characters"),
        ("http://example.org/scene.tif", "this machine only"),
        ("https://host", "names no file"),
        ("https://host/a b.tif", "names no file"),
        ("file://elsewhere/scene.tif", "file here"),
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_refused_without_its_secret(url, why):
    with pytest.raises(UsageError, match=why) as caught:
        locate(url)
    assert SECRET not in str(caught.value)


def test_http_is_allowed_on_this_machine():
    assert str(locate("http://127.0.0.1:5000/a.tif")) == "http://127.0.0.1:5000/a.tif"
    assert str(locate("http://[::1]:5000/a.tif")) == "http://[::1]:5000/a.tif"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/a/scene.tif", "s3://bucket/a/scene.tif"),
        (f"https://h:443/a.tif?sig={SECRET}", "https://h:443/a.tif?…"),
        (f"https://h/a.tif#{SECRET}", "https://h/a.tif#…"),
        (f"https://u:{SECRET}@h/a.tif", "https://h/a.tif"),
        (f"s3://AKIA:{SECRET}/+x@bucket/a", "s3://…"),
        ("scene.tif", "scene.tif"),
    ],
)
def test_redaction_leaves_the_place_and_takes_the_secret(url, shown):
    assert redact_url(url) == shown


def test_redaction_finds_urls_inside_a_text():
    text = f"'/vsicurl/https://h/a.tif?sig={SECRET}' not recognized; see https://u:{SECRET}@h/b, twice."
    assert redact(text) == "'/vsicurl/https://h/a.tif?…' not recognized; see https://h/b, twice."


def test_no_error_shows_what_a_url_is_signed_with():
    error = SpectileError("failed", where=f"https://h/a.tif?sig={SECRET}", got=f"https://k:{SECRET}@h/x")
    assert str(error) == "https://h/a.tif?…: failed (got https://h/x)"


def test_a_place_inside_another_is_found(tmp_path):
    cube = "s3://bucket/cube.zarr"
    assert nested(locate(cube), locate("s3://bucket/cube.zarr/scene.tif"))
    assert nested(locate(cube), locate(cube + "/"))
    assert not nested(locate(cube), locate("s3://bucket/cube.zarr.tif"))
    assert not nested(locate(cube), locate("s3://other/cube.zarr"))
    assert nested(tmp_path, locate(f"file://{tmp_path}/scene.tif"))
    assert not nested(tmp_path, locate(cube))
