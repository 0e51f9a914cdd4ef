"""Which scenes a flight line is made of: named one by one, a folder of them, or a STAC item collection."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence

from spectile.catalog.errors import UsageError
from spectile.catalog.stac.scenes import RASTERS, NamedScene, item_span
from spectile.catalog.urls import Location, is_url, locate
from spectile.pipeline.scene.safe import is_safe
from spectile.pipeline.stac.crawl import crawl


def list_scenes(given: Sequence[str], *, last: Sequence[str] = ()) -> list[NamedScene]:
    """The scenes that are meant, in order: a folder's by name, a collection's as it lists them.

    Parameters
    ----------
    given : rasters, Sentinel-2 folders, folders of both, and local STAC item collections (``.json``,
        ``.geojson``).
    last : the same, to come after all others; also those that ``given`` holds already.

    Raises
    ------
    UsageError : nothing is there, two scenes have one name, or a collection leads where it must not.
    """
    late = [scene for each in last for scene in _scenes_of(each)]
    places = {_place(scene) for scene in late}
    early = [scene for each in given for scene in _scenes_of(each) if _place(scene) not in places]
    scenes = early + late
    if not scenes:
        raise UsageError("no scenes", got=", ".join(given) or None, expected="rasters, or a folder of them")
    if twice := [name for name, count in Counter(scene.name for scene in scenes).items() if count > 1]:
        raise UsageError(
            f"two scenes are called {twice[0]}", remedy="rename one; a cube knows its scenes by their names"
        )
    return scenes


def _place(scene: NamedScene) -> str:
    return scene.place if is_url(scene.place) else os.path.realpath(scene.place)


def _scenes_of(given: str) -> Iterator[NamedScene]:
    place = locate(given)
    if isinstance(place, Location):
        yield NamedScene(place.name, place.url)
    elif place.is_dir() and is_safe(place):
        yield NamedScene(place.name, str(place))
    elif place.is_dir():
        for path in sorted(place.iterdir()):
            if (path.suffix.lower() in RASTERS and path.is_file()) or (path.is_dir() and is_safe(path)):
                yield NamedScene(path.name, str(path))
    elif place.suffix.lower() in (".json", ".geojson"):
        for met in crawl(place, follow=False):
            if met.problem:
                raise UsageError(met.problem)
            yield NamedScene(str(met.item["id"]), met.place, item_span(met.item), listed=True)
    else:
        yield NamedScene(place.name, str(place))
