"""Items that strangers put into catalogs and inboxes: refused in a line each, and the others go on."""

from __future__ import annotations

import http.server
import json
import os
import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from spectile.catalog.errors import UsageError
from spectile.catalog.stac.index import Query
from spectile.catalog.stac.items import item_key
from spectile.pipeline.stac import collection as catalogs
from spectile.pipeline.stac import crawl
from spectile.pipeline.stac.collection import Collection, Rebuilt
from spectile.pipeline.stac.inbox import Arrival, list_arrivals, look
from spectile.pipeline.store.local import LocalStorage
from tests.catalog.items import made_up

Item = dict[str, Any]
DEEP = "[" * 100_000 + "]" * 100_000

# --- a catalog


@pytest.fixture
def catalog(tmp_path: Path) -> Collection:
    return Collection(LocalStorage(tmp_path / "stac"))


def change(*path: str | int, to: Any) -> Callable[[Item], str]:
    def made(item: Item) -> str:
        at: Any = item
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = to
        return json.dumps(item)

    return made


def put_in(*path: str | int, text: str) -> Callable[[Item], str]:
    """The item's JSON with a text, which need be none, in the place of a value."""
    return lambda item: change(*path, to="HERE")(item).replace('"HERE"', text)


BAD_ITEMS: dict[str, Callable[[Item], str]] = {
    "NaN in the box": put_in("bbox", 0, text="NaN"),
    "infinity in a property": put_in("properties", "gsd", text="Infinity"),
    "a number that is too large": put_in("properties", "gsd", text="1e999"),
    "a text for a number": change("properties", "gsd", to="fine"),
    "a number for a text": change("properties", "spectile:model", to=7),
    "half a character": change("properties", "spectile:model", to="\ud800"),
    "a number for a time": change("properties", "created", to=5),
    "a list for an item": lambda item: "[]",
    "a collection for an item": lambda item: json.dumps({"type": "Collection", "id": item["id"]}),
    "a ring of two points": change("geometry", "coordinates", to=[[[0, 0], [1, 1]]]),
    "no ring": change("geometry", "coordinates", to=[[]]),
    "a box of three numbers": change("bbox", to=[1, 2, 3]),
    "an asset that is a number": change("assets", "cube", to=5),
    "roles that are a number": change("assets", "cube", "roles", to=5),
    "another id": change("id", to="../../../elsewhere"),
    "nested too deep": put_in("properties", "more", text=DEEP),
    "nested rather deep": put_in("properties", "more", text="[" * 990 + "]" * 990),
    "an href that climbs out": change("assets", "cube", "href", to="../../../../../../etc/a.zarr"),
    "an href from the root": change("assets", "cube", "href", to="/etc/a.zarr"),
    "a link that climbs out": change("links", 0, "href", to="../../../../secret.json"),
    "no text": lambda item: "\x00" * 99,
}  # fmt: skip


def told_once(problems: tuple[str, ...], bad: str) -> str:
    [line] = problems
    assert bad in line
    assert line.isprintable()
    assert len(line) < 600
    return line


@pytest.mark.parametrize("what", BAD_ITEMS)
def test_a_bad_item_is_told_in_a_line_and_the_others_go_on(
    catalog: Collection, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    good, bad = (catalog.add(f"{tmp_path}/out/{name}.zarr", made_up(name)) for name in ("good", "bad"))
    text = BAD_ITEMS[what](catalog.get(bad))
    catalog.storage.put(item_key(bad), text.encode("utf-8", "surrogatepass"))
    # While it is pending, and when the index is made again.
    assert catalog.search(Query())["id"].to_pylist() == [good]
    told_once(tuple(record.getMessage() for record in caplog.records), bad)
    done = catalog.rebuild()
    assert done.items == 1
    told_once(done.problems, bad)
    with suppress(UsageError):
        catalog.cube(bad)
    assert str(tmp_path / "out" / "good.zarr") in catalog.cube(good)
    # Whoever adds the cube again gets rid of it.
    assert catalog.add(f"{tmp_path}/out/bad.zarr", made_up("bad")) == bad
    assert catalog.rebuild() == Rebuilt(2, ())


def test_an_item_with_heights_is_an_item(catalog: Collection, tmp_path: Path) -> None:
    added = catalog.add(f"{tmp_path}/a.zarr", made_up("a"))
    item = catalog.get(added)
    west, south, east, north = item["bbox"]
    catalog.storage.put(item_key(added), change("bbox", to=[west, south, 5, east, north, 9])(item).encode())
    assert catalog.rebuild() == Rebuilt(1, ())
    assert catalog.search(Query(bbox=(west, south, east, north))).num_rows == 1


def test_what_is_too_large_is_not_read(catalog: Collection, tmp_path: Path) -> None:
    catalog.add(f"{tmp_path}/a.zarr", made_up("a"))
    (tmp_path / "stac/items/00").mkdir(exist_ok=True)
    for number in range(20):
        with (tmp_path / f"stac/items/00/{number}.json").open("wb") as file:
            file.write(b'"')
            file.truncate(300_000_000)  # takes no room on the disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = catalog.rebuild()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KB; all would be 6 GB
    assert done.items == 1
    assert len(done.problems) == 20
    assert all("too large" in line for line in done.problems)


def test_links_and_pipes_in_the_place_of_items_are_refused(catalog: Collection, tmp_path: Path) -> None:
    good = catalog.add(f"{tmp_path}/a.zarr", made_up("a"))
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps(catalog.get(good)))
    folder = tmp_path / "stac/items/00"
    folder.mkdir(exist_ok=True)
    (folder / "link.json").symlink_to(secret)
    (folder / "zero.json").symlink_to("/dev/zero")
    (folder / "circle.json").symlink_to("circle.json")
    os.mkfifo(folder / "pipe.json")
    done = catalog.rebuild()
    assert done.items == 1
    assert len(done.problems) == 4
    assert sum("leads out of the place" in line for line in done.problems) == 2


