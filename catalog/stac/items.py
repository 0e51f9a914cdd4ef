"""STAC 1.1 items and their collection: built from facts, checked offline.

EXTENSIONS has the versions of the extension fields; docs/catalog.md lists the content of an item.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from spectile.catalog.errors import UsageError
from spectile.catalog.times import UNKNOWN_START, Span, parse_span, to_text
from spectile.catalog.urls import is_url

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

STAC_VERSION = "1.1.0"
COLLECTION_ID = "spectile"
COLLECTION_FILE = "collection.json"
INDEX_FILE = "index.parquet"
EXTENSIONS = {
    "proj": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "eo": "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "raster": "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "cube": "https://stac-extensions.github.io/datacube/v2.3.0/schema.json",
    "processing": "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "file": "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "zarr": "https://stac-extensions.github.io/zarr/v1.1.0/schema.json",
}
"""The prefix of each extension's fields, and its schema."""
ZARR_TYPE = "application/vnd.zarr; version=3"
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
PARQUET_TYPE = "application/vnd.apache.parquet"


@dataclass(frozen=True)
class Facts:
    """The content of an item, independent of the place where it is stored."""

    name: str
    """The cube's name without ``.zarr``."""
    geometry: Mapping[str, Any] | None
    """Polygon or MultiPolygon, GeoJSON, degrees on WGS 84; None if the grid is not on the globe."""
    bbox: tuple[float, float, float, float] | None
    """(west, south, east, north); west > east across the antimeridian. None if the geometry is None."""
    properties: Mapping[str, Any]
    """All properties except times."""
    assets: Mapping[str, Mapping[str, Any]]
    """Assets by key; ``href`` is the name of the cube or of a file beside it."""
    links: Sequence[Mapping[str, str]] = ()
    """Links to the scenes and the model."""
    taken: Span | None = None
    """Acquisition time of the scene; None if unknown."""


@dataclass(frozen=True)
class Placed:
    """The place of an item, in a collection or beside its cube."""

    item_id: str
    """Unique in the collection."""
    prefix: str = field(default="", repr=False)
    """Prefix that turns the names of the cube and of its neighbours into hrefs."""
    collected: bool = True
    """True if it is in a collection; False if it lies beside its cube."""


def build_item(facts: Facts, placed: Placed, *, created: datetime, updated: datetime) -> dict[str, Any]:
    """The item, as plain JSON values.

    Parameters
    ----------
    created, updated : when the item was first and last written.
    """
    times: dict[str, Any] = {"datetime": None}
    start, end = facts.taken or (min(UNKNOWN_START, created), created)
    if start == end:
        times["datetime"] = to_text(start)
    else:
        times.update(start_datetime=to_text(start), end_datetime=to_text(end))
    used = {
        *(name.partition(":")[0] for name in facts.properties),
        *(name.partition(":")[0] for asset in facts.assets.values() for name in asset),
        *(n.partition(":")[0] for a in facts.assets.values() for b in a.get("bands", ()) for n in b),
    }
    collection = {"rel": "collection", "href": f"../../{COLLECTION_FILE}", "type": "application/json"}
    around = [{**collection, "rel": rel} for rel in ("root", "parent", "collection")]
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [schema for prefix, schema in EXTENSIONS.items() if prefix in used],
        "id": placed.item_id,
        "geometry": facts.geometry,
        **({} if facts.bbox is None else {"bbox": list(facts.bbox)}),
        "properties": {
            "title": facts.name,
            **times,
            "created": to_text(created),
            "updated": to_text(updated),
            **facts.properties,
        },
        "links": [*(around if placed.collected else ()), *map(dict, facts.links)],
        "assets": {
            key: {**asset, "href": placed.prefix + asset["href"]} for key, asset in facts.assets.items()
        },
    }
    if placed.collected:
        item["collection"] = COLLECTION_ID
    return item


def item_id(name: str, href: str) -> str:
    """The id of a cube's item: its name and a hash of its href.

    The id depends on the place, not on the content: a new cube at the same place keeps the id.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "cube"
    return f"{safe[:80]}-{hashlib.sha256(href.encode()).hexdigest()[:8]}"


def item_key(item_id: str) -> str:
    """The key of an item in the catalog; items are spread over 256 folders so that none grows too large."""
    return f"items/{hashlib.sha256(item_id.encode()).hexdigest()[:2]}/{item_id}.json"


def from_root(href: str, key: str) -> str:
    """An href of the item at ``key``, relative to the catalog's root; absolute hrefs are unchanged."""
    return href if is_url(href) or href.startswith("urn:") else posixpath.normpath(
        posixpath.join(posixpath.dirname(key), href)
    )  # fmt: skip


def build_collection() -> dict[str, Any]:
    """An empty collection."""
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "id": COLLECTION_ID,
        "title": "Synthetic hyperspectral cubes",
        "description": "Reflectance cubes that spectile estimated from scenes of few bands. Spectra are a "
        f"model's estimates, not measurements. The items are listed in {INDEX_FILE} (stac-geoparquet).",
        "license": "other",
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        "links": [{"rel": "root", "href": f"./{COLLECTION_FILE}", "type": "application/json"}],
        "assets": {
            "index": {
                "href": f"./{INDEX_FILE}",
                "type": PARQUET_TYPE,
                "title": "The items as stac-geoparquet",
                "roles": ["collection-mirror"],
            }
        },
    }


@cache
def _validator(kind: str) -> Validator:
    # The schemas that pystac brings along: nothing is asked of the network. Its own validators ask for the
    # extensions' schemas, the local one is deprecated, and both fail where an item is not plain JSON. Its
    # classes were tried for ``build_item``: the same JSON, no line less, and they take 0.7 s to load.
    from jsonschema.validators import validator_for
    from pystac.validation.local_validator import get_local_schema_cache
    from referencing import Registry, Resource

    schemas = get_local_schema_cache()
    schema = schemas[f"https://schemas.stacspec.org/v{STAC_VERSION}/{kind}-spec/json-schema/{kind}.json"]
    registry: Registry[Any] = Registry().with_resources(
        [(uri, Resource.from_contents(each)) for uri, each in schemas.items()]
    )
    return validator_for(schema)(schema, registry=registry)


def _leaves(error: Any) -> Iterator[Any]:
    for cause in error.context:
        yield from _leaves(cause)
    if not error.context:
        yield error


def check_stac(document: Mapping[str, Any], where: str) -> None:
    """Check a STAC 1.1 item or collection against the core schemas; extensions are not checked.

    Raises
    ------
    UsageError : it is not valid; the message names the first fault.
    """
    from jsonschema.exceptions import best_match

    kind = "collection" if document.get("type") == "Collection" else "item"
    try:
        plain = json.loads(json.dumps(document, allow_nan=False, ensure_ascii=False).encode())
        first = best_match(_validator(kind).iter_errors(plain))
    except (ValueError, RecursionError) as err:
        raise UsageError("not valid JSON", where=where, got=str(err)[:120]) from err
    if first is not None:
        # If all alternatives of a schema fail, a missing field explains more than the failure itself.
        first = next((leaf for leaf in _leaves(first) if leaf.validator == "required"), first)
        path = "/".join(map(str, first.absolute_path)) or "the whole"
        raise UsageError(
            f"not a STAC {STAC_VERSION} {kind}", where=where, got=f"{path}: {first.message[-200:]}"
        )
    if kind == "item":
        for name in ("datetime", "start_datetime", "end_datetime", "created", "updated"):
            if (text := plain["properties"].get(name)) is not None:
                parse_span(text)  # the schemas do not check the format
