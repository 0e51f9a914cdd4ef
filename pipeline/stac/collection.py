"""A catalog: a STAC collection in a folder or a bucket, that many processes add to at once.

An add writes only its own item and an empty object under ``pending/``. The items, ``items/XX/ID.json``, are
authoritative. ``index.parquet`` is made from them; ``pending/`` names the items that are not in it yet. A
process that adds them to the index replaces it on condition that it has not changed, and removes only the
names that it has read. Items that are added in the meantime keep their names for the next process.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from spectile.catalog.errors import StoreError, UsageError
from spectile.catalog.stac.documents import one_line, parse_json
from spectile.catalog.stac.items import (
    COLLECTION_FILE,
    INDEX_FILE,
    Facts,
    Placed,
    build_collection,
    build_item,
    check_stac,
    from_root,
    item_id,
    item_key,
)
from spectile.catalog.times import to_text
from spectile.catalog.urls import Location, is_url, locate
from spectile.pipeline.store.base import Changed, Exists, Storage, stem
from spectile.pipeline.store.opening import open_storage

if TYPE_CHECKING:
    import pyarrow as pa

    from spectile.catalog.stac.index import Query

LOG = logging.getLogger("spectile")

ENVIRONMENT = "SPECTILE_CATALOG"
"""The environment variable that names the catalog if no setting does."""
MOST_PENDING = 256
"""Number of pending items at which an add or a search updates the index."""

MOST_BYTES = 24_000_000
"""Bytes of the largest item that is read; the item of a line of 65,534 scenes has 20 MB."""

_PENDING = "pending"
_AT_ONCE = 16
"""Objects that are read in parallel; from a distant store, latency dominates."""


@dataclass(frozen=True)
class Rebuilt:
    """The result of rebuilding an index."""

    items: int
    """Number of items in it."""
    problems: tuple[str, ...]
    """Items that were left out, with the reason, one line each."""


@dataclass(frozen=True)
class Collection:
    """A catalog at a place. No request is made until it is used."""

    storage: Storage
    """Where it is."""

    def place(self, cube: str, *, must_exist: bool = True) -> Placed:
        """The place of a cube's item, from the cube's place as the user wrote it.

        Hrefs are relative if both lie in one bucket, or if the cube lies below the folder that contains the
        catalog. Otherwise they are what the user gave: a URL or an absolute path.

        Raises
        ------
        UsageError : an absolute path would have to be recorded, and the user gave a relative one.
        """
        href = _href(cube, self.storage)
        return Placed(item_id(_stem(href), href), href.rpartition("/")[0] + "/")

    def create(self) -> None:
        """Create the catalog, if it does not exist yet.

        Raises
        ------
        StoreError, OSError : the place cannot be written.
        """
        if self.storage.get(COLLECTION_FILE) is not None:
            return
        from spectile.catalog.stac.index import to_parquet, to_table

        for key, value in (
            (INDEX_FILE, to_parquet(to_table([]))), (COLLECTION_FILE, _json(build_collection())),
        ):  # fmt: skip
            try:
                self.storage.put_new(key, value)
            except Exists:
                continue

    def add(self, cube: str, facts: Facts) -> str:
        """Write or replace the item of a cube; returns its id.

        Raises
        ------
        UsageError : the catalog cannot refer to the cube, or its item is not valid.
        StoreError, OSError : the place cannot be written.
        """
        placed = self.place(cube)
        self.create()
        write_item(self.storage, item_key(placed.item_id), facts, placed)
        # Written after the item, so that a reader of the name finds the item. The name is unique to this add.
        self.storage.put(f"{_PENDING}/{placed.item_id}.{uuid.uuid4().hex}", b"")
        if len(list(self.storage.keys(_PENDING))) >= MOST_PENDING:
            self._fold()
        return placed.item_id

    def get(self, item_id: str) -> dict[str, Any]:
        """An item as it is stored.

        Raises
        ------
        UsageError : there is no item with this id.
        """
        key = item_key(item_id)
        value = self.storage.get_bounded(key, MOST_BYTES) if "/" not in item_id else None
        if value is None:
            raise UsageError(
                "no such item", where=str(self.storage), got=item_id, remedy="see spectile catalog list"
            )
        return self._checked(key, value)

    def _checked(self, key: str, value: bytes) -> dict[str, Any]:
        """The checked item from the bytes at a key.

        Raises
        ------
        UsageError : it is not an item that can be used.
        """
        item = parse_json(value, key)
        if not isinstance(item, dict):
            raise UsageError("not a STAC item", where=key, got=type(item).__name__)
        check_stac(item, key)
        if item["type"] != "Feature":
            raise UsageError("not a STAC item", where=key, got=str(item["type"])[:80])
        if item_key(item["id"]) != key:
            raise UsageError("the item belongs elsewhere", where=key, got=item["id"][:80])
        root = locate(str(self.storage))
        # Hrefs may lead to the folder that contains the catalog, or to its bucket.
        above = 1 if isinstance(root, Path) else len(root.key.split("/"))
        for target in (*item["links"], *item["assets"].values()):
            href = from_root(target["href"], key)
            if href.startswith("/") or href.split("/")[: above + 1] == [".."] * (above + 1):
                raise UsageError(
                    "an href leads out of the catalog's place", where=key, got=target["href"][:80]
                )
        return item

    def resolve(self, item: dict[str, Any]) -> dict[str, Any]:
        """The item with absolute hrefs."""
        key, root = item_key(item["id"]), locate(str(self.storage))
        base = root.resolve().as_uri() if isinstance(root, Path) else str(root)
        for target in (*item["links"], *item["assets"].values()):
            href = from_root(target["href"], key)
            if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", href):
                target["href"] = _joined(base, href)
        return item

    def cube(self, item_id: str) -> str:
        """The place of an item's cube.

        Raises
        ------
        UsageError : there is no item with this id, or it has no cube.
        """
        item = self.get(item_id)
        if "cube" not in item["assets"]:
            raise UsageError("the item has no asset that is called cube", where=item_id)
        relative = not is_url(item["assets"]["cube"]["href"])
        href: str = self.resolve(item)["assets"]["cube"]["href"]
        if not href.startswith("file:"):
            return unquote(href)
        root = locate(str(self.storage))
        place = locate(href)
        assert isinstance(place, Path)
        if relative and isinstance(root, Path) and not place.resolve().is_relative_to(root.resolve().parent):
            raise UsageError(
                "a link leads out of the folder that holds the catalog", where=item_id, got=place,
                remedy="add the cube by its full path",
            )  # fmt: skip
        return href

    def search(self, query: Query, *, geometry: bool = False) -> pa.Table:
        """The rows of the items that match a query, unordered; every finished add is included.

        Parameters
        ----------
        geometry : whether footprints are among the columns; they always are of a search by place.

        Raises
        ------
        UsageError : there is no catalog, or its index cannot be read.
        """
        from spectile.catalog.stac import index

        # Read the names before the index: a name that is removed in between is then in the index.
        names = list(self.storage.keys(_PENDING))
        if len(names) >= MOST_PENDING:
            self._fold_if_allowed()
            names = list(self.storage.keys(_PENDING))
        columns = (*index.SHOWN, "geometry") if geometry or query.bbox is not None else index.SHOWN
        value = self.storage.get(INDEX_FILE)
        if value is None:
            raise self._missing()
        table = index.from_parquet(value, str(self.storage), columns)
        if names:
            ids, rows = self._rows(names)
            table = index.replace_rows(table, ids, rows.select(table.column_names))
        return index.search(table, query)

    def rebuild(self) -> Rebuilt:
        """Rebuild the index from the items' files; each item is checked.

        Raises
        ------
        UsageError : there is no catalog.
        StoreError, OSError : the place cannot be read or written.
        """
        from spectile.catalog.stac import index

        if self.storage.get(COLLECTION_FILE) is None:
            raise self._missing()
        while True:
            there = self.storage.read(INDEX_FILE)
            names = list(self.storage.keys(_PENDING))
            table, problems = self._all_rows()
            value = index.to_parquet(table)
            try:
                if there is None:
                    self.storage.put_new(INDEX_FILE, value)
                elif there[0] != value:
                    self.storage.put_if(INDEX_FILE, value, there[1])
            except (Exists, Changed):
                continue
            self._drop(names)
            self.storage.put(COLLECTION_FILE, _json(_with_extent(table)))
            return Rebuilt(table.num_rows, tuple(problems))

    def _fold(self) -> None:
        """Update the index, unless another process is doing so."""
        from spectile.catalog.stac import index

        names = list(self.storage.keys(_PENDING))
        stored = self.storage.read(INDEX_FILE)
        if stored is None:
            raise self._missing()
        value, version = stored
        ids, rows = self._rows(names)
        table = index.replace_rows(index.from_parquet(value, str(self.storage)), ids, rows)
        try:
            self.storage.put_if(INDEX_FILE, index.to_parquet(table), version)
        except Changed:
            return
        self._drop(names)

    def _fold_if_allowed(self) -> None:
        try:
            self._fold()
        except (StoreError, OSError):
            return  # without permission to write, the list of pending items just stays longer

    def _drop(self, names: Sequence[str]) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self.storage.delete, names))

    def _missing(self) -> UsageError:
        return UsageError(
            "no catalog here", where=str(self.storage),
            remedy="check the place; spectile catalog add makes one",
        )  # fmt: skip

    def _rows(self, names: Sequence[str]) -> tuple[list[str], pa.Table]:
        """The ids of pending items, and the current rows of these items.

        Items that cannot be used are left out with a warning.
        """
        ids = sorted({name.rpartition("/")[2].rpartition(".")[0] for name in names})
        rows, problems = self._rows_at(list(map(item_key, ids)))
        for problem in problems:
            LOG.warning("left out: %s", problem)
        return ids, rows

    def _all_rows(self) -> tuple[pa.Table, list[str]]:
        """The rows of all items, and a line for each item that cannot be used."""
        keys = (key for key in self.storage.walk() if key.startswith("items/") and key.endswith(".json"))
        return self._rows_at(sorted(keys))

    def _rows_at(self, keys: Sequence[str]) -> tuple[pa.Table, list[str]]:
        from spectile.catalog.stac import index

        parsing = threading.Lock()  # a parsed item takes many times the memory of its text

        def row_at(key: str) -> dict[str, Any] | str | None:
            # Parse in the thread too, so that at most one item per thread is in memory.
            try:
                value = self.storage.get_bounded(key, MOST_BYTES)
                with parsing:
                    return None if value is None else index.to_row(self._checked(key, value), key)
            except (UsageError, OSError) as err:
                return one_line(err)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            results = list(pool.map(row_at, keys))
        rows = index.rows_to_table([row for row in results if isinstance(row, dict)])
        return rows, [problem for problem in results if isinstance(problem, str)]


def open_collection(place: str | None) -> Collection | None:
    """The catalog at a place, or at the place in the environment; None if neither is given.

    Raises
    ------
    UsageError : the place cannot hold a catalog.
    """
    named = place or os.environ.get(ENVIRONMENT)
    return Collection(open_storage(named)) if named else None


def write_beside(storage: Storage, facts: Facts) -> str:
    """Write the item of a cube beside it, as ``NAME.stac.json``; returns its place.

    Raises
    ------
    UsageError : the item is not valid.
    StoreError, OSError : the place cannot be written.
    """
    key, href = beside_name(storage.name), f"./{storage.name}"
    placed = Placed(item_id(_stem(href), href), "./", collected=False)
    write_item(storage.parent, key, facts, placed)
    return storage.parent.at(key)


def beside_name(name: str) -> str:
    """The name of the item beside the cube of this name."""
    return f"{stem(name)}.stac.json"


def write_item(storage: Storage, key: str, facts: Facts, placed: Placed) -> None:
    """Check and write an item. It replaces an older one and keeps its time of creation."""
    while True:
        now = datetime.now(UTC)
        there, created = _created(storage, key)
        item = build_item(facts, placed, created=created or now, updated=now)
        check_stac(item, key)
        if there:
            storage.put(key, _json(item))
            return
        try:
            storage.put_new(key, _json(item))
            return
        except Exists:
            continue


def _created(storage: Storage, key: str) -> tuple[bool, datetime | None]:
    """Whether an item exists, and its time of creation; None if that cannot be read."""
    try:
        value = storage.get_bounded(key, MOST_BYTES)
        if value is None:
            return False, None
        return True, datetime.fromisoformat(parse_json(value, key)["properties"]["created"])
    except (UsageError, ValueError, KeyError, TypeError):
        return True, None


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _stem(href: str) -> str:
    return stem(unquote(href.rpartition("/")[2]))


def _href(cube: str, catalog: Storage) -> str:
    """The href of a cube in an item, which lies two folders below the catalog's root."""
    place, root = locate(cube), locate(str(catalog))
    if isinstance(place, Location):
        if isinstance(root, Location) and (place.scheme, place.host) == (root.scheme, root.host):
            return _relative(place.key.split("/"), root.key.split("/"))
        return f"{place.scheme}://{place.host}/{quote(place.key)}"
    target = place.resolve()
    if isinstance(root, Path):
        folder = root.resolve()
        # Below the file system's root every relative path would reveal the absolute one.
        if folder.parent != folder.parent.parent and target.is_relative_to(folder.parent):
            return _relative(target.parts, folder.parts)
    if place.is_absolute() or is_url(cube):
        return place.absolute().as_uri()
    raise UsageError(
        "the catalog would have to record the cube's full path", where=cube,
        expected=f"a cube below the folder that holds the catalog {catalog}",
        remedy="give the cube's full path if that may be recorded",
    )  # fmt: skip


