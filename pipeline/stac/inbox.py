"""The scenes in an inbox: rasters of a folder, or items reached from a STAC document."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import obstore

from spectile.catalog.documents import is_plain, one_line, parse_json
from spectile.catalog.errors import SpectileError, UsageError
from spectile.catalog.scenes import RASTERS, checked_href, scene_asset
from spectile.catalog.urls import Location, locate
from spectile.pipeline.scene.addresses import resolve
from spectile.pipeline.scene.remote import ask
from spectile.pipeline.store.base import read_bounded
from spectile.pipeline.store.objects import bounded, connect, told

MOST_DOCUMENTS = 20_000
"""Most STAC documents that one sweep reads, because a catalogue can be endless."""
MOST_BYTES = 64_000_000
"""Bytes of the largest STAC document that is read."""

LONGEST_NAME = 150
"""Most bytes of an item's id and of its collection's id, which become parts of file names."""

_LINKS = ("child", "item", "items", "next")


@dataclass(frozen=True)
class Arrival:
    """A scene in an inbox, or an entry that cannot be used, with its problem."""

    name: str
    """The name of its cube: the path in the folder without the suffix, or the item's collection and id."""
    place: str = ""
    """Path or URL; do not show signed URLs."""
    state: tuple[str | int, ...] | None = None
    """A value that changes when the scene changes: size and time, or ETag and size; None if unknown."""
    listed: bool = False
    """Whether a catalogue named it that lies on another server."""
    problem: str | None = None
    """Why it cannot be processed, in one line."""


def list_arrivals(inbox: str, *, allow_private: bool = False) -> list[Arrival]:
    """The scenes of an inbox, in order of their paths or as the catalogue lists them.

    Hidden files and folders are left out. Scenes that would have the same cube, and items that cannot be
    used, are returned with their problem.

    Parameters
    ----------
    inbox : a folder, or a STAC catalogue, collection, item or item collection: JSON, a path or a URL.
    allow_private : as in ``resolve``, for the targets of its links.

    Raises
    ------
    SpectileError : the folder or document does not exist.
    OSError : a folder cannot be listed.
    """
    place = locate(inbox)
    if isinstance(place, Path) and place.is_dir():
        found = [Arrival(_name(path, place), str(path)) for path in _rasters(place)]
    elif isinstance(place, Path) and place.suffix.lower() not in (".json", ".geojson"):
        raise UsageError(
            "no such inbox", where=str(place), expected="a folder, or a STAC document (.json) or its URL"
        )
    else:
        found = list(
            dict.fromkeys(_items(place, allow_private=allow_private))
        )  # a page of an API may repeat an item that a link has led to
    many = Counter(each.name for each in found)
    return [
        each
        if many[each.name] == 1
        else replace(each, problem=f"{many[each.name]} scenes would be the cube {each.name}; rename them")
        for each in found
    ]


def look(arrival: Arrival, *, allow_private: bool = False) -> Arrival:
    """The arrival with its current state, or with a problem if its state cannot be read.

    Parameters
    ----------
    allow_private : as in ``resolve``.
    """
    if arrival.problem:
        return arrival
    try:
        place = locate(arrival.place)
        if isinstance(place, Location):
            there = ask(resolve(place, listed=arrival.listed, allow_private=allow_private))
            return replace(arrival, state=(there.etag, there.size) if there.etag else None)
        facts = place.stat()
        if not stat.S_ISREG(facts.st_mode):  # opening a pipe would wait for its writer
            return replace(arrival, problem=f"{arrival.place}: not a file")
        return replace(arrival, state=(facts.st_size, facts.st_mtime_ns))
    except SpectileError as err:
        return replace(arrival, problem=one_line(err))
    except OSError as err:
        return replace(arrival, problem=one_line(f"{arrival.place}: {err.strerror or err}"))


