"""The page: by clicks in a real browser, and without one what it does and refuses."""

from __future__ import annotations

import asyncio
import csv
import http.client
import io
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from affine import Affine
from bokeh.document import Document

from spectile.flows.commands.app import main
from spectile.flows.view.page import make_server
from spectile.flows.view.session import Pools, Session
from spectile.flows.view.spectra import SpectraPane
from spectile.pipeline.cube.record import Cube
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.product import view as viewing
from spectile.pipeline.product.view import Resolution, Subject, View, open_view
from spectile.pipeline.stac.collection import Collection
from spectile.pipeline.stac.item import cube_facts
from spectile.pipeline.store.local import LocalStorage
from tests.pipeline.cubes import BANDS, ROTATED, content, make

SAMPLES = 4


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Cube:
    return make(tmp_path_factory.mktemp("seen"), samples=SAMPLES, layers=("sd", "q05", "q95"))


@contextmanager
def served(place: str) -> Iterator[int]:
    """The server in a thread of this process; its port."""
    ready = threading.Event()
    box: dict[str, Any] = {}

    def run() -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())
        box["server"] = server = make_server(place, 0)
        server.start()
        ready.set()
        server.io_loop.start()
        server.stop()
        server.io_loop.close(all_fds=True)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield int(box["server"].port)
    finally:
        box["server"].io_loop.add_callback(box["server"].io_loop.stop)
        thread.join(30)


class Page:
    """A tab of the browser that notes what goes wrong, and whom it asks."""

    def __init__(self, browser: Any) -> None:
        self.tab = browser.new_page(viewport={"width": 1300, "height": 800}, accept_downloads=True)
        self.tab.set_default_timeout(60_000)
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on("websocket", lambda socket: self.asked.append(socket.url))
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on(
            "console",
            lambda said: self.wrong.append(said.text) if said.type in ("error", "warning") else None,
        )

    def open(self, url: str) -> None:
        self.tab.goto(url)
        self.until("window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle")

    def until(self, condition: str) -> None:
        """Wait until an expression of JavaScript is true."""
        self.tab.wait_for_function(f"() => !!({condition})")

    def data(self, figure: str, glyph: str, column: str) -> str:
        """An expression: a column of the data that a kind of glyph of a figure draws; the last such glyph."""
        return (
            f"Bokeh.documents[0].get_model_by_name('{figure}').renderers"
            f".findLast(r => r.glyph.type == '{glyph}').data_source.data['{column}']"
        )

    def inner_height(self) -> float:
        """Height of the map's frame, px."""
        return float(self.tab.evaluate("Bokeh.documents[0].get_model_by_name('map').inner_height"))

    def at(self, right: float, down: float) -> tuple[float, float]:
        """A point of the map on the screen, given by shares of its width and height."""
        box = self.tab.locator(".fill").first.bounding_box()
        return box["x"] + right * box["width"], box["y"] + down * box["height"]

    def click(self, right: float, down: float) -> None:
        self.tab.mouse.click(*self.at(right, down))

    LISTED = "Bokeh.documents[0].get_model_by_name('list').children.map(row => row.children[0].text).join()"
    """What the list of places says, as HTML."""

    def listed(self) -> str:
        return str(self.tab.evaluate(self.LISTED))

    def settle(self, count: int) -> None:
        """Wait for so many spectra."""
        self.until(f"{self.data('chart', 'MultiLine', 'x')}.length == {count}")


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:
    opened = Page(browser)
    yield opened
    assert opened.tab.is_closed()  # before the server, whose end is an error to it
    assert opened.wrong == []
    assert opened.asked
    assert {urlsplit(url).hostname for url in opened.asked if not url.startswith(("data:", "blob:"))} == {
        "127.0.0.1"
    }


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, Window]]:
    """What of which level maps have read."""
    noted: list[tuple[str, int, Window]] = []
    read = View.read

    def noting(self: View, subject: Subject, level: Resolution, window: Window | None = None) -> Any:
        noted.append((subject.title, level.factor, window or level.grid.window))
        return read(self, subject, level, window)

    monkeypatch.setattr(View, "read", noting)
    return noted


