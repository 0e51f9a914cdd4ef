"""The scenes in an inbox: rasters and Sentinel-2 products of a folder, or items that a document names."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from spectile.catalog.errors import SpectileError, UsageError
from spectile.catalog.stac.documents import one_line
from spectile.catalog.stac.scenes import RASTERS
from spectile.catalog.urls import Location, locate
from spectile.pipeline.files.addresses import resolve
from spectile.pipeline.files.opening import check_listed
from spectile.pipeline.files.remote import ask
from spectile.pipeline.scene.parts import item_parts
from spectile.pipeline.scene.safe import is_safe
from spectile.pipeline.stac.crawl import crawl, elsewhere


@dataclass(frozen=True)
class Arrival:
    """A scene in an inbox, or an entry that cannot be used, with its problem."""

    name: str
    """The name of its cube: the path in the folder without the suffix, or the item's collection and id."""
    place: str = ""
    """Path or URL; do not show signed URLs."""
    listed: bool = False
    """Whether a catalogue named it that lies on another server."""
    in_document: bool = False
    """Whether a STAC document named it: then it must be GeoTIFF or JPEG 2000."""
    problem: str | None = None
    """Why it cannot be processed, in one line."""
    state: tuple[str | int, ...] | None = None
    """A value that changes when the scene changes: size and time, or ETag and size; None if unknown."""


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
        listed = [Arrival(_name(path, place), str(path)) for path in _rasters(place)]
    elif isinstance(place, Path) and place.suffix.lower() not in (".json", ".geojson"):
        raise UsageError(
            "no such inbox", where=str(place), expected="a folder, or a STAC document (.json) or its URL"
        )
    else:
        met = crawl(place, follow=True, allow_private=allow_private)
        arrivals = (
            Arrival(each.name, each.place, elsewhere(locate(each.place), place), True, each.problem)
            for each in met
        )
        listed = list(dict.fromkeys(arrivals))  # a page of an API may repeat what a link has shown
    many = Counter(arrival.name for arrival in listed)
    return [
        arrival
        if many[arrival.name] == 1
        else replace(
            arrival, problem=f"{many[arrival.name]} scenes would be the cube {arrival.name}; rename them"
        )
        for arrival in listed
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
        if arrival.in_document:
            return replace(arrival, state=_state_of_listed(place))
        if place.is_dir() and is_safe(place):
            return replace(arrival, state=_state_of(place))
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
        products = [name for name in folders if name.upper().endswith(".SAFE")]
        # Not looked into: a product that is being copied has bands, and no metadata yet.
        folders[:] = [name for name in folders if name not in products]
        yield from (Path(here, name) for name in products if is_safe(Path(here, name)))
        for name in sorted(files):
            if name.lower().endswith(RASTERS) and not name.startswith("."):
                yield Path(here, name)


def _state_of(product: Path) -> tuple[int, ...]:
    """The number, bytes and last change of the files of a product."""
    facts = [
        os.stat(os.path.join(here, name)) for here, _, files in os.walk(product) for name in sorted(files)
    ]
    return len(facts), sum(each.st_size for each in facts), max(each.st_mtime_ns for each in facts)


def _state_of_listed(place: Path) -> tuple[int, ...] | None:
    """Bytes and last change of a raster, or of an item and the files of its bands; None if some are URLs.

    Raises
    ------
    SpectileError : a file has a format that a document may not name.
    """
    files: list[Path | Location] = [place]
    if place.suffix.lower() in (".json", ".geojson"):
        found = item_parts(place, str(place))
        parts = [found] if isinstance(found, str) else [part.place for part in found.parts]
        files = [locate(each) for each in dict.fromkeys(parts)]
    local = [each for each in files if isinstance(each, Path)]
    for each in local:
        check_listed(each)
    if len(local) < len(files):
        return None
    facts = [each.stat() for each in dict.fromkeys([place, *local])]
    return tuple(number for each in facts for number in (each.st_size, each.st_mtime_ns))


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()