def _relative(target: Sequence[str], root: Sequence[str]) -> str:
    shared = 0
    while shared < min(len(target), len(root)) and target[shared] == root[shared]:
        shared += 1
    up = [".."] * (len(root) - shared + 2)
    return "/".join([*up, *map(quote, target[shared:])])


def _joined(base: str, href: str) -> str:
    scheme, _, path = base.partition("://")
    parts = path.split("/")
    for part in href.split("/"):
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return f"{scheme}://{'/'.join(parts)}"


def _with_extent(table: pa.Table) -> dict[str, Any]:
    import pyarrow.compute as pc

    collection = build_collection()
    if table.num_rows:
        sides = [pc.struct_field(table["bbox"], side) for side in ("xmin", "ymin", "xmax", "ymax")]
        turning = pc.any(pc.greater(sides[0], sides[2])).as_py()
        west, east = (-180.0, 180.0) if turning else (pc.min(sides[0]).as_py(), pc.max(sides[2]).as_py())
        south, north = pc.min(sides[1]).as_py(), pc.max(sides[3]).as_py()
        if west is not None:  # no box if no item lies on the globe
            collection["extent"]["spatial"]["bbox"] = [[west, south, east, north]]
        start = pc.min(pc.coalesce(table["datetime"], table["start_datetime"])).as_py()
        end = pc.max(pc.coalesce(table["datetime"], table["end_datetime"])).as_py()
        collection["extent"]["temporal"]["interval"] = [[to_text(start), to_text(end)]]
    return collection