def test_a_cube_is_looked_at_by_clicks(
    cube: Cube, page: Page, reads: list[tuple[str, int, Window]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewing, "LARGEST_SIDE", 600)  # so that the cube itself is too fine for the whole
    tab = page.tab
    with served(str(cube.storage)) as port:
        page.open(f"http://127.0.0.1:{port}/")
        tab.get_by_text("Synthetic estimate").wait_for()
        page.until(f"{page.data('map', 'ImageRGBA', 'image')}.length")
        assert {factor for _, factor, _ in reads} == {2, 4}

        page.click(0.3, 0.4)
        page.settle(1)
        page.click(0.6, 0.7)
        page.settle(2)
        tab.get_by_text(re.compile("^Point [12]$")).nth(1).wait_for()  # drawn a moment after its spectrum
        assert tab.get_by_text(re.compile("^Point [12]$")).count() == 2
        curves = tab.evaluate(f"{page.data('chart', 'MultiLine', 'y')}.map(y => Array.from(y))")
        places = re.findall(r"x ([\d.]+) · y ([\d.]+)", page.listed())
        for curve, (x, y) in zip(curves, places, strict=True):
            col, row = ~cube.plan.grid.transform @ (float(x), float(y))
            expected = content(Window(int(row), int(col), 1, 1), SAMPLES).samples.mean(axis=0)[:, 0, 0]
            np.testing.assert_allclose(curve, expected, atol=1e-4)

        tab.locator("select").first.select_option(label="Single band")
        tab.get_by_text("Reflectance at 700 nm").wait_for()
        tab.locator(".noUi-handle").press("ArrowRight")
        tab.get_by_text("Reflectance at 800 nm").wait_for()
        assert reads[-1][0] == "Reflectance at 800 nm"

        tab.mouse.move(*page.at(0.5, 0.5))
        page.until(r"/^x [\d.]+ · y [\d.]+$/.test(document.getElementById('cursor').textContent)")
        for _ in range(6):
            tab.mouse.wheel(0, -300)
        tab.get_by_text("full resolution").wait_for()
        title, factor, window = reads[-1]
        assert (title, factor) == ("Reflectance at 800 nm", 1)
        assert max(window.shape) <= 600

        tab.get_by_role("button", name="Draw area").click()
        tab.get_by_role("button", name="Finish area").wait_for()
        for corner in ((0.3, 0.3), (0.6, 0.3), (0.6, 0.6)):
            page.click(*corner)
        page.until(f"{page.data('map', 'Patch', 'x')}.length == 3")
        page.click(0.3, 0.3)
        page.settle(3)
        page.until(rf"/mean of [\d,]+ pixels, ± their sd/.test({page.LISTED})")

        tab.get_by_text("✕").first.click()
        page.settle(2)
        with tab.expect_download() as download:
            tab.get_by_text("Download CSV").click()
        assert download.value.suggested_filename == "cube.spectra.csv"
        rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
        assert [row["name"] for row in rows] == ["point 2"] * len(BANDS) + ["area 3"] * len(BANDS)
        np.testing.assert_allclose(
            [float(row["reflectance"]) for row in rows[: len(BANDS)]], curves[1], atol=1e-6
        )
        tab.get_by_role("button", name="Whole scene").click()
        tab.get_by_text("1 : 2").wait_for()
        page.click(0.5, 0.02)  # beyond the cube: said, not failed
        tab.get_by_text(re.compile("^(outside the cube|no spectrum)")).wait_for()
        tab.close()


def test_a_catalog_leads_to_its_cubes_and_nowhere_else(page: Page, tmp_path: Path) -> None:
    catalog = Collection(LocalStorage(tmp_path / "stac"))
    near = make(tmp_path / "near", shape=(60, 80))
    far = make(tmp_path / "far", shape=(60, 80), transform=Affine(0.5, 0, 330_000, 0, -0.5, 4_881_000))
    ids = [catalog.add(str(each.storage), cube_facts(each.storage)) for each in (near, far)]
    secret = make(tmp_path / "secret", shape=(60, 80))
    with served(str(catalog.storage)) as port:
        page.open(f"http://127.0.0.1:{port}/")
        page.tab.get_by_text("2 cubes").wait_for()
        assert page.tab.locator("a[href]").count() == 2
        middle = page.data("map", "Scatter", "x")
        page.until(f"{middle}.length == 2 && Bokeh.documents[0].get_model_by_name('map').inner_width > 0")
        # The western one is left of the middle: footprints are wider apart than they are wide.
        at = page.tab.evaluate(
            f"() => {{ const xs = {middle},"
            " {x_range, inner_width} = Bokeh.documents[0].get_model_by_name('map');"
            " return (x_range.end - Math.min(...xs)) / (x_range.end - x_range.start) * inner_width }"
        )
        box = page.tab.locator(".fill").first.bounding_box()
        # The frame ends before the margin on the right.
        page.tab.mouse.click(box["x"] + box["width"] - 16 - at, box["y"] + page.inner_height() / 2 + 12)
        page.tab.wait_for_url(f"**/?id={ids[0]}")
        page.tab.get_by_text("80 × 60 px of 0.5 m").wait_for()
        assert page.tab.get_by_text("← Catalog").get_attribute("href") == "?"
        page.tab.close()
        for wanted in (str(secret.storage.root), "..%2F..%2Fsecret%2Fcube.zarr", "%ff"):
            status, body = answer(port, f"/?id={wanted}")
            assert (status, b"Cannot be shown" in body, b"80 \xc3\x97 60" in body) == (200, True, False)


def test_a_cube_that_goes_bad_is_told_on_the_page(tmp_path: Path) -> None:
    going = make(tmp_path, shape=(60, 80))
    with served(str(going.storage)) as port:
        assert b"80 \xc3\x97 60" in answer(port, "/")[1]
        (going.storage.root / "wavelength" / "zarr.json").unlink()
        (going.storage.root / "zarr.json").write_text("{}")
        status, body = answer(port, "/")
        assert (status, b"Cannot be shown" in body, b"no cube of spectile here" in body) == (200, True, True)


def answer(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    """Status and body of a request that is sent as it is written."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": f"127.0.0.1:{port}", **headers}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    response = connection.getresponse()
    found = response.status, response.read() if response.status != 101 else b""
    connection.close()
    return found


def test_paths_out_of_the_page_get_nothing(cube: Cube) -> None:
    with served(str(cube.storage)) as port:
        status, body = answer(port, "/")
        assert status == 200
        assert not re.findall(rb"(?:src|href)=\"(?:https?:)?//", body)
        secret = cube.storage.root / "zarr.json"
        for path in (
            f"/static/../../../../../../../../..{secret}",
            f"/static/{secret}",
            f"//{secret}",
            "/zarr.json",
        ):
            assert answer(port, path)[0] == 404
        with socket.socket() as other, pytest.raises(OSError, match="refused"):
            other.connect(("127.0.0.2", port))  # it listens on one address


class AtOnce(Session):
    """A session that waits for what it asks."""

    def run(
        self, pool: Any, work: Callable[[], Any], done: Callable[[Any], None], after: Any = lambda: None
    ) -> None:
        done(work())
        after()


def test_on_a_rotated_grid_a_click_takes_the_pixel_under_it(tmp_path: Path) -> None:
    rotated = make(tmp_path, shape=(60, 80), transform=ROTATED)
    pane = SpectraPane(AtOnce(Document(), Pools(None, None)), open_view(str(rotated.storage)))  # type: ignore[arg-type]
    pane.map.refresh()
    x, y = pane.map.point(52.3, 61.8)
    assert (x, y) == pytest.approx((61.8 * 0.5, -52.3 * 0.5))
    pane._tapped(x, y)
    (spot,) = pane.spots
    assert spot.place[:2] == pytest.approx(ROTATED @ (61.5, 52.5))
    expected = content(Window(52, 61, 1, 1)).samples[0, :, 0, 0]
    np.testing.assert_allclose(spot.spectrum.reflectance, expected, atol=1e-4)


def test_the_first_picture_is_coarse_and_what_is_shown_is_not_read_again(
    cube: Cube, reads: list[tuple[str, int, Window]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pane = SpectraPane(AtOnce(Document(), Pools(None, None)), open_view(str(cube.storage)))  # type: ignore[arg-type]
    pane.map.refresh()
    assert [factor for _, factor, _ in reads] == [pane.view.levels[-1].factor]
    monkeypatch.setattr("spectile.flows.view.map.frame_of", lambda drawn: (1000, 800))
    pane.map._fit()
    assert len(reads) == 2
    assert reads[-1][1] < pane.view.levels[-1].factor
    pane.map._fit()
    pane.map.show_whole()
    assert len(reads) == 2
    pane.map.subject.value = "infrared"
    pane.map.refresh()
    assert {title for title, _, _ in reads[2:]} == {"Colour infrared"}


def test_places_keep_their_numbers_and_colours_when_others_go(cube: Cube) -> None:
    pane = SpectraPane(AtOnce(Document(), Pools(None, None)), open_view(str(cube.storage)))  # type: ignore[arg-type]
    for col in (100, 200, 300):
        pane._tapped(*pane.map.point(300, col))
    first, second, third = pane.list.children
    pane._remove(pane.spots[1])
    assert pane.list.children == [first, third]
    assert [spot.number for spot in pane.spots] == [1, 3]
    pane._tapped(*pane.map.point(300, 400))
    assert [(spot.number, spot.colour) for spot in pane.spots][-1] == (2, "#d55e00")
    assert pane.list.children[:2] == [first, third]
    assert pane.list.children[2] is not second
    assert len(pane.curves.data["x"]) == len(pane.bounds.data["x"]) == 3
    pane._tapped(*pane.map.point(300, 400))  # again
    assert len(pane.spots) == 3
    pane._keep(())
    assert pane.save.disabled


def test_without_the_extra_one_line_says_what_to_install(
    cube: Cube, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bokeh", None)
    assert main(["view", str(cube.storage)]) == 2
    assert re.search(r"extra view.*pip install 'bokeh", capsys.readouterr().err)


def test_a_port_that_is_taken_and_a_place_without_a_cube_are_told(
    cube: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["view", str(cube.storage), "--port", str(port), "--no-browser"]) == 2
    assert re.search(r"port.*--port 0", " ".join(capsys.readouterr().err.split()))
    assert main(["view", str(tmp_path / "nothing"), "--no-browser"]) == 2
    assert "no cube of spectile here" in " ".join(capsys.readouterr().err.split())
