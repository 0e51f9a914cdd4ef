"""The report of a cube: true to it, whole in one file, bounded, and silent about the machine."""

from __future__ import annotations

import base64
import io
import re
import tracemalloc
from html.parser import HTMLParser

import numpy as np
import pytest

from spectile.catalog.errors import CubeError
from spectile.pipeline.cube.record import Cube, open_cube
from spectile.pipeline.product import report_measures
from spectile.pipeline.product.points import POINTS
from spectile.pipeline.product.report import gather, report_name, write_report
from spectile.pipeline.product.report_facts import Report, shown
from spectile.pipeline.product.report_measures import seam_figures
from spectile.pipeline.product.report_page import _class_map, render
from spectile.pipeline.product.view import open_view
from spectile.pipeline.store.opening import open_storage
from tests.pipeline.cubes import content, make

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


@pytest.fixture(scope="module")
def cube(tmp_path_factory) -> Cube:
    return make(tmp_path_factory.mktemp("whole"), samples=4, layers=("sd", "q05", "q95"))


@pytest.fixture(scope="module")
def facts(cube) -> Report:
    return gather(cube.storage)


@pytest.fixture(scope="module")
def page(facts) -> str:
    return render(facts).decode()


def test_points_are_spread_valid_pixels_with_the_cubes_own_spectra(cube, facts):
    found, valid = open_cube(cube.storage.root), content(cube.plan.window).valid
    assert len(facts.points) == POINTS
    for point in facts.points:
        assert valid[point.row, point.col]
        there = found.isel(y=point.row, x=point.col)
        np.testing.assert_allclose(point.spectrum.reflectance, there.reflectance, atol=1e-6)
        low, high = point.spectrum.interval
        np.testing.assert_allclose(low, there.reflectance_q05, atol=1e-6)
        np.testing.assert_allclose(high, there.reflectance_q95, atol=1e-6)
        x, y = cube.plan.grid.transform @ (point.col + 0.5, point.row + 0.5)
        assert point.place[:2] == pytest.approx((x, y))
    places = np.array([(point.row, point.col) for point in facts.points], dtype=float)
    apart = np.linalg.norm(places[:, None] - places, axis=2)[~np.eye(len(places), dtype=bool)]
    assert apart.min() > 150
    assert gather(cube.storage).points[0].row == facts.points[0].row


def test_statistics_are_those_of_a_cube_that_is_read_whole(cube, facts):
    values, found = open_cube(cube.storage.root).reflectance.values.reshape(6, -1), facts.statistics
    assert found.pixels == np.isfinite(values[0]).sum()
    np.testing.assert_allclose(found.mean, np.nanmean(values, axis=1), atol=1e-6)
    np.testing.assert_allclose(found.sd, np.nanstd(values, axis=1), atol=1e-6)
    np.testing.assert_allclose(found.low, np.nanmin(values, axis=1), atol=1e-6)
    np.testing.assert_allclose(found.high, np.nanmax(values, axis=1), atol=1e-6)


def test_the_page_tells_the_plan_and_the_ledger(cube, facts, page):
    words = Page(page).words
    assert cube.plan.digest in words
    assert "1100 × 600 px" in words
    assert "EPSG:32619" in words
    assert len(facts.timing.seconds) == len(cube.plan.blocks)
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


def test_the_same_cube_has_the_same_report(cube, page):
    assert render(gather(cube.storage)).decode() == page


def test_a_name_with_dollars_is_no_formula(facts):
    values = np.ones(facts.level.grid.shape, dtype=np.intp)
    figure = _class_map(facts, "Source", "of each pixel", values, ["none", r"price $\nonsense{$ of it"])
    assert figure.source.startswith("data:image/webp")


def test_names_are_escaped(cube, facts):
    from dataclasses import replace

    evil = "<script>alert(1)</script>&\"'"
    text = render(replace(facts, name=evil, settings={**facts.settings, "scene": evil}, warnings=(evil,)))
    seen = Page(text.decode())
    assert "script" not in seen.tags
    assert seen.words.count("<script>alert(1)</script>&") >= 3


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/home/me/scenes/a.tif: uint8 is", "a.tif: uint8 is"),
        (r"C:\scans\line 1\a.tif is", r"1\a.tif is"),
        ("https://user:pw@host/a/b.tif?token=1 is", "https://host/a/b.tif?… is"),
        ("metre / second, 3/4 of it", "metre / second, 3/4 of it"),
    ],
)
def test_folders_and_secrets_are_left_out(said, told):
    assert "token" not in shown(said)
    assert shown(said) == told or told in shown(said)


def test_no_place_of_the_machine_is_in_the_page(cube, page):
    assert str(cube.storage.root.parent) not in page


def test_the_report_stands_beside_the_cube_or_where_it_is_wanted(cube, tmp_path):
    beside = cube.storage.root.parent / report_name(cube.storage.name)
    assert write_report(cube.storage) == str(beside)
    other = tmp_path / "other.html"
    assert write_report(cube.storage, open_storage(other)) == str(other)
    assert beside.name == "cube.report.html"
    assert beside.read_bytes() == other.read_bytes()


def test_an_unfinished_cube_has_no_report(tmp_path):
    with pytest.raises(CubeError, match="not finished"):
        gather(make(tmp_path, finished=False).storage)


def test_seams_are_told_from_none(cube, tmp_path, monkeypatch):
    view, plan = open_view(cube.storage), cube.plan
    rng = np.random.default_rng(0)

    def texture(view, at, valid):
        return noise[:, valid].copy()

    monkeypatch.setattr(report_measures, "_texture", texture)
    shape = (min(600, report_measures.SEAM_SIDE), min(1100, report_measures.SEAM_SIDE))
    noise = rng.normal(size=(4, *shape))
    assert seam_figures(view, plan).sd_ratio == pytest.approx(1.0, abs=0.02)
    from spectile.pipeline.geometry.grid import Window
    from spectile.pipeline.product.quality import overlaps

    at = Window((600 - shape[0]) // 2, (1100 - shape[1]) // 2, *shape)
    noise[:, overlaps(plan.tiling, at)] *= 0.7
    found = seam_figures(view, plan)
    assert found.sd_ratio == pytest.approx(0.7, abs=0.02)
    inside = found.distance > plan.tiling.halo
    assert found.sd[inside].min() > found.sd[~inside].max()


def test_a_cube_of_one_tile_has_no_seams(tmp_path):
    cube = make(tmp_path, shape=(100, 120))
    facts = gather(cube.storage)
    assert facts.seams is None
    assert "one tile is all that there is" in " ".join(Page(render(facts).decode()).words.split())


def test_less_is_held_than_the_cube_holds(tmp_path):
    cube = make(tmp_path, shape=(2100, 2100))
    decoded = 2100 * 2100 * 6 * 4
    tracemalloc.start()
    try:
        gather(cube.storage)
        assert tracemalloc.get_traced_memory()[1] < decoded
    finally:
        tracemalloc.stop()
