from __future__ import annotations

import json
from pathlib import Path

import pytest

from spectile.catalog.errors import UsageError
from spectile.catalog.stac.scenes import NamedScene
from spectile.pipeline.stac.scenes import list_scenes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.tif", "a.tif", "notes.txt"):
        (tmp_path / name).touch()
    return tmp_path


def test_those_that_come_last_are_taken_out_of_the_others(folder: Path) -> None:
    found = list_scenes([str(folder), "https://host/c.tif"], last=[f"{folder}/./a.tif"])
    assert [scene.name for scene in found] == ["b.tif", "c.tif", "a.tif"]


def test_an_items_scene_has_its_id_and_time_and_was_named_by_the_collection(folder: Path) -> None:
    item = {
        "type": "Feature", "id": "first", "assets": {"image": {"href": "a.tif"}},
        "properties": {"datetime": "2024-06-01T10:00:00Z"},
    }  # fmt: skip
    page = {"type": "FeatureCollection", "features": [item], "links": [{"rel": "next", "href": "gone.json"}]}
    (folder / "line.json").write_text(json.dumps(page))
    place = str(folder / "a.tif")
    assert list_scenes([f"{folder}/line.json"]) == [
        NamedScene("first", place, "2024-06-01T10:00:00Z", listed=True)
    ]


def test_a_bad_item_ends_a_line_before_it_begins(folder: Path) -> None:
    page = {"type": "FeatureCollection", "features": [{"type": "Feature", "id": "a", "assets": {}}]}
    (folder / "line.json").write_text(json.dumps(page))
    with pytest.raises(UsageError, match="which asset"):
        list_scenes([f"{folder}/line.json"])
