"""Documents of a folder; servers and what is hostile are in tests/hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spectile.catalog.errors import UsageError
from spectile.pipeline.stac import crawl as crawling
from spectile.pipeline.stac.crawl import crawl


def item(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "Feature", "id": name, "assets": {"image": {"href": f"{name}.tif"}}, **more}


def write(folder: Path, name: str, document: object) -> Path:
    path = folder / name
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """Two pages of items, one item alone, a document that is missing, a parent that nobody asks for."""
    write(tmp_path, "page2.json", {"type": "FeatureCollection", "features": [item("b")]})
    next_page = {"rel": "next", "href": "page2.json"}
    write(tmp_path, "page.json", {"type": "FeatureCollection", "features": [item("a")], "links": [next_page]})
    write(tmp_path, "c.json", item("c", collection="lines"))
    links = [{"rel": "items", "href": "page.json"}, {"rel": "item", "href": "c.json"},
             {"rel": "child", "href": "gone.json"}, {"rel": "parent", "href": "../up.json"},
             {"rel": "next", "href": "search", "method": "POST"}]  # fmt: skip
    return write(tmp_path, "catalog.json", {"type": "Catalog", "links": links})


def test_links_lead_to_items_in_order_and_to_what_is_missing(catalogue: Path) -> None:
    met = list(crawl(catalogue, follow=True))
    assert [each.name for each in met] == ["a", "lines/c", "gone.json", "b"]
    assert [each.place for each in met if not each.problem] == [
        str(catalogue.parent / f"{name}.tif") for name in "acb"
    ]
    [problem] = [each.problem for each in met if each.problem]
    assert "no such file" in problem


def test_no_link_is_followed_where_none_is_to_be(catalogue: Path) -> None:
    assert not list(crawl(catalogue, follow=False))
    assert [each.name for each in crawl(catalogue.parent / "page.json", follow=False)] == ["a"]


@pytest.mark.parametrize("bad", [item("b", assets=5), item(""), {"id": "b", "assets": {}}, item("x" * 200)])
def test_a_feature_that_is_no_item_is_told_and_the_others_go_on(tmp_path: Path, bad: object) -> None:
    path = write(tmp_path, "page.json", {"type": "FeatureCollection", "features": [bad, item("a")]})
    first, second = crawl(path, follow=True)
    assert first.problem
    assert (second.name, second.problem) == ("a", None)


def test_a_catalogue_without_end_is_left(catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawling, "MOST_DOCUMENTS", 2)
    with pytest.raises(UsageError, match="the catalogue is too large"):
        list(crawl(catalogue, follow=True))


def test_a_document_that_is_too_large_is_not_read(catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawling, "MOST_BYTES", 20)
    with pytest.raises(UsageError, match="too large"):
        list(crawl(catalogue, follow=False))
