"""The scenes of a flight line: files, folders of files, or a STAC item collection."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectile.catalog.documents import parse_json
from spectile.catalog.errors import UsageError
from spectile.catalog.urls import Location, is_url, locate

RASTERS = (".tif", ".tiff", ".jp2", ".img")
"""Endings of the files in a folder that count as scenes."""


@dataclass(frozen=True)
class NamedScene:
    """A raster and its name in the line."""

    name: str
    """The file's name, or the id of its STAC item."""
    place: str
    """Path or URL."""
    taken: str | None = None
    """Acquisition time from its STAC item."""
    listed: bool = False
    """True if a collection named it; False if the user did."""


def list_scenes(given: Sequence[str], *, last: Sequence[str] = ()) -> list[NamedScene]:
    """The scenes, in order: those of a folder by name, those of a collection in its order.

    Parameters
    ----------
    given : rasters, folders of rasters and local STAC item collections (``.json``, ``.geojson``).
    last : the same kinds of places; their scenes come last, also if ``given`` names them too.

    Raises
    ------
    UsageError : a place is missing or empty, two scenes have one name, or an href is not allowed.
    """
    late = [scene for each in last for scene in _scenes_of(each)]
    places = {_place(scene) for scene in late}
    early = [scene for each in given for scene in _scenes_of(each) if _place(scene) not in places]
    found = early + late
    if not found:
        raise UsageError(
            "no scenes", got=", ".join(given) or None, expected="RGB rasters, or a folder of them"
        )
    if twice := [name for name, count in Counter(scene.name for scene in found).items() if count > 1]:
        raise UsageError(
            f"two scenes are called {twice[0]}", remedy="rename one; a cube knows its scenes by their names"
        )
    return found


def _place(scene: NamedScene) -> str:
    return scene.place if is_url(scene.place) else os.path.realpath(scene.place)


def _scenes_of(given: str) -> Iterator[NamedScene]:
    place = locate(given)
    if isinstance(place, Location):
        yield NamedScene(place.name, place.url)
    elif place.is_dir():
        for path in sorted(place.iterdir()):
            if path.suffix.lower() in RASTERS and path.is_file():
                yield NamedScene(path.name, str(path))
    elif place.suffix.lower() in (".json", ".geojson"):
        yield from _collected(place)
    else:
        yield NamedScene(place.name, str(place))


def _collected(path: Path) -> Iterator[NamedScene]:
    try:
        said = parse_json(path.read_bytes(), str(path), strict=False)
    except FileNotFoundError as err:
        raise UsageError("no such file", where=str(path)) from err
    except OSError as err:
        raise UsageError("not a STAC item collection", where=str(path), got=str(err)) from err
    items = said.get("features") if isinstance(said, dict) else None
    if not isinstance(items, list) or said.get("type") != "FeatureCollection":
        raise UsageError(
            "not a STAC item collection", where=str(path), expected="a FeatureCollection of STAC items"
        )
    for item in items:
        try:
            name, assets = str(item["id"]), dict(item["assets"])
        except (KeyError, TypeError, ValueError) as err:
            raise UsageError("not a STAC item", where=str(path), got=str(item)[:60]) from err
        where = f"{path} item {name}"
        place = checked_href(scene_asset(assets, where), path, path, where)
        yield NamedScene(name, place, item_span(item), listed=True)


def item_span(item: Mapping[str, Any]) -> str | None:
    """The acquisition time of a STAC item, a time or START/END; None if it has none."""
    said = item.get("properties")
    said = said if isinstance(said, dict) else {}
    names = ("datetime",) if said.get("datetime") else ("start_datetime", "end_datetime")
    times = [said[name] for name in names if isinstance(said.get(name), str)]
    return "/".join(times) if len(times) == len(names) else None


def scene_asset(assets: Mapping[str, Any], where: str) -> str:
    """The href of the RGB asset: the only GeoTIFF that is data, or ``visual``.

    Parameters
    ----------
    assets : of a STAC item.
    where : the item's name, for errors.

    Raises
    ------
    UsageError : no asset or several assets qualify.
    """
    rasters = {
        key: asset["href"]
        for key, asset in assets.items()
        if isinstance(asset, dict)
        and isinstance(asset.get("href"), str)
        and (str(asset.get("type", "")).startswith("image/tiff") or asset["href"].lower().endswith(RASTERS))
        and not any(role in ("thumbnail", "overview") for role in _roles(asset))
    }
    if len(rasters) == 1:
        return str(next(iter(rasters.values())))
    if "visual" in rasters:
        return str(rasters["visual"])
    raise UsageError(
        "which asset is the RGB scene is unclear", where=where, got=", ".join(assets)[:200] or "no assets",
        expected="one GeoTIFF, or one that is called visual",
    )  # fmt: skip


def _roles(asset: Mapping[str, Any]) -> Sequence[Any]:
    roles = asset.get("roles")
    return roles if isinstance(roles, list) else ()


def checked_href(href: str, document: Path | Location, root: Path | Location, where: str) -> str:
    """The path or URL of an href in a STAC document, if it is allowed.

    Parameters
    ----------
    document : the document with the href; relative hrefs start there.
    root : the document that the user named. If it is local, paths must lie in its folder after links are
        followed. If it is a URL, only URLs are allowed, and not of servers on this machine.
    where : the item's name, for errors.

    Raises
    ------
    UsageError : the href is not allowed.
    """
    if isinstance(document, Location) and not is_url(href):
        path, mark, query = href.partition("?")
        key = posixpath.normpath(posixpath.join("/", posixpath.dirname(document.key), path))
        href = f"{document.scheme}://{document.host}{key}{mark}{query}"
    if is_url(href):
        place = locate(href)
    else:
        assert isinstance(document, Path)
        place = document.parent / href
    if isinstance(place, Location):
        if isinstance(root, Location) and place.is_here and not root.is_here:
            raise UsageError("a remote catalogue refers to this machine", where=where, got=str(place))
        return place.url
    if isinstance(root, Location):
        raise UsageError("a remote catalogue refers to a local file", where=where, got=href)
    try:
        path_here = Path(os.path.realpath(place))
    except (ValueError, OSError, RuntimeError) as err:  # not the text of a path, or links in a circle
        raise UsageError("not a path", where=where, got=href[:80]) from err
    if not path_here.is_relative_to(os.path.realpath(root.parent)):
        raise UsageError(
            "the asset lies outside the collection's folder", where=where, got=href,
            expected="a path inside it, or s3://, gs:// or https://",
        )  # fmt: skip
    return str(path_here)
