"""A run's STAC item: always beside the cube, and in the catalog if one is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spectile.catalog.errors import StoreError, UsageError
from spectile.catalog.times import Span, join, parse_span, taken
from spectile.pipeline.line.source import LineSource
from spectile.pipeline.pair.source import Pair
from spectile.pipeline.stac.collection import open_collection, write_beside
from spectile.pipeline.stac.item import cube_facts

if TYPE_CHECKING:
    from spectile.flows.run.settings import Settings
    from spectile.pipeline.pair.stored import StoredScene
    from spectile.pipeline.scene.source import Scene
    from spectile.pipeline.store.base import Storage


def check_catalog(settings: Settings) -> None:
    """Check catalog and time before the run.

    Raises
    ------
    UsageError : the catalog cannot name the cube, or the time is none.
    """
    if settings.datetime is not None:
        parse_span(settings.datetime)
    collection = open_collection(settings.catalog)
    if collection is not None:
        collection.place(settings.out)


def taken_of(settings: Settings, source: Scene | LineSource | Pair) -> Span | None:
    """When the scene, or all of a line or pair, were taken: as the user says, else by their own metadata."""
    if settings.datetime is not None:
        return parse_span(settings.datetime)
    scenes: list[Scene | StoredScene]
    if isinstance(source, Pair):
        scenes = [source.hsi, source.msi]
    else:
        scenes = [each.source for each in source.members] if isinstance(source, LineSource) else [source]
    return join([taken(scene.tags()) for scene in scenes])


def register(settings: Settings, cube: Storage) -> str:
    """Write the item of a cube beside it and into the catalog; the place of the one beside it.

    Raises
    ------
    StoreError : it cannot be written; the cube itself is not touched.
    """
    try:
        facts = cube_facts(cube)
        place = write_beside(cube, facts)
        collection = open_collection(settings.catalog)
        if collection is not None:
            collection.add(settings.out, facts)
    except (OSError, StoreError, UsageError) as err:
        raise StoreError(
            "the blocks are written, but the cube's STAC item is not", where=str(cube),
            got=getattr(err, "strerror", None) or str(err), remedy="run spectile catalog add later",
        ) from err  # fmt: skip
    return place
