from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import Any

import pystac
import pytest

from spectile.catalog.errors import UsageError
from spectile.catalog.stac.items import (
    EXTENSIONS,
    Placed,
    build_collection,
    build_item,
    check_stac,
    from_root,
    item_id,
    item_key,
)
from tests.catalog.items import made_up

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HERE = Placed("scene-1", "../../../cubes/")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def build(*, placed: Placed = HERE, **said: Any) -> dict[str, Any]:
    return build_item(made_up(**said), placed, created=NOW, updated=NOW)


def test_items_and_the_collection_are_valid_and_pystac_reads_them() -> None:
    item = build()
    check_stac(item, "item")
    check_stac(build(placed=Placed("scene-1", "./", collected=False)), "item")
    check_stac(build_collection(), "collection")
    assert pystac.Item.from_dict(item).datetime == datetime(2024, 6, 1, 10, 30, tzinfo=UTC)
    assert pystac.Collection.from_dict(build_collection()).assets["index"].roles == ["collection-mirror"]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"id": 3}, "id"),
        ({"geometry": None}, "bbox"),
        ({"stac_version": "1.0.0"}, "stac_version"),
        ({"assets": {"cube": {}}}, "href"),
        ({"properties": {"datetime": None}}, "datetime"),
        ({"properties": {"datetime": "2024-06-01T10:30:00Z", "created": "yesterday"}}, "yesterday"),
    ],
)
def test_what_is_no_item_is_refused_with_the_place(damage: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        check_stac({**build(), **damage}, "item")


def test_an_item_whose_time_nobody_knows_has_a_span_up_to_its_creation() -> None:
    said = build(taken=None)["properties"]
    assert said["datetime"] is None
    assert (said["start_datetime"], said["end_datetime"]) == ("1900-01-01T00:00:00Z", "2026-01-02T03:04:05Z")
    check_stac(build(taken=None), "item")


def test_a_day_is_a_span_and_a_moment_is_not() -> None:
    day = build(taken="2024-06-01")["properties"]
    assert (day["datetime"], day["end_datetime"]) == (None, "2024-06-01T23:59:59.999999Z")
    assert "start_datetime" not in build()["properties"]


def test_the_extensions_of_an_item_are_those_whose_fields_it_has() -> None:
    assert build()["stac_extensions"] == [EXTENSIONS["proj"]]


def test_an_id_names_one_place_and_is_safe_in_file_names() -> None:
    ids = {item_id("scene", "../../../a/scene.zarr"), item_id("scene", "../../../b/scene.zarr")}
    assert len(ids) == 2
    assert item_id("../ä b/.hidden\0", "x").startswith("b-.hidden-")
    assert item_id("", "x").startswith("cube-")
    assert item_key("a-1").count("/") == 2


def test_hrefs_from_the_root_skip_the_items_own_folders() -> None:
    key = item_key("scene-1")
    assert from_root("../../../cubes/a.zarr", key) == "../cubes/a.zarr"
    assert from_root("../../collection.json", key) == "collection.json"
    for absolute in ("s3://bucket/a.zarr", "file:///data/a.zarr", "urn:spectile:scene:1"):
        assert from_root(absolute, key) == absolute
