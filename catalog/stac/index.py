"""The index of a catalog: its items as one table, stored as stac-geoparquet, searched in memory.

Columns follow the stac-geoparquet specification 1.1 (properties at the top, ``bbox`` a struct, ``geometry``
WKB) over GeoParquet 1.1. It holds only the properties and assets that a search uses or shows. Hrefs are
relative to the catalog's root. The items' files are authoritative; the index can be rebuilt from them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely

from spectile.catalog.errors import UsageError
from spectile.catalog.stac.items import COLLECTION_ID, STAC_VERSION, build_collection, from_root, item_key
from spectile.catalog.times import OpenSpan, parse_span

Bounds = tuple[float, float, float, float]

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_TIME = pa.timestamp("us", tz="UTC")
_PROPERTIES: dict[str, pa.DataType] = {
    "title": pa.string(),
    "datetime": _TIME,
    "start_datetime": _TIME,
    "end_datetime": _TIME,
    "created": _TIME,
    "updated": _TIME,
    "gsd": pa.float64(),
    "proj:code": pa.string(),
    "spectile:status": pa.string(),
    "spectile:model": pa.string(),
    "spectile:model_digest": pa.string(),
    "spectile:digest": pa.string(),
    "spectile:samples": pa.int64(),
    "spectile:layers": pa.list_(pa.string()),
    "spectile:bands": pa.int64(),
    "spectile:wavelength_min": pa.float64(),
    "spectile:wavelength_max": pa.float64(),
}
_ASSET = pa.struct([("href", pa.string()), ("type", pa.string()), ("title", pa.string()),
                    ("roles", pa.list_(pa.string()))])  # fmt: skip
_LINK = pa.struct(
    [("href", pa.string()), ("rel", pa.string()), ("type", pa.string()), ("title", pa.string())]
)
_ASSETS = ("cube", "quicklook", "true_colour")
SCHEMA = pa.schema(
    [
        ("stac_version", pa.string()),
        ("stac_extensions", pa.list_(pa.string())),
        ("id", pa.string()),
        ("collection", pa.string()),
        ("geometry", pa.binary()),
        ("bbox", pa.struct([(side, pa.float64()) for side in _SIDES])),
        ("links", pa.list_(_LINK)),
        ("assets", pa.struct([(key, _ASSET) for key in _ASSETS])),
        *_PROPERTIES.items(),
    ]
)
SHOWN = (
    "id", "title", "updated", "bbox", "datetime", "start_datetime", "end_datetime", "spectile:status",
    "spectile:model", "spectile:bands", "spectile:wavelength_min", "spectile:wavelength_max",
)  # fmt: skip
"""The columns that a search reads and returns, beside ``geometry``."""


@dataclass(frozen=True)
class Query:
    """A search: an item must meet all conditions that are given."""

    bbox: Bounds | None = None
    """(west, south, east, north) to meet, degrees; west > east crosses the antimeridian."""
    datetime: OpenSpan | None = None
    """A time span; the item's span must overlap it."""
    model: str | None = None
    """Name of the model."""
    status: str | None = None
    """``complete`` or ``incomplete``."""
    wavelength: tuple[float, float] | None = None
    """(lowest, highest) in nm; both must lie within the bands' range."""

    def __post_init__(self) -> None:
        if self.bbox is not None:
            west, south, east, north = self.bbox
            if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
                raise UsageError(
                    "not a box on the globe", got=",".join(f"{side:g}" for side in self.bbox),
                    expected="WEST,SOUTH,EAST,NORTH in degrees",
                )  # fmt: skip
        if self.wavelength is not None and not 0 < self.wavelength[0] <= self.wavelength[1]:
            raise UsageError(
                "not a range of wavelengths", got=self.wavelength, expected="LOWEST,HIGHEST in nm"
            )


def to_table(items: Iterable[Mapping[str, Any]]) -> pa.Table:
    """The rows of items as SCHEMA has them.

    Raises
    ------
    UsageError : a part of an item cannot be read, for example its time.
    """
    return rows_to_table([to_row(item, str(item["id"])) for item in items])


