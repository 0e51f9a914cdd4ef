"""The page of a report: whole in one file, escaped, and silent about the machine."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np

from spectile.pipeline.product.report import gather
from spectile.pipeline.product.report_page import _class_map, render
from tests.pipeline.cubes import make

ALLOWED = {"data:"}


class Page(HTMLParser):
    """What a page names, its pictures, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data) -> None:
        self.words += data


def test_the_page_tells_the_plan_and_the_ledger(layered, facts, page):
    words = Page(page).words
    assert layered.plan.digest in words
    assert "1100 × 600 px" in words
    assert "EPSG:32619" in words
    assert len(facts.timing.seconds) == len(layered.plan.blocks)
    assert f"{facts.statistics.mean[0]:.4f}" in words
    for point in facts.points:
        assert f"row {point.row}, column {point.col}" in words
    assert "not calibrated" in words


def test_the_file_needs_no_other_and_no_script(page):
    seen = Page(page)
    assert len(page) < 2_000_000
    assert "script" not in seen.tags
    assert seen.addresses
    assert {address[:5] for address in seen.addresses} == ALLOWED
    styles = re.search(r"<style>(.*)</style>", page, re.DOTALL)[1]
    assert "url(" not in styles
    assert "@import" not in styles
    assert "http" not in re.sub(r'"data:[^"]*"', '""', page).replace("http-equiv", "")
    for address in seen.addresses:
        if address.startswith("data:image/svg"):
            drawn = base64.b64decode(address.partition(",")[2]).decode()
            assert not re.search(r'(?:href|src)="(?!#|data:)', drawn)


def test_the_maps_show_masked_pixels_as_transparent(page):
    from PIL import Image

    first = next(each for each in Page(page).addresses if each.startswith("data:image/webp"))
    with Image.open(io.BytesIO(base64.b64decode(first.partition(",")[2]))) as picture:
        assert picture.width > picture.height > 300


def test_a_name_with_dollars_is_no_formula(facts):
    values = np.ones(facts.level.grid.shape, dtype=np.intp)
    figure = _class_map(facts, "Source", "of each pixel", values, ["none", r"price $\nonsense{$ of it"])
    assert figure.source.startswith("data:image/webp")


def test_names_are_escaped(layered, facts):
    from dataclasses import replace

    evil = "<script>alert(1)</script>&\"'"
    text = render(replace(facts, name=evil, settings={**facts.settings, "scene": evil}, warnings=(evil,)))
    seen = Page(text.decode())
    assert "script" not in seen.tags
    assert seen.words.count("<script>alert(1)</script>&") >= 3


def test_no_place_of_the_machine_is_in_the_page(layered, page):
    assert str(layered.storage.root.parent) not in page


def test_a_cube_of_one_tile_has_no_seams(tmp_path):
    cube = make(tmp_path, shape=(100, 120))
    facts = gather(cube.storage)
    assert facts.seams is None
    assert "one tile is all that there is" in " ".join(Page(render(facts).decode()).words.split())
