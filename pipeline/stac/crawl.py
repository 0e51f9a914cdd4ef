"""The items that a STAC document leads to. Strangers write such documents: what is read of them is bounded.

They are walked as JSON, not by pystac: it follows links by itself, and each must be checked before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import obstore

from spectile.catalog.errors import SpectileError, UsageError
from spectile.catalog.stac.documents import is_plain, one_line, parse_json
from spectile.catalog.stac.scenes import checked_href, scene_asset
from spectile.catalog.urls import Location, locate
from spectile.pipeline.files.addresses import resolve
from spectile.pipeline.scene.parts import single_bands
from spectile.pipeline.store.base import read_bounded
from spectile.pipeline.store.objects import bounded, connect, told

MOST_DOCUMENTS = 20_000
"""STAC documents that are read at most; a catalogue that grows while it is read never ends."""
MOST_BYTES = 64_000_000
"""Size of the largest STAC document that is read."""
LONGEST_NAME = 150
"""Bytes of an item's id, and of its collection's: with what is added to them they name files."""

_LINKS = ("child", "item", "items", "next")


@dataclass(frozen=True)
class Met:
    """An item that a document leads to, or what is in the place of one."""

    name: str
    """Its collection and id, as a path that leads nowhere else."""
    place: str = ""
    """Path or URL of its scene."""
    item: Mapping[str, Any] = field(default_factory=dict)
    """The item itself."""
    problem: str | None = None
    """Why it cannot be used, in a line."""


def crawl(root: Path | Location, *, follow: bool, allow_private: bool = False) -> Iterator[Met]:
    """The items that a document holds, with what cannot be used on the way.

    Parameters
    ----------
    root : a STAC catalogue, collection, item or item collection, which the user named.
    follow : whether its links are followed to other documents.
    allow_private : as of ``resolve``, of what its links lead to.

    Raises
    ------
    SpectileError : the document cannot be read, or there are too many.
    """
    todo: list[Path | Location] = [root]
    known = {_address(root)}
    for document in todo:  # grows while it is walked
        try:
            at = document
            if isinstance(document, Location):
                at = resolve(document, listed=elsewhere(document, root), allow_private=allow_private)
            content = _document(at)
        except SpectileError as err:
            if document is root:
                raise
            yield Met(_plain(document.name), problem=one_line(err))
            continue
        for item in [content] if content["type"] == "Feature" else content["features"]:
            yield _met(item, document, root, alone=content["type"] == "Feature")
        for link in content["links"] if follow else ():
            if link.get("rel") not in _LINKS or link.get("method", "GET") != "GET":
                continue
            try:
                place = locate(checked_href(str(link.get("href")), document, root, str(document)))
            except UsageError as err:
                yield Met(_plain(str(link.get("href"))[-60:]), problem=one_line(err))
                continue
            if _address(place) not in known:
                known.add(_address(place))
                todo.append(place)
        if len(todo) > MOST_DOCUMENTS:
            raise UsageError(
                "the catalogue is too large", where=str(root), expected=f"up to {MOST_DOCUMENTS} documents",
                remedy="watch its parts one by one",
            )  # fmt: skip


def elsewhere(place: Path | Location, root: Path | Location) -> bool:
    """Whether a place lies on another server than the document that the user named."""
    return isinstance(place, Location) and not (isinstance(root, Location) and place.host == root.host)


def _address(place: Path | Location) -> str:
    return str(place.resolve()) if isinstance(place, Path) else place.url


def _met(item: Mapping[str, Any], document: Path | Location, root: Path | Location, *, alone: bool) -> Met:
    parts = [item[key] for key in ("collection", "id") if item.get(key)]
    name = "/".join(_plain(str(part)) for part in parts)
    where = f"{document} item {str(item.get('id'))[:80]}"
    kinds = item.get("type") == "Feature", isinstance(item.get("assets"), dict), bool(item.get("id"))
    if not all(kinds) or not is_plain(item):
        return Met(name or _plain(document.name), problem=one_line(f"{where}: not a STAC item"))
    if not all(isinstance(part, str) and len(part.encode()) <= LONGEST_NAME for part in parts):
        return Met(name, problem=one_line(f"{where}: its id is no text of up to {LONGEST_NAME} bytes"))
    try:
        return Met(name, checked_href(scene_asset(item["assets"], where), document, root, where), item)
    except UsageError as err:
        # A scene of several files is known by its item.
        if isinstance(document, Path) and alone and single_bands(item["assets"]):
            return Met(name, str(document.resolve()), item)
        return Met(name, problem=one_line(err))


def _plain(text: str) -> str:
    """The text as a part of a path that leads nowhere else."""
    return re.sub(r"[^\w.-]+", "-", text[:LONGEST_NAME]).strip(".-") or "unnamed"


def _document(place: Path | Location) -> dict[str, Any]:
    """A STAC document, with lists of objects where they must be.

    Raises
    ------
    SpectileError : it cannot be read, or is none.
    """
    try:
        # Not strict: one item with NaN must not keep the others of its page away.
        parsed = parse_json(_bytes(place), str(place), strict=False)
    except FileNotFoundError as err:
        raise UsageError("no such file", where=str(place)) from err
    except OSError as err:
        raise UsageError("cannot be read", where=str(place), got=err.strerror or str(err)) from err
    parsed = parsed if isinstance(parsed, dict) else {}
    collected = parsed.get("type") == "FeatureCollection"
    complete = {"links": [], **({} if collected else {"features": []}), **parsed}
    lists = [complete["links"], complete.get("features")]
    if parsed.get("type") not in ("Catalog", "Collection", "Feature", "FeatureCollection") or not all(
        isinstance(each, list) and all(isinstance(one, dict) for one in each) for each in lists
    ):
        raise UsageError(
            "not a STAC item or document", where=str(place),
            expected="a Catalog, a Collection, an item (Feature) or a FeatureCollection of items",
        )  # fmt: skip
    return complete


def _bytes(place: Path | Location) -> bytes:
    if isinstance(place, Path):
        return read_bounded(place, MOST_BYTES)
    with told(str(place), UsageError):
        key = "" if place.scheme.startswith("http") else place.key
        return bounded(obstore.get(connect(place), key), str(place), MOST_BYTES)
