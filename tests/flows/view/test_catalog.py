"""The page of a catalog, as models: no browser is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bokeh.document import Document

from spectile.flows.view.catalog import CatalogPage
from spectile.pipeline.stac.collection import Collection
from spectile.pipeline.store.local import LocalStorage
from tests.catalog.items import made_up

POLAR = (10.0, 88.0, 11.0, 89.0)


def page(tmp_path: Path, *names: str) -> tuple[CatalogPage, dict[str, str]]:
    """The page of a catalog of these cubes, and their ids."""
    catalog = Collection(LocalStorage(tmp_path / "stac"))
    facts = {
        "here": made_up("here"),
        "polar": made_up("polar", bbox=POLAR),
        "nowhere": replace(made_up("nowhere"), geometry=None, bbox=None),
    }
    ids = {name: catalog.add(str(tmp_path / f"{name}.zarr"), facts[name]) for name in names}
    return CatalogPage(Document(), catalog), ids


def test_items_that_have_no_place_on_the_map_are_in_the_list(tmp_path: Path) -> None:
    shown, ids = page(tmp_path, "here", "polar", "nowhere")
    assert shown.said == "3 cubes"
    entries = {name: f'href="?id={item_id}"' in shown.list.text for name, item_id in ids.items()}
    assert entries == {"here": True, "polar": True, "nowhere": True}
    assert shown.list.text.count("not on the map") == 2
    assert len(shown.shapes) == 1


def test_a_click_on_a_footprint_opens_its_cube_whatever_has_no_place(tmp_path: Path) -> None:
    shown, ids = page(tmp_path, "nowhere", "here")
    (shape,) = shown.shapes.values()
    shown.tapped(shape.centroid.x, shape.centroid.y)
    assert shown.open.data == {"href": [f"id={ids['here']}"]}


def test_a_catalog_of_cubes_without_a_place_shows_an_empty_map(tmp_path: Path) -> None:
    shown, _ = page(tmp_path, "nowhere")
    shown.tapped(0, 0)
    assert shown.open.data == {"href": [""]}
    assert "nowhere" in shown.list.text
