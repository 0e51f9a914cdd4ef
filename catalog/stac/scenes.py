"""Which file a STAC item means by its scene, when it was taken, and where an href may lead."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def item_span(item: Mapping[str, Any]) -> str | None:
    """The acquisition time of a STAC item, a time or START/END; None if it has none."""
    properties = item.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    names = ("datetime",) if properties.get("datetime") else ("start_datetime", "end_datetime")
    times = [properties[name] for name in names if isinstance(properties.get(name), str)]
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
    rasters = {key: asset["href"] for key, asset in assets.items() if is_raster(asset)}
    if len(rasters) == 1:
        return str(next(iter(rasters.values())))
    if "visual" in rasters:
        return str(rasters["visual"])
    raise UsageError(
        "which asset is the RGB scene is unclear", where=where, got=", ".join(assets)[:200] or "no assets",
        expected="one GeoTIFF, or one that is called visual",
    )  # fmt: skip


def is_raster(asset: Any) -> bool:
    """Whether an asset of a STAC item is a raster with data."""
    return (
        isinstance(asset, dict)
        and isinstance(asset.get("href"), str)
        and (str(asset.get("type", "")).startswith("image/tiff") or asset["href"].lower().endswith(RASTERS))
        and not any(role in ("thumbnail", "overview") for role in _roles(asset))
    )


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
