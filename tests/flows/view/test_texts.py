"""Scripts in every text that the page shows: none runs, and each is shown as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zarr

from spectile.catalog.counts import NODATA
from spectile.pipeline.cube.record import Cube
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.stac.collection import Collection
from spectile.pipeline.store.local import LocalStorage
from tests.catalog.items import made_up
from tests.flows.view.test_hostile import tell
from tests.flows.view.test_page import Page, answer, served
from tests.pipeline.cubes import BANDS, make


def evil(name: str) -> str:
    """HTML that would run a script in any of three ways; the name tells where it stood."""
    return (
        f"$$x$$ {name} <img src=x onerror=window.ran=1><script>window.ran=1</script>\"'><a href=javascript:1>"
    )


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:
    opened = Page(browser)
    yield opened
    assert opened.tab.is_closed()
    assert opened.wrong == []  # a script that the policy stopped would be among these


def check(page: Page, *names: str) -> None:
    """The texts are there, as they are, and no script has run."""
    for name in names:
        page.tab.get_by_text(evil(name), exact=False).first.wait_for(state="attached")
    assert page.tab.evaluate("window.ran === undefined")
    assert page.tab.locator("img[src=x]").count() == 0
    assert page.tab.locator("a[href^=javascript]").count() == 0


def test_a_cubes_facts_are_shown_as_they_are_and_foreign_arrays_not_at_all(
    page: Page, tmp_path: Path
) -> None:
    made = make(tmp_path, shape=(60, 80), finished=False)
    settings = {"model": {"name": evil("model")}}
    tell(made, Plan(made.plan.grid, made.plan.window, made.plan.tiling, 512, len(BANDS), 1, (), settings))
    group: Any = zarr.open_group(made.storage.zarr(), mode="r+", use_consolidated=False)
    meaning = "<img/src=x/onerror=window.ran=1>"  # without spaces, which part meanings
    for name, dtype, fill, attributes in (
        ("quality", "uint8", 0, {"flag_meanings": f"{meaning} b", "flag_masks": [1, 2]}),
        ("rgb_consistency", "uint16", NODATA, {"scale_factor": 1e-4}),
    ):
        array = group.require_array(
            name, shape=(60, 80), chunks=(60, 80), dtype=dtype, fill_value=fill,
            attributes={"long_name": f"A{evil(name)}", **attributes},
        )  # fmt: skip
        array[:] = 1
    # A name of a folder has no slash.
    name = "<img src=x onerror=window.ran=1>.zarr"
    renamed = Cube(LocalStorage(made.storage.root.rename(tmp_path / name)), made.plan)
    with served(str(renamed.storage)) as port:
        page.open(f"http://127.0.0.1:{port}/")
        page.tab.locator("h1").get_by_text(name).wait_for()
        assert page.tab.title() == name
        check(page, "model")
        # The plan knows neither array, so nothing that they say of themselves is shown.
        options = page.tab.locator("select").first.locator("option").all_inner_texts()
        assert len(options) > 2
        assert not any("quality" in option or "consistency" in option for option in options)
        assert meaning not in page.tab.content()
        page.tab.close()


def test_a_catalogs_entries_and_errors_are_shown_as_they_are(page: Page, tmp_path: Path) -> None:
    catalog = Collection(LocalStorage(tmp_path / "<img src=x onerror=window.ran=1>"))
    catalog.add(str(tmp_path / "a.zarr"), made_up(evil("title"), model=evil("model"), status=evil("status")))
    with served(str(catalog.storage)) as port:
        page.open(f"http://127.0.0.1:{port}/")
        page.tab.locator("h1").get_by_text("<img src=x onerror=window.ran=1>").wait_for()
        check(page, "title", "model")
        page.until("Bokeh.documents[0].get_model_by_name('map').inner_width > 0")
        page.tab.mouse.move(*page.at(0.5, 0.4))
        page.tab.mouse.move(*page.at(0.5, 0.5))
        page.tab.locator(".bk-Tooltip").get_by_text(evil("title")).wait_for()
        check(page)
        for asked in ("id", "bokeh"):
            page.tab.goto(f"http://127.0.0.1:{port}/")
            page.tab.evaluate("([name, id]) => { location.search = new URLSearchParams({ [name]: id }) }",
                              [asked, evil("id")])  # fmt: skip
            page.tab.wait_for_url("**/?*")
            if asked == "id":
                page.tab.get_by_text("Cannot be shown").first.wait_for()
                check(page, "id")
        page.tab.close()


def test_a_fused_cube_tells_how_good_it_is(tmp_path: Path) -> None:
    made = make(tmp_path, shape=(60, 80), finished=False)
    estimates = {"d_lambda": 0.0021, "d_s": 0.064, "wald": {"mixture": {"psnr": 29.4, "sam_deg": 3.51}}}
    settings = {"model": {"name": "fuse:mixture"}, "pair": {"estimates": estimates}}
    tell(made, replace(made.plan, settings=settings))
    with served(str(made.storage)) as port:
        body = answer(port, "/")[1].decode()
    assert "D_λ 0.0021 · D_s 0.064 · Wald on the pair itself 29.4 dB, 3.5°" in body
    assert "Fused of two scenes" in body
    assert "three colours" not in body