def _rasters(folder: Path) -> Iterator[Path]:
    def refuse(err: OSError) -> None:
        raise err

    for here, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not name.endswith(".zarr")
        )
        for name in sorted(files):
            if name.lower().endswith(RASTERS) and not name.startswith("."):
                yield Path(here, name)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _items(root: Path | Location, *, allow_private: bool) -> Iterator[Arrival]:
    """The items reached from a document; documents that cannot be read become arrivals with problems."""
    todo: list[Path | Location] = [root]
    met = {_address(root)}
    for document in todo:  # grows while it is processed
        try:
            if isinstance(document, Location):
                at = resolve(document, listed=_elsewhere(document, root), allow_private=allow_private)
                said = _document(at)
            else:
                said = _document(document)
        except SpectileError as err:
            if document is root:
                raise
            yield Arrival(_plain(document.name), problem=one_line(err))
            continue
        for item in said["features"] if said.get("type") == "FeatureCollection" else [said]:
            if item.get("type") == "Feature":
                yield _arrival(item, document, root)
        for link in said.get("links", ()):
            if link.get("rel") not in _LINKS or link.get("method", "GET") != "GET":
                continue
            try:
                place = locate(checked_href(str(link.get("href")), document, root, str(document)))
            except UsageError as err:
                yield Arrival(_plain(str(link.get("href"))[-60:]), problem=one_line(err))
                continue
            if _address(place) not in met:
                met.add(_address(place))
                todo.append(place)
        if len(todo) > MOST_DOCUMENTS:
            raise UsageError(
                "the catalogue is too large", where=str(root), expected=f"up to {MOST_DOCUMENTS} documents",
                remedy="watch its parts one by one",
            )  # fmt: skip


def _address(place: Path | Location) -> str:
    return str(place.resolve()) if isinstance(place, Path) else place.url


def _arrival(item: Mapping[str, Any], document: Path | Location, root: Path | Location) -> Arrival:
    said = [item[key] for key in ("collection", "id") if item.get(key)]
    name = "/".join(_plain(str(part)) for part in said)
    where = f"{document} item {str(item.get('id'))[:80]}"
    if not item.get("id") or not isinstance(item.get("assets"), dict) or not is_plain(item):
        return Arrival(name or _plain(document.name), problem=one_line(f"{where}: not a STAC item"))
    if not all(isinstance(part, str) and len(part.encode()) <= LONGEST_NAME for part in said):
        return Arrival(name, problem=one_line(f"{where}: its id is no text of up to {LONGEST_NAME} bytes"))
    try:
        place = checked_href(scene_asset(item["assets"], where), document, root, where)
        return Arrival(name, place, listed=_elsewhere(locate(place), root))
    except UsageError as err:
        return Arrival(name, problem=one_line(err))


def _elsewhere(place: Path | Location, root: Path | Location) -> bool:
    """Whether a place is not on the server of the document that the user named."""
    return isinstance(place, Location) and not (isinstance(root, Location) and place.host == root.host)


def _plain(text: str) -> str:
    """The text as one safe component of a path."""
    return re.sub(r"[^\w.-]+", "-", text[:LONGEST_NAME]).strip(".-") or "unnamed"


def _document(place: Path | Location) -> dict[str, Any]:
    """A STAC document; links and features are checked to be lists of objects.

    Raises
    ------
    SpectileError : it cannot be read, or is not a STAC document.
    """
    try:
        # Not strict: one item with NaN must not make the other items of its page unusable.
        said = parse_json(_bytes(place), str(place), strict=False)
    except OSError as err:
        raise UsageError("cannot be read", where=str(place), got=err.strerror or str(err)) from err
    lists = [said.get("links", []), said.get("features", [])] if isinstance(said, dict) else [None]
    if not all(isinstance(each, list) and all(isinstance(one, dict) for one in each) for each in lists) or (
        said.get("type") not in ("Catalog", "Collection", "Feature", "FeatureCollection")
    ):
        raise UsageError(
            "not a STAC document", where=str(place),
            expected="a Catalog, a Collection, an item (Feature) or a FeatureCollection of items",
        )  # fmt: skip
    return {"features": [], **said}


def _bytes(place: Path | Location) -> bytes:
    if isinstance(place, Path):
        return read_bounded(place, MOST_BYTES)
    with told(str(place), UsageError):
        key = "" if place.scheme.startswith("http") else place.key
        return bounded(obstore.get(connect(place), key), str(place), MOST_BYTES)
