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
"""What the files of a folder that are scenes end in."""


@dataclass(frozen=True)
class NamedScene:
    """A raster and what a line calls it."""

    name: str
    """The file's name, or the id of its STAC item."""
    place: str
    """Path or URL."""
    taken: str | None = None
    """When it was taken, by its STAC item."""
    listed: bool = False
    """Whether a collection named it, and not the user."""


def item_span(item: Mapping[str, Any]) -> str | None:
    """When the scene of a STAC item was taken, a time or START/END; None where it does not say."""
    said = item.get("properties")
    said = said if isinstance(said, dict) else {}
    names = ("datetime",) if said.get("datetime") else ("start_datetime", "end_datetime")
    times = [said[name] for name in names if isinstance(said.get(name), str)]
    return "/".join(times) if len(times) == len(names) else None


def scene_asset(assets: Mapping[str, Any], where: str) -> str:
    """The href of the one asset that can be meant: the only GeoTIFF that is data, or ``visual``.

    Parameters
    ----------
    assets : of a STAC item.
    where : what an error names.

    Raises
    ------
    UsageError : it is not plain which.
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
        "which asset is the RGB scene is not plain", where=where, got=", ".join(assets)[:200] or "no assets",
        expected="one GeoTIFF, or one that is called visual",
    )  # fmt: skip


def _roles(asset: Mapping[str, Any]) -> Sequence[Any]:
    roles = asset.get("roles")
    return roles if isinstance(roles, list) else ()


def checked_href(href: str, document: Path | Location, root: Path | Location, where: str) -> str:
    """The path or URL that an href in a STAC document leads to, if it may lead there.

    Parameters
    ----------
    document : where the href was read; relative ones start there.
    root : the document that the user named. A local one keeps paths inside its folder, links followed; one
        from elsewhere leads to URLs only, and not to servers of this machine.
    where : what an error names.

    Raises
    ------
    UsageError : it must not lead there.
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
            raise UsageError("a catalogue from elsewhere leads to this machine", where=where, got=str(place))
        return place.url
    if isinstance(root, Location):
        raise UsageError("a catalogue from elsewhere leads to a file here", where=where, got=href)
    try:
        path_here = Path(os.path.realpath(place))
    except (ValueError, OSError, RuntimeError) as err:  # no text of a path, or links in a circle
        raise UsageError("not a path", where=where, got=href[:80]) from err
    if not path_here.is_relative_to(os.path.realpath(root.parent)):
        raise UsageError(
            "the asset lies outside the collection's folder", where=where, got=href,
            expected="a path inside it, or s3://, gs:// or https://",
        )  # fmt: skip
    return str(path_here)