def test_a_relative_href_leads_through_no_link_out_of_the_folder(catalog: Collection, tmp_path: Path) -> None:
    added = catalog.add(f"{tmp_path}/out/a.zarr", made_up("a"))
    assert catalog.get(added)["assets"]["cube"]["href"].startswith("../")
    (tmp_path / "out").symlink_to("/")
    with pytest.raises(UsageError, match="a link leads out"):
        catalog.cube(added)


def test_an_index_that_somebody_else_wrote_is_refused_with_the_remedy(
    catalog: Collection, tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from spectile.catalog.stac.index import SCHEMA

    catalog.add(f"{tmp_path}/a.zarr", made_up("a"))
    strange = pa.table({name: pa.array([{"a": 1}]) for name in SCHEMA.names})
    pq.write_table(strange, tmp_path / "stac/index.parquet")
    with pytest.raises(UsageError, match="make it again with spectile catalog rebuild"):
        catalog.search(Query(bbox=(0, 0, 1, 1), status="complete"))
    assert catalog.rebuild() == Rebuilt(1, ())


def test_eight_writers_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogs, "MOST_PENDING", 5)  # so that they fold while others add
    start = threading.Barrier(8)

    def add_three(worker: int) -> list[str]:
        catalog = Collection(LocalStorage(tmp_path / "stac"))
        start.wait()
        names = [f"w{worker}n{number}" for number in range(3)]
        return [catalog.add(f"{tmp_path}/out/{name}.zarr", made_up(name)) for name in names]

    with ThreadPoolExecutor(8) as pool:
        added = {each for ids in pool.map(add_three, range(8)) for each in ids}
    catalog = Collection(LocalStorage(tmp_path / "stac"))
    assert len(added) == 24
    assert set(catalog.search(Query())["id"].to_pylist()) == added
    assert catalog.rebuild() == Rebuilt(24, ())


# --- an inbox


def scene_item(name: Any = "good", **more: Any) -> Item:
    asset = {"href": "a.tif", "type": "image/tiff"}
    return {"type": "Feature", "id": name, "properties": {}, "assets": {"image": asset}, **more}


def asset(**more: Any) -> Item:
    return {"assets": {"image": {"href": "a.tif", "type": "image/tiff", **more}}}


BAD_SCENES: dict[str, str] = {
    "NaN": json.dumps(scene_item("bad", bbox=[float("nan")])),
    "infinity": json.dumps(scene_item("bad", properties={"gsd": float("inf")})),
    "half a character": json.dumps(scene_item("bad", title="\ud800")),
    "an id of numbers": json.dumps(scene_item(7)),
    "an id of lists": json.dumps(scene_item([["bad"]])),
    "an id as long as a book": json.dumps(scene_item("bad" * 100_000)),
    "a collection as long as a book": json.dumps(scene_item("bad", collection="bad" * 100_000)),
    "an id that draws on the screen": json.dumps(scene_item("bad\x1b[2J\r\n", assets=5)),
    "no assets": json.dumps(scene_item("bad", assets={})),
    "roles of a number": json.dumps(scene_item("bad", **asset(roles=5, href="../a.tif"))),
    "roles of lists": json.dumps(scene_item("bad", **asset(roles=[[]], href="../a.tif"))),
    "an href that climbs out": json.dumps(scene_item("bad", **asset(href="../../etc/passwd.tif"))),
    "an absolute href": json.dumps(scene_item("bad", **asset(href="/etc/passwd.tif"))),
    "a file of this machine": json.dumps(scene_item("bad", **asset(href="file:///etc/passwd.tif"))),
    "a link that leads out": json.dumps(scene_item("bad", **asset(href="out/passwd.tif"))),
    "a circle of links": json.dumps(scene_item("bad", **asset(href="circle/a.tif"))),
    "no text of a path": json.dumps(scene_item("bad", **asset(href="a\x00b.tif"))),
    "an href as long as a book": json.dumps(scene_item("bad", **asset(href="a/" * 100_000 + "a.tif"))),
    "an href on another kind of server": json.dumps(scene_item("bad", **asset(href="ftp://host/a.tif"))),
    "an href with credentials": json.dumps(scene_item("bad", **asset(href="https://me:pw@host/a.tif"))),
}  # fmt: skip


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "a.tif").write_bytes(b"II*\0")
    (folder / "out").symlink_to("/etc")
    (folder / "circle").symlink_to("circle")
    return folder


