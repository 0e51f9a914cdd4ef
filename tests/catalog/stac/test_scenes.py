from pathlib import Path

import pytest

from spectile.catalog.errors import UsageError
from spectile.catalog.stac.scenes import checked_href, item_span, scene_asset
from spectile.catalog.urls import locate

TIFF = {"href": "a.tif"}
FAR = locate("https://host/stac/page.json")
HERE = locate("http://127.0.0.1:80/page.json")


@pytest.mark.parametrize(
    ("assets", "href"),
    [
        ({"image": TIFF, "meta": {"href": "meta.xml"}}, "a.tif"),
        ({"nir": {"href": "nir.tif"}, "visual": TIFF}, "a.tif"),
        ({"image": {"href": "a", "type": "image/tiff; application=geotiff"}, "note": 5}, "a"),
        ({"image": TIFF, "small": {"href": "s.tif", "roles": ["thumbnail"]}}, "a.tif"),
    ],
)
def test_the_scene_of_an_item_is_its_only_raster_or_the_one_called_visual(assets, href):
    assert scene_asset(assets, "item") == href


@pytest.mark.parametrize("assets", [{}, {"one": TIFF, "two": {"href": "b.tif"}}, {"image": {"href": 5}}])
def test_an_item_whose_scene_is_not_plain_is_refused(assets):
    with pytest.raises(UsageError, match="which asset is the RGB scene is unclear"):
        scene_asset(assets, "item")


@pytest.mark.parametrize(
    ("properties", "taken"),
    [
        ({"datetime": "2024-06-01T10:00:00Z", "start_datetime": "2024"}, "2024-06-01T10:00:00Z"),
        ({"datetime": None, "start_datetime": "2024", "end_datetime": "2025"}, "2024/2025"),
        ({"start_datetime": "2024"}, None),
        ({"datetime": 5}, None),
        (None, None),
    ],
)
def test_an_item_says_when_it_was_taken_or_nothing(properties, taken):
    assert item_span({"properties": properties}) == taken


@pytest.mark.parametrize(
    ("href", "document", "place"),
    [
        ("../a.tif?sig=1", FAR, "https://host/a.tif?sig=1"),
        ("../../../a.tif", FAR, "https://host/a.tif"),
        ("s3://bucket/a.tif", FAR, "s3://bucket/a.tif"),
        ("a.tif", HERE, "http://127.0.0.1:80/a.tif"),
    ],
)
def test_a_relative_href_starts_at_its_document(href, document, place):
    assert checked_href(href, document, document, "item") == place


def test_a_path_is_as_its_folder_has_it(tmp_path: Path):
    document = tmp_path / "deep" / "item.json"
    assert checked_href("../a.tif", document, tmp_path / "root.json", "item") == str(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("href", "root", "why"),
    [
        ("file:///etc/passwd", FAR, "refers to a local file"),
        ("http://localhost/a.tif", FAR, "refers to this machine"),
        ("../a.tif", Path("/data/item.json"), "outside the collection's folder"),
        ("a\0.tif", Path("/data/item.json"), "not a path"),
    ],
)
def test_an_href_that_must_not_lead_there_is_refused(href, root, why):
    with pytest.raises(UsageError, match=why):
        checked_href(href, root, root, "item")
