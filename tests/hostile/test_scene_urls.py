"""A URL leads to the server that it names, by the same scheme, and to no other kind of address."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spectile.catalog.errors import SceneError, SpectileError, UsageError
from spectile.catalog.stac.scenes import NamedScene
from spectile.catalog.urls import locate
from spectile.pipeline.files.addresses import resolve
from spectile.pipeline.line.members import open_scenes
from spectile.pipeline.scene.source import open_source
from spectile.pipeline.stac.inbox import list_arrivals, look
from spectile.pipeline.stac.scenes import list_scenes
from tests.hostile.servers import listening
from tests.hostile.test_scene_formats import SECRET, _vrt_of


def test_a_scene_is_read_from_where_its_server_sends_us_on_the_same_kind_of_address(make_scene):
    path = make_scene()
    with listening(path.parent, moved=json.dumps({"/old.tif": "/scene.tif"})) as server:
        source = open_source(f"{server.url}/old.tif")
        np.testing.assert_array_equal(
            source.read(source.grid.window)[0], open_source(path).read(source.grid.window)[0]
        )
        assert set(server.requests) == {"/old.tif", "/scene.tif"}, "nothing beside it is asked for"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("file:///etc/passwd", "another scheme"),
        ("https://127.0.0.1:9/a.tif", "another scheme"),
        ("ftp://127.0.0.1/a.tif", "cannot be used"),
        ("http://169.254.169.254/latest/meta-data/", "this machine only|not asked"),
        ("/old.tif", "too many redirects"),
    ],
)
def test_a_redirect_elsewhere_is_refused(target, why):
    with listening(moved=json.dumps({"/old.tif": target})) as server:
        with pytest.raises(UsageError, match=why):
            open_source(f"{server.url}/old.tif")


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("169.254.169.254", "link-local"), ("[fe80::1]", "link-local"),
        ("[::ffff:169.254.169.254]", "link-local"),
        ("0.0.0.0", "no server's"), ("224.0.0.1", "no server's"),
    ],
)  # fmt: skip
def test_link_local_addresses_are_asked_for_nobody(host, kind):
    with pytest.raises(SceneError, match=kind):
        resolve(locate(f"https://{host}/a.tif"))


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "192.168.1.1", "172.16.0.1", "127.0.0.1", "localhost", "[::1]", "[fc00::1]", "2130706433"],
)
def test_private_addresses_are_not_asked_for_a_catalogue(host):
    with pytest.raises(SceneError, match="--allow-private"):
        resolve(locate(f"https://{host}/a.tif"), listed=True)


def _item(href: str) -> dict[str, object]:
    asset = {"href": href, "type": "image/tiff"}
    return {"type": "Feature", "id": "one", "assets": {"visual": asset}, "properties": {}, "links": []}


def test_a_collection_leads_to_a_private_server_only_where_that_is_allowed(make_scene, tmp_path):
    path = make_scene()
    with listening(path.parent) as server:
        document = tmp_path / "items.json"
        document.write_text(
            json.dumps({"type": "FeatureCollection", "features": [_item(f"{server.url}/scene.tif")]})
        )
        scenes = list_scenes([str(document)])
        with pytest.raises(SceneError, match="--allow-private"):
            open_scenes(scenes)
        (arrival,) = list_arrivals(str(document))
        assert "--allow-private" in (look(arrival).problem or "")
        assert server.requests == []
        sources, _ = open_scenes(scenes, allow_private=True)
        assert sources[0].grid.shape == (37, 53)
        assert look(arrival, allow_private=True).problem is None


def test_a_catalogue_s_links_ask_no_private_server(tmp_path):
    with listening() as server:
        link = {"rel": "child", "href": f"{server.url}/inside.json"}
        catalogue = {"type": "Catalog", "id": "c", "links": [link]}
        (tmp_path / "catalog.json").write_text(json.dumps(catalogue))
        (arrival,) = list_arrivals(str(tmp_path / "catalog.json"))
        assert "--allow-private" in (arrival.problem or "")
        assert server.requests == []


def test_what_a_catalogue_or_a_server_calls_a_scene_is_no_vrt(make_scene, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    vrt = tmp_path / "a.tif"
    vrt.write_text(_vrt_of(secret))
    with pytest.raises(SceneError):
        open_scenes([NamedScene("a", str(vrt), listed=True)], allow_vrt=True)
    (tmp_path / "a.vrt").write_text(_vrt_of(secret))
    with listening(tmp_path) as server:
        for name in ("a.tif", "a.vrt"):
            with pytest.raises(SpectileError):
                open_source(f"{server.url}/{name}", allow_vrt=True)


def test_a_catalogue_names_geotiff_and_jpeg_2000_only(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(SceneError, match="a catalogue may not name"):
        open_source(path, listed=True)


def test_the_bands_of_an_item_are_asked_of_a_private_server_only_where_that_is_allowed(write_scene, tmp_path):
    numbers = np.arange(3, dtype=np.uint16)[:, None, None] * 1000 + np.zeros((3, 20, 30), np.uint16)
    with listening(tmp_path / "served") as server:
        assets = {}
        (tmp_path / "served").mkdir()
        for at, colour in enumerate(("red", "green", "blue")):
            write_scene(numbers[[at]], f"served/{colour}.tif")
            bands = [{"name": colour, "eo:common_name": colour, "raster:scale": 1e-4}]
            assets[colour] = {"href": f"{server.url}/{colour}.tif", "type": "image/tiff", "bands": bands}
        document = tmp_path / "item.json"
        document.write_text(json.dumps({**_item(""), "assets": assets}))
        (scene,) = list_scenes([str(document)])
        with pytest.raises(SceneError, match="--allow-private"):
            open_source(document)
        with pytest.raises(SceneError, match="--allow-private"):
            open_scenes([scene])
        assert server.requests == []
        (source,), _ = open_scenes([scene], allow_private=True)
        assert source.read(source.grid.window).values[:, 3, 4] == pytest.approx([0.0, 0.1, 0.2])
        assert source.feeds[2] == "blue (460 nm): band 3 (blue)"
