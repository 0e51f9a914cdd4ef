"""Runs write their STAC items, and ``spectile catalog`` finds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pystac
import pytest
import rasterio

from spectile.catalog.stac.items import check_stac
from spectile.catalog.urls import locate
from spectile.flows.commands import app as cli
from spectile.pipeline.cube.record import open_cube
from spectile.pipeline.product.quicklook import quicklook_names

FAST = ("--model", "bands-repeat", "--block", "512")


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPECTILE_CATALOG", raising=False)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.fixture
def scene(make_scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path: Path = make_scene((37, 53), nodata=0, hole=(slice(0, 37), slice(0, 30)))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(TIFFTAG_DATETIME="2024:06:01 10:30:00")
    return path


def run(*arguments: str) -> None:
    assert cli.main(["run", "scene.tif", *FAST, *arguments]) == 0


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert cli.main(["catalog", *arguments, "--catalog", "stac"]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("with_quicklooks")
def test_a_run_writes_an_item_that_leads_to_what_it_made(scene: Path) -> None:
    run("--out", "out/a.zarr", "--samples", "2")
    place = Path("out/a.stac.json")
    item = json.loads(place.read_text())
    check_stac(item, "item")
    said, assets = item["properties"], item["assets"]
    cube = open_cube("out/a.zarr")
    assert said["datetime"] == "2024-06-01T10:30:00Z"
    assert said["spectile:layers"] == ["sd", "quality", "rgb_consistency"]
    assert said["proj:code"] == "EPSG:32619"
    assert said["proj:shape"] == [37, 53]
    assert set(said["cube:variables"]) >= {
        "reflectance",
        "reflectance_sd",
        "valid",
        "quality",
        "rgb_consistency",
    }
    assert said["cube:dimensions"]["wavelength"]["values"] == cube.wavelength.values.tolist()
    bands = assets["cube"]["bands"]
    assert len(bands) == 48
    assert bands[0]["eo:center_wavelength"] == pytest.approx(cube.wavelength.values[0] / 1000)
    assert bands[0]["raster:scale"] == 1e-4
    for asset in assets.values():
        assert (place.parent / asset["href"]).exists()
        if "file:size" in asset:
            assert (place.parent / asset["href"]).stat().st_size == asset["file:size"]
    assert set(assets) == {"cube", "quicklook", "true_colour"}
    with rasterio.open(place.parent / assets["true_colour"]["href"]) as dataset:
        assert list(dataset.shape) == assets["true_colour"]["proj:shape"]
    source = next(link for link in item["links"] if link["rel"] == "derived_from")
    assert source["title"] == "scene.tif"
    assert str(scene.parent) not in place.read_text()


@pytest.mark.usefixtures("with_quicklooks")
def test_the_footprint_is_that_of_the_valid_pixels(scene: Path) -> None:
    run("--out", "a.zarr")
    valid = json.loads(Path("a.stac.json").read_text())["bbox"]
    Path(quicklook_names("a.zarr")[1]).unlink()
    cli.main(["catalog", "add", "a.zarr", "--catalog", "stac"])
    (path,) = Path("stac/items").rglob("*.json")
    whole = json.loads(path.read_text())["bbox"]
    assert whole[0] + 0.5 * (whole[2] - whole[0]) < valid[0] < whole[2]
    assert valid[2] == pytest.approx(whole[2], abs=1e-5)


def test_cubes_are_added_listed_searched_and_shown(
    scene: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--out", "out/a.zarr", "--catalog", "stac")
    monkeypatch.setenv("SPECTILE_CATALOG", "stac")
    run("--out", "out/b.zarr", "--datetime", "2020-05")
    assert [line.split()[0][:2] for line in printed(capsys, "list").splitlines()[1:]] == ["b-", "a-"]
    found = printed(capsys, "search", "--datetime", "2020-05-05", "--bbox", "-180,-90,180,90").splitlines()[
        1:
    ]
    assert [line[:2] for line in found] == ["b-"]
    for nothing in (["--model", "other"], ["--wavelength", "100,900"], ["--bbox", "0,0,1,1"],
                    ["--status", "incomplete"]):  # fmt: skip
        assert printed(capsys, "search", *nothing) == "no items\n", nothing
    said = json.loads(
        printed(capsys, "search", "--model", "bands-repeat", "--wavelength", "400,900", "--json")
    )
    assert said["type"] == "FeatureCollection"
    place = locate(said["features"][0]["assets"]["cube"]["href"])
    assert isinstance(place, Path)
    assert place.samefile("out/b.zarr")
    item = json.loads(printed(capsys, "show", said["features"][0]["id"]))
    assert item["assets"]["cube"]["href"] == "../../../out/b.zarr"
    assert pystac.Item.from_dict(item).collection_id == "spectile"
    assert "2 item(s)" in printed(capsys, "rebuild")
    assert len(printed(capsys, "list", "--limit", "1").splitlines()) == 3


@pytest.mark.usefixtures("scene")
def test_a_run_does_not_start_that_could_not_be_added(capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str) -> str:
        assert cli.main(["run", "scene.tif", "--out", "a.zarr", *FAST, *arguments]) == 2
        assert not Path("a.zarr").exists()
        return capsys.readouterr().err

    assert "full path" in refused("--catalog", "deep/down/stac")
    assert "not a time" in refused("--datetime", "last summer")
    assert "not a place for cubes or catalogs" in refused("--catalog", "https://example.org/stac")


@pytest.mark.usefixtures("scene")
def test_an_item_that_cannot_be_written_is_told_with_the_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("stac").write_text("a file")
    assert cli.main(["run", "scene.tif", "--out", "a.zarr", *FAST, "--catalog", "stac"]) == 1
    assert "catalog add" in capsys.readouterr().err
    assert open_cube("a.zarr").sizes["wavelength"] == 48
    Path("stac").unlink()
    assert cli.main(["catalog", "add", "a.zarr", "--catalog", "stac"]) == 0
    assert "2024-06-01T10:30Z" in printed(capsys, "list")


@pytest.mark.usefixtures("scene")
def test_a_line_takes_its_time_from_the_items_of_its_scenes() -> None:
    def item(number: int, when: str) -> dict[str, Any]:
        href = "scene.tif" if number == 1 else "other.tif"
        return {
            "type": "Feature",
            "id": f"s{number}",
            "assets": {"visual": {"href": href}},
            "properties": {"datetime": when},
        }

    Path("other.tif").write_bytes(Path("scene.tif").read_bytes())
    items = [item(1, "2023-01-01T00:00:00Z"), item(2, "2023-01-02T00:00:00Z")]
    Path("line.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    assert cli.main(["flight-line", "line.json", "--out", "line.zarr", *FAST]) == 0
    said = json.loads(Path("line.stac.json").read_text())
    check_stac(said, "item")
    assert said["properties"]["start_datetime"] == "2023-01-01T00:00:00Z"
    assert said["properties"]["end_datetime"] == "2023-01-02T00:00:00Z"
    assert [link["title"] for link in said["links"] if link["rel"] == "derived_from"] == ["s1", "s2"]


def test_a_catalog_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["catalog", "list"]) == 2
    assert "SPECTILE_CATALOG" in capsys.readouterr().err