def arrivals(place: Path | str) -> dict[bool, list[Arrival]]:
    """Those with a problem, and those without."""
    found = [look(each) for each in list_arrivals(str(place))]
    for each in found:
        assert len(each.name) < 500
        assert each.problem is None or (each.problem.isprintable() and len(each.problem) < 600)
    return {bad: [each for each in found if bool(each.problem) is bad] for bad in (True, False)}


@pytest.mark.parametrize("what", BAD_SCENES)
def test_a_bad_scene_is_told_in_a_line_and_the_others_go_on(inbox: Path, what: str) -> None:
    page = f'{{"type": "FeatureCollection", "features": [{BAD_SCENES[what]}, {json.dumps(scene_item())}]}}'
    (inbox / "page.json").write_text(page)
    found = arrivals(inbox / "page.json")
    assert [each.name for each in found[False]] == ["good"]
    assert len(found[True]) == 1


def test_an_item_names_no_vrt_and_no_other_format(inbox: Path) -> None:
    (inbox / "a.vrt").write_text("<VRTDataset/>")
    (inbox / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (inbox / "disguised.tif").write_text("<VRTDataset/>")
    items = [
        scene_item(name, **asset(href=href))
        for name, href in (("one", "a.vrt"), ("two", "a.png"), ("three", "disguised.tif"), ("good", "a.tif"))
    ]
    (inbox / "page.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    found = arrivals(inbox / "page.json")
    assert [each.name for each in found[False]] == ["good"]
    assert len(found[True]) == 3


@pytest.mark.parametrize(
    "text",
    [DEEP, '{"type": "Catalog", "links": ' + DEEP + "}", "[]", "5", '{"type": ["Catalog"]}',
     '{"type": "Catalog", "links": {}}', '{"type": "FeatureCollection", "features": [5]}', "\x00", ""],
)  # fmt: skip
def test_a_bad_document_is_told_in_a_line_and_the_others_go_on(inbox: Path, text: str) -> None:
    (inbox / "bad.json").write_text(text)
    (inbox / "good.json").write_text(json.dumps(scene_item()))
    links = [{"rel": "item", "href": name} for name in ("bad.json", "good.json")]
    (inbox / "catalog.json").write_text(json.dumps({"type": "Catalog", "links": links}))
    found = arrivals(inbox / "catalog.json")
    assert [each.name for each in found[False]] == ["good"]
    assert len(found[True]) == 1
    with pytest.raises(UsageError) as refused:
        list_arrivals(str(inbox / "bad.json"))
    assert "\n" not in str(refused.value)


def test_documents_that_lead_in_circles_are_read_once(inbox: Path) -> None:
    for here, there in (("one", "two"), ("two", "one")):
        links = [{"rel": "child", "href": f"{there}.json"}, {"rel": "next", "href": f"./{here}.json"}]
        document = {"type": "FeatureCollection", "features": [scene_item(here)], "links": links}
        (inbox / f"{here}.json").write_text(json.dumps(document))
    assert [each.name for each in arrivals(inbox / "one.json")[False]] == ["one", "two"]


def test_pipes_and_what_has_no_end_are_no_documents_and_no_scenes(inbox: Path) -> None:
    os.mkfifo(inbox / "pipe.json")
    os.mkfifo(inbox / "pipe.tif")
    (inbox / "good.json").write_text(json.dumps(scene_item()))
    links = [{"rel": "item", "href": name} for name in ("pipe.json", "good.json")]
    (inbox / "catalog.json").write_text(json.dumps({"type": "Catalog", "links": links}))
    found = arrivals(inbox / "catalog.json")
    assert [each.name for each in found[False]] == ["good"]
    assert ["not a file" in str(each.problem) for each in found[True]] == [True]
    assert ["not a file" in str(each.problem) for each in arrivals(inbox)[True]] == [True]


class Endless(http.server.BaseHTTPRequestHandler):
    """Answers every question with a text that never ends."""

    sent = 0

    def do_GET(self) -> None:
        self.send_response(200)
        for name, value in (("Content-Length", str(10**12)), ("ETag", '"1"'), ("Last-Modified", DATE)):
            self.send_header(name, value)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"[" * 1_000_000)
                Endless.sent += 1_000_000
        except OSError:
            pass

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        """Nothing."""


DATE = "Mon, 01 Jan 2024 00:00:00 GMT"


@pytest.fixture
def endless() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/catalog.json"
        server.shutdown()


def test_a_server_that_never_ends_is_left(endless: str) -> None:
    with pytest.raises(UsageError, match="too large"):
        list_arrivals(endless)
    assert Endless.sent < 10 * crawl.MOST_BYTES
