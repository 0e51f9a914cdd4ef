from __future__ import annotations

import json
from pathlib import Path

import pytest

from spectile.catalog.errors import UsageError
from spectile.pipeline.stac.inbox import Arrival, list_arrivals, look


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.tif", "a.JP2", "day/c.tif", "day/c.img", ".hidden/d.tif", "cube.zarr/e.tif", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"II")
    return tmp_path


def test_a_folder_holds_its_rasters_by_path_and_nothing_hidden(folder: Path) -> None:
    found = {each.name: each.problem for each in list_arrivals(str(folder))}
    assert list(found) == ["a", "b", "day/c"]
    assert found["a"] is found["b"] is None


def test_scenes_that_would_be_one_cube_come_with_that_problem(folder: Path) -> None:
    both = [each for each in list_arrivals(str(folder)) if each.name == "day/c"]
    assert [each.problem for each in both] == ["2 scenes would be the cube day/c; rename them"] * 2


def test_the_state_of_a_scene_is_another_when_it_has_changed(folder: Path) -> None:
    scene = Arrival("b", str(folder / "b.tif"))
    before = look(scene)
    assert look(scene) == before
    (folder / "b.tif").write_bytes(b"II*")
    assert look(scene).state != before.state
    (folder / "b.tif").unlink()
    assert "No such file" in str(look(scene).problem)
    assert look(before).state == before.state


def test_an_item_that_two_pages_show_arrives_once(folder: Path) -> None:
    item = {"type": "Feature", "id": "b", "assets": {"image": {"href": "b.tif"}}}
    page = {"type": "FeatureCollection", "features": [item, item]}
    (folder / "page.json").write_text(json.dumps(page))
    assert list_arrivals(str(folder / "page.json")) == [Arrival("b", str(folder / "b.tif"), in_document=True)]


def test_what_is_neither_a_folder_nor_a_document_is_no_inbox(folder: Path) -> None:
    with pytest.raises(UsageError, match="no such inbox"):
        list_arrivals(str(folder / "notes.txt"))