def to_row(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The row of one item as SCHEMA has it, plain values.

    Parameters
    ----------
    item : an item that ``check_stac`` accepts.
    where : the item's name, for errors.

    Raises
    ------
    UsageError : a value does not fit into the index.
    """
    try:
        row = _row(item)
        rows_to_table([row])
    except (
        pa.ArrowException, shapely.errors.ShapelyError, ValueError, TypeError, KeyError, AttributeError,
        IndexError, OverflowError, RecursionError,
    ) as err:  # fmt: skip
        raise UsageError("the item has no place in the index", where=where, got=str(err)[:120]) from err
    return row


def rows_to_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of ``to_row`` as a table."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    key, stated, placed = item_key(item["id"]), item["properties"], item["geometry"] is not None
    properties = {name: stated.get(name) for name in _PROPERTIES}
    for name, kind in _PROPERTIES.items():
        if kind == _TIME and properties[name] is not None:
            properties[name] = parse_span(properties[name])[0]
    own = [{"href": key, "rel": "self", "type": "application/geo+json", "title": None}]
    links = [
        {name: link.get(name) for name in ("href", "rel", "type", "title")}
        | {"href": from_root(link["href"], key)}
        for link in item["links"]
        if link["rel"] != "self"
    ]
    assets = {
        name: {part: asset.get(part) for part in ("href", "type", "title", "roles")}
        | {"href": from_root(asset["href"], key)}
        for name, asset in item["assets"].items()
        if name in _ASSETS
    }
    return {
        "stac_version": STAC_VERSION,
        "stac_extensions": item.get("stac_extensions", []),
        "id": item["id"],
        "collection": COLLECTION_ID,
        "geometry": shapely.to_wkb(shapely.from_geojson(json.dumps(item["geometry"]))) if placed else None,
        "bbox": dict(zip(_SIDES, _flat(item["bbox"]), strict=True)) if placed else None,
        "links": own + links,
        "assets": assets,
        **properties,
    }


def _flat(bbox: Sequence[float]) -> Sequence[float]:
    """The box without heights."""
    return (*bbox[0:2], *bbox[3:5]) if len(bbox) == 6 else bbox


def replace_rows(table: pa.Table, ids: Sequence[str], rows: pa.Table) -> pa.Table:
    """The table without the items with these ids, and with the rows appended."""
    others = table.filter(pc.invert(pc.is_in(table["id"], pa.array(ids, pa.string()))))
    return pa.concat_tables([others, rows])


def to_parquet(table: pa.Table) -> bytes:
    """The table as stac-geoparquet."""
    column = {
        "encoding": "WKB", "geometry_types": ["Polygon", "MultiPolygon"],
        "covering": {"bbox": {side: ["bbox", side] for side in _SIDES}},
    }  # fmt: skip
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    stac = {"version": "1.1.0", "collections": {COLLECTION_ID: build_collection()}}
    described = table.replace_schema_metadata({"geo": json.dumps(geo), "stac-geoparquet": json.dumps(stac)})
    sink = pa.BufferOutputStream()
    pq.write_table(described, sink, compression="zstd", row_group_size=50_000)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def from_parquet(value: bytes, where: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The table, or some of its columns, read back.

    Raises
    ------
    UsageError : the bytes are not an index.
    """
    try:
        table = pq.read_table(pa.BufferReader(value), columns=None if columns is None else list(columns))
        return table.select(SCHEMA.names if columns is None else list(columns)).cast(
            pa.schema([SCHEMA.field(name) for name in columns or SCHEMA.names])
        )
    except (pa.ArrowException, KeyError, ValueError) as err:
        raise UsageError(
            "the catalog's index cannot be read", where=where, got=str(err).splitlines()[0][:120],
            remedy="make it again with spectile catalog rebuild",
        ) from err  # fmt: skip


def search(table: pa.Table, query: Query) -> pa.Table:
    """The rows that match a query."""
    for name, wanted in (("spectile:model", query.model), ("spectile:status", query.status)):
        if wanted is not None:
            table = table.filter(pc.equal(table[name], wanted))
    if query.wavelength is not None:
        low = pc.less_equal(table["spectile:wavelength_min"], query.wavelength[0])
        high = pc.greater_equal(table["spectile:wavelength_max"], query.wavelength[1])
        table = table.filter(pc.and_(low, high))
    if query.datetime is not None:
        table = table.filter(_meets(table, query.datetime))
    return table if query.bbox is None else _within(table, query.bbox)


def newest(table: pa.Table, limit: int | None = None) -> pa.Table:
    """The most recently written rows, latest first."""
    order = pc.sort_indices(table, sort_keys=[("updated", "descending"), ("id", "ascending")])
    return table.take(order.slice(0, limit))


def _meets(table: pa.Table, span: OpenSpan) -> Any:
    start = pc.coalesce(table["datetime"], table["start_datetime"])
    end = pc.coalesce(table["datetime"], table["end_datetime"])
    kept = pc.is_valid(start)
    if span[0] is not None:
        kept = pc.and_(kept, pc.greater_equal(end, pa.scalar(span[0], _TIME)))
    if span[1] is not None:
        kept = pc.and_(kept, pc.less_equal(start, pa.scalar(span[1], _TIME)))
    return kept


def _within(table: pa.Table, bbox: Bounds) -> pa.Table:
    west, south, east, north = bbox
    xmin, ymin, xmax, ymax = (pc.struct_field(table["bbox"], side) for side in _SIDES)
    turning = pc.greater(xmin, xmax)  # across the antimeridian
    wests, easts = pc.less_equal(xmin, east), pc.greater_equal(xmax, west)
    if west > east:
        beside = pc.or_(turning, pc.or_(wests, easts))
    else:
        beside = pc.if_else(turning, pc.or_(wests, easts), pc.and_(wests, easts))
    kept = pc.and_(beside, pc.and_(pc.less_equal(ymin, north), pc.greater_equal(ymax, south)))
    # A flight line fills little of its box, so the footprint itself is tested unless its box lies inside.
    inside = pc.and_(pc.greater_equal(ymin, south), pc.less_equal(ymax, north))
    inside = pc.and_(inside, pc.and_(pc.greater_equal(xmin, west), pc.less_equal(xmax, east)))
    inside = pc.and_(inside, pc.invert(turning))
    edge = table.filter(pc.and_not(kept, inside))
    boxes = [(west, 180.0), (-180.0, east)] if west > east else [(west, east)]
    box = shapely.union_all([shapely.box(left, south, right, north) for left, right in boxes])
    shapes = shapely.from_wkb(edge["geometry"].to_numpy(zero_copy_only=False))
    met = edge.filter(pa.array(shapely.intersects(shapes, box), pa.bool_()))
    return pa.concat_tables([table.filter(pc.and_(kept, inside)), met])
