from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import BufferReader

from spectile.catalog.errors import UsageError
from spectile.catalog.stac.index import (
    Query,
    from_parquet,
    newest,
    replace_rows,
    search,
    to_parquet,
    to_table,
)
from spectile.catalog.stac.items import Placed, build_item
from spectile.catalog.times import parse_open_span
from tests.catalog.items import made_up

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def item(number: int, **said: Any) -> dict[str, Any]:
    written = NOW + timedelta(seconds=number)
    return build_item(
        made_up(**said), Placed(f"i{number}", "../../../out/"), created=written, updated=written
    )


def found(items: list[dict[str, Any]], query: Query) -> list[str]:
    ids: list[str] = newest(search(to_table(items), query))["id"].to_pylist()
    return ids


def test_the_index_is_geoparquet_and_comes_back_as_it_was() -> None:
    table = to_table([item(1), item(2, taken=None)])
    value = to_parquet(table)
    metadata = pq.read_schema(BufferReader(value)).metadata
    geo = json.loads(metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"]["encoding"] == "WKB"
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    stac = json.loads(metadata[b"stac-geoparquet"])
    assert stac["version"] == "1.1.0"
    assert stac["collections"]["spectile"]["type"] == "Collection"
    back = from_parquet(value, "here")
    assert back.to_pylist() == table.to_pylist()
    row = back.to_pylist()[0]
    assert shapely.from_wkb(row["geometry"]).equals(shapely.box(10.0, 50.0, 10.1, 50.1))
    assert row["assets"]["cube"]["href"] == "../out/scene.zarr"
    assert row["links"][0] | {"type": None} == {
        "rel": "self", "href": row["links"][0]["href"], "type": None, "title": None
    }  # fmt: skip
    assert row["links"][0]["href"].endswith("/i1.json")


def test_what_is_no_index_is_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match="catalog rebuild"):
        from_parquet(b"PAR1 and then something else", "here")


def test_a_row_is_replaced_or_removed() -> None:
    table = to_table([item(1), item(2)])
    table = replace_rows(table, ["i1", "i2"], to_table([item(1, model="other")]))
    assert table.select(["id", "spectile:model"]).to_pylist() == [{"id": "i1", "spectile:model": "other"}]


def test_all_that_is_asked_for_must_hold_and_the_last_written_comes_first() -> None:
    items = [
        item(1),
        item(2, model="other"),
        item(3, status="incomplete"),
        item(4, wavelength=(450.0, 900.0)),
    ]
    assert found(items, Query()) == ["i4", "i3", "i2", "i1"]
    assert found(items, Query(model="vnir48")) == ["i4", "i3", "i1"]
    assert found(items, Query(status="incomplete")) == ["i3"]
    assert found(items, Query(wavelength=(450, 900))) == ["i4", "i3", "i2", "i1"]
    assert found(items, Query(wavelength=(449, 900))) == ["i3", "i2", "i1"]
    assert found(items, Query(model="other", wavelength=(380, 1050), status="complete")) == ["i2"]


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ("2024-06-01", ["i3", "i2", "i1"]),
        ("2024-06-01T10:30:00Z", ["i3", "i2", "i1"]),
        ("2024-06-01T10:30:01Z/..", ["i3", "i2"]),
        ("../2023", ["i3"]),
        ("2026-01-03/..", []),
    ],
)
def test_times_meet_as_spans(asked: str, ids: list[str]) -> None:
    items = [item(1), item(2, taken="2024-06-01"), item(3, taken=None)]
    assert found(items, Query(datetime=parse_open_span(asked))) == ids


def test_a_footprint_that_its_box_only_seems_to_meet_is_left_out() -> None:
    corner = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [0, 10], [0, 0]]]}
    items = [item(1, bbox=(0, 0, 10, 10), geometry=corner)]
    assert found(items, Query(bbox=(8, 0, 9, 1))) == []
    assert found(items, Query(bbox=(1, 8, 2, 9))) == ["i1"]


def test_boxes_meet_across_the_antimeridian() -> None:
    two = [shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -179, 1)]
    across = json.loads(shapely.to_geojson(shapely.MultiPolygon(two)))
    items = [item(1, bbox=(179, 0, -179, 1), geometry=across), item(2)]
    for west, east in ((179.5, 179.6), (-179.6, -179.5), (170, -170), (179.9, -179.9)):
        assert found(items, Query(bbox=(west, 0, east, 1))) == ["i1"], (west, east)
    assert found(items, Query(bbox=(-178, 0, 178, 60))) == ["i2"]
    assert found(items, Query(bbox=(5, 0, -170, 60))) == ["i2", "i1"]


sides = st.integers(-18, 18).map(lambda step: step * 10.0)


@given(st.lists(st.tuples(sides, sides, sides, sides), max_size=6), st.tuples(sides, sides, sides, sides))
def test_a_box_finds_what_meets_it(given_boxes: list[tuple[float, ...]], wanted: tuple[float, ...]) -> None:
    def box(ends: tuple[float, ...]) -> tuple[float, float, float, float]:
        west, east = sorted(ends[:2])
        south, north = sorted(end / 2 for end in ends[2:])
        return west, south, east + 1 if west == east < 180 else east, north + 1 if south == north else north

    boxes = [b for b in map(box, given_boxes) if b[0] < b[2] and b[3] <= 90]
    query = box(wanted)
    if query[3] > 90 or query[0] >= query[2]:
        return
    expected = [
        f"i{n}" for n, b in enumerate(boxes) if shapely.intersects(shapely.box(*b), shapely.box(*query))
    ]
    items = [item(n, bbox=b) for n, b in enumerate(boxes)]
    assert sorted(found(items, Query(bbox=query))) == sorted(expected)


@pytest.mark.parametrize(
    "wrong", [{"bbox": (0, 1, 2, 0)}, {"bbox": (0, 0, 181, 1)}, {"wavelength": (900, 400)}]
)
def test_a_query_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected"):
        Query(**wrong)
