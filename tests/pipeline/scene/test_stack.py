"""Scenes of several files: Sentinel-2 products, folders of bands, STAC items."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.warp import transform

from spectile.catalog.errors import SceneError, SpectileError
from spectile.catalog.inputs import RGB_SCENE, InputSpec
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.scene.bands import find_sensor
from spectile.pipeline.scene.clip import read_clip
from spectile.pipeline.scene.lazy import open_scene
from spectile.pipeline.scene.source import open_source
from spectile.pipeline.scene.stack import StackSource
from spectile.pipeline.stac.inbox import list_arrivals, look
from spectile.pipeline.stac.scenes import list_scenes
from tests.pipeline.scene.products import SIZES, numbers_of, write_jp2, write_safe

TEN = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")


def spec_of(sensor: str) -> InputSpec:
    bands = find_sensor(sensor).bands
    return InputSpec("s2", bands, (0.1,) * len(bands))


S2 = spec_of(f"sentinel2:{','.join(TEN)}")
RGBN = spec_of("rgbn")


@pytest.fixture(scope="module")
def safe(tmp_path_factory) -> Path:
    return write_safe(tmp_path_factory.mktemp("products"), hole=30)


def test_a_sentinel_2_product_is_one_raster_of_reflectance(safe):
    source = open_source(safe, S2)
    assert source.grid.transform == Affine(10, 0, 300_000, 0, -10, 5_800_020)
    assert source.grid.shape == (120, 120)
    assert source.channels == (2, 3, 4, 5, 6, 7, 8, 9, 11, 12)
    assert source.notices[0].endswith(
        "the model does not use band 1 (B01, 442.7 nm), band 10 (B09, 945.1 nm)"
    )
    values, valid = source.read(source.grid.window)
    # The coarse pixel that the hole touches is missing as a whole.
    assert np.flatnonzero(~valid.all(axis=0)).tolist() == [0, 1, 2, 3]
    for band, channel in zip(TEN, values, strict=True):
        if SIZES[band] == 10:
            stored = numbers_of(band, 10)[:, 4:]
            np.testing.assert_allclose(channel[:, 4:], (stored - 1000.0) / 10_000, rtol=1e-6)
        # The ramps are linear, so that interpolation gives them again, but for the rounding of numbers.
        y, x = (np.mgrid[2:118, 6:118] + 0.5) * 10
        ramp = 500 + 100 * list(SIZES).index(band) + x + 0.5 * y
        np.testing.assert_allclose(channel[2:118, 6:118], ramp / 10_000, atol=0.6e-4)
    assert source.ceiling == pytest.approx([6.4535] * 10)
    assert source.tags()["ACQUISITIONDATETIME"] == "2024-06-01T10:10:31.024Z"


def test_a_pixel_of_a_stack_is_the_same_in_every_window(safe):
    source = open_source(safe, S2)
    whole = source.read(source.grid.window)
    padded = np.pad(whole.values, ((0, 0), (50, 50), (50, 50)), mode="reflect")
    for row, col, height, width in ((0, 0, 7, 9), (31, 33, 40, 21), (-50, 100, 60, 70), (3, -9, 1, 30)):
        part, valid = source.read(Window(row, col, height, width))
        expected = padded[:, row + 50 : row + 50 + height, col + 50 : col + 50 + width]
        np.testing.assert_array_equal(part, expected)
        np.testing.assert_array_equal(valid, np.isfinite(expected).all(axis=0))
    np.testing.assert_array_equal(source.read_valid(source.grid.window), whole.valid)


def test_the_model_and_the_user_choose_among_the_bands_of_a_product(safe):
    assert open_source(safe).channels == (4, 3, 2)
    assert open_source(safe, RGBN).channels == (4, 3, 2, 8)
    lazy = open_scene(safe, bands=("B04", "B8A"))
    assert lazy.shape == (2, 120, 120)
    assert lazy.band.values.tolist() == ["B04", "B8A"]
    source = pickle.loads(pickle.dumps(open_source(safe, None, bands=("B04", "B8A"))))
    np.testing.assert_array_equal(lazy.values, source.read(source.grid.window).values)
    assert open_source(safe, RGBN, bands=("B04", "B03", "B02", "B8A")).channels == (4, 3, 2, 9)
    coarse = open_source(safe, spec_of("sentinel2:B05,B11"))
    assert coarse.grid.shape == (60, 60)
    with pytest.raises(SceneError, match=r"needs, 1373\.5 nm \(got band 1 \(B01"):
        open_source(safe, spec_of("sentinel2"))
    fewer, more = open_source(safe), open_source(safe, RGBN)
    assert fewer.identity() == open_source(safe).identity()
    assert fewer.identity() != more.identity()


def test_levels_and_baselines_differ_in_their_offsets(tmp_path):
    old = open_source(write_safe(tmp_path / "old", offset=None), RGBN)
    assert old.read(Window(0, 9, 1, 1)).values[0, 0, 0] == pytest.approx(numbers_of("B04", 10)[0, 9] / 10_000)
    top = open_source(write_safe(tmp_path / "top", level="1C"), spec_of("sentinel2"))
    assert top.read(Window(0, 9, 1, 1)).values[3, 0, 0] == pytest.approx(
        (numbers_of("B04", 10)[0, 9] - 1000) / 10_000
    )
    assert any("top of the atmosphere" in line for line in top.notices)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace("GRANULE/", "../elsewhere/"), "outside its folder"),
        (lambda text: text.replace("<IMAGE_FILE>GRANULE", "<IMAGE_FILE>/etc/GRANULE"), "outside its folder"),
        (lambda text: text.replace("R10m/", "R10m/no"), r"lacks a band that the model needs, red"),
        (lambda text: text.replace("IMAGE_FILE>", "IMAGE_ID>"), "has no band"),
        (lambda text: text.replace(">10000<", ">0<"), "BOA_QUANTIFICATION_VALUE 0"),
        (lambda text: text.replace(">10000<", ">many<"), "BOA_QUANTIFICATION_VALUE 'many'"),
        (lambda text: text.replace('band_id="3">-1000', 'band_id="3">nan'), "BOA_ADD_OFFSET 'nan'"),
        (lambda text: text.replace('band_id="3"', 'band_id="99"'), "no offset of B04"),
        (lambda text: text.replace("?>", '?><!DOCTYPE a [<!ENTITY b SYSTEM "/etc/passwd">]>', 1), "entities"),
        (lambda text: text[:-9], "not a Sentinel-2 metadata file"),
        (lambda text: text.replace("<Granule>", "<Granule>" + "<IMAGE_FILE/>" * 1001), "too many files"),
    ],
)
def test_what_a_product_says_wrong_is_told_in_a_line(tmp_path, safe, change, told):
    copy = shutil.copytree(safe, tmp_path / safe.name)
    (copy / "MTD_MSIL2A.xml").write_text(change((safe / "MTD_MSIL2A.xml").read_text()))
    with pytest.raises(SceneError, match=told):
        open_source(copy)


def test_links_that_lead_out_of_a_product_are_not_followed(tmp_path, safe):
    copy = tmp_path / safe.name
    copy.mkdir()
    shutil.copy(safe / "MTD_MSIL2A.xml", copy)
    (copy / "GRANULE").symlink_to(safe / "GRANULE")
    with pytest.raises(SceneError, match="outside its folder"):
        open_source(copy)
    shutil.rmtree(copy)
    shutil.copytree(safe / "GRANULE", copy / "GRANULE")
    (copy / "MTD_MSIL2A.xml").symlink_to(safe / "MTD_MSIL2A.xml")
    with pytest.raises(SceneError, match="outside its folder"):
        open_source(copy)


@pytest.mark.parametrize(
    ("hide", "told"),
    [
        (lambda path: path.unlink(), "lacks a band that the model needs, red"),
        (lambda path: path.write_text("<VRTDataset/>"), "not a raster that can be opened"),
        (lambda path: write_jp2(path, numbers_of("B04", 10), 10, driver="PNG"), "may not name a file"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "not a raster|cannot be read|too small"),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_files_of_a_product_are_checked_as_any_scene_is(tmp_path, hide, told):
    safe = write_safe(tmp_path)
    (path,) = safe.rglob("*_B04_10m.jp2")
    hide(path)
    with pytest.raises(SceneError, match=told):
        open_source(safe)


def test_a_folder_of_files_of_one_band_each_is_a_scene(tmp_path):
    folder = tmp_path / "LC08_L2SP_193023_20240601"
    for band, size in (("SR_B2", 30), ("SR_B3", 30), ("SR_B4", 30), ("SR_B5", 30), ("QA_PIXEL", 30)):
        write_jp2(folder / f"{folder.name}_{band}.TIF", numbers_of("B02", size), size, driver="GTiff")
    with pytest.raises(SceneError, match=r"no file of the folder is named as a band.*--sensor landsat8"):
        open_source(folder, RGBN)
    with pytest.raises(SceneError, match="does not say what its numbers mean"):
        open_source(folder, RGBN, sensor="landsat8")
    source = open_source(folder, RGBN, sensor="landsat8", radiometry="dn:0,0.0001")
    assert isinstance(source, StackSource)
    assert source.feeds[3] == "nir (845 nm): band 4 (B5, 864.7 nm)"
    assert any("QA_PIXEL" in line for line in source.notices)
    write_jp2(folder / "again_B4.tif", numbers_of("B02", 30), 30, driver="GTiff")
    with pytest.raises(SceneError, match="two files are of one band"):
        open_source(folder, RGBN, sensor="landsat8")
    (folder / "again_B4.tif").rename(tmp_path / "B4.tif")
    (folder / f"{folder.name}_SR_B4.TIF").unlink()
    (folder / "x_B4.tif").symlink_to(tmp_path / "B4.tif")
    with pytest.raises(SceneError, match="outside its folder"):
        open_source(folder, RGBN, sensor="landsat8")
    for band, size in (("red", 10), ("green", 10), ("blue", 20)):
        write_jp2(tmp_path / f"mine/{band}.tif", numbers_of("B02", size), size, driver="GTiff")
    assert open_source(tmp_path / "mine", radiometry="dn:0,0.0001").grid.shape == (120, 120)


def item_of(folder: Path, assets: dict, **properties) -> Path:
    path = folder / "item.json"
    said = {"datetime": "2024-06-01T10:10:31Z", **properties}
    path.write_text(
        json.dumps({"type": "Feature", "id": "x", "properties": said, "assets": assets, "links": []})
    )
    return path


def test_a_stac_item_says_which_file_holds_which_band(tmp_path):
    names = {
        "red": ("B04", 0.6646),
        "green": ("B03", 0.5598),
        "blue": ("B02", 0.4924),
        "nir08": ("B8A", 0.8647),
    }
    old, new = {}, {}
    for at, (colour, (name, um)) in enumerate(names.items()):
        numbers = np.full((40, 40), 3000 + 100 * at, np.uint16)
        write_jp2(tmp_path / f"{name}.tif", numbers, 10, hole=20, driver="GTiff")
        asset = {"href": f"./{name}.tif", "type": "image/tiff; application=geotiff"}
        scaled = {"scale": 1e-4, "offset": -0.1}
        old[colour] = {
            **asset, "eo:bands": [{"name": name, "common_name": colour, "center_wavelength": um}],
            "raster:bands": [{"nodata": 0, **scaled}],
        }  # fmt: skip
        new[colour] = {
            **asset, "bands": [{"name": name, "eo:common_name": colour, "nodata": 0}],
            "eo:center_wavelength": um, **{f"raster:{key}": value for key, value in scaled.items()},
        }  # fmt: skip
    new["B04.jp2"] = {**new["red"], "href": "./gone.jp2", "type": "image/jp2"}
    old["thumbnail"] = {"href": "./t.png", "roles": ["thumbnail"]}
    for assets in (old, new):
        source = open_source(item_of(tmp_path, assets), RGBN)
        assert source.channels == (1, 2, 3, 4)
        assert source.feeds[3] == "nir (845 nm): band 4 (B8A, 864.7 nm)"
        values, valid = source.read(source.grid.window)
        assert values[:, 5, 5] == pytest.approx([0.2, 0.21, 0.22, 0.23])
        assert np.flatnonzero(~valid.all(axis=0)).tolist() == [0, 1]
    # Earth Search says of these items that their offset is in the numbers already.
    source = open_source(item_of(tmp_path, old, **{"earthsearch:boa_offset_applied": True}), RGBN)
    assert source.read(source.grid.window).values[0, 5, 5] == pytest.approx(0.3)
    said = open_source(item_of(tmp_path, old), RGBN, radiometry="dn:0,0.0002")
    assert said.read(said.grid.window).values[0, 5, 5] == pytest.approx(0.6)
    assert source.tags()["ACQUISITIONDATETIME"] == "2024-06-01T10:10:31Z"
    old["red"]["href"] = "../B04.tif"
    with pytest.raises(SpectileError, match="outside the collection's folder"):
        open_source(item_of(tmp_path, old), RGBN)
    old["red"]["href"] = "http://127.0.0.1:1/B04.tif"
    with pytest.raises(SpectileError):
        open_source(item_of(tmp_path, old), RGBN)


def test_a_stac_item_describes_the_bands_of_its_one_file(tmp_path, write_scene):
    numbers = np.arange(1, 5, dtype=np.uint16)[:, None, None] * 1000 + np.zeros((4, 9, 9), np.uint16)
    write_scene(numbers, "naip.tif")
    bands = [{"name": name, "common_name": name.lower()} for name in ("Red", "Green", "Blue", "NIR")]
    image = {"href": "./naip.tif", "type": "image/tiff", "eo:bands": bands}
    path = item_of(tmp_path, {"image": image})
    source = open_source(path, RGBN, radiometry="dn:0,0.0001")
    assert source.channels == (1, 2, 3, 4)
    assert source.read(source.grid.window).values[:, 4, 4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert open_source(path, RGB_SCENE, radiometry="dn:0,0.0001").channels == (1, 2, 3)
    image["eo:bands"] = [{"name": "lidar"}, *bands]
    with pytest.raises(SceneError, match=r"naip.tif: the file lacks a band.*4 band\(s\), expected band 5"):
        open_source(item_of(tmp_path, {"image": image}), RGBN, radiometry="dn:0,0.0001")
    del image["eo:bands"]
    with pytest.raises(SceneError, match="4 band"):
        open_source(item_of(tmp_path, {"image": image}), RGBN, radiometry="dn:0,0.0001")
    for text in ("{}", "[]", "{", '{"type": "Feature", "assets": 3}'):
        path.write_text(text)
        with pytest.raises(SpectileError, match=r"item\.json"):
            open_source(path)


def test_products_are_scenes_of_lines_and_of_inboxes(tmp_path, write_scene):
    safe = write_safe(tmp_path)
    write_scene(np.ones((3, 9, 9), np.uint8), "a.tif")
    assert [scene.name for scene in list_scenes([str(tmp_path)])] == [safe.name, "a.tif"]
    assert list_scenes([str(safe)])[0].place == str(safe)
    first, second = list_arrivals(str(tmp_path))
    assert {first.name, second.name} == {safe.name.removesuffix(".SAFE"), "a"}
    product = first if first.place == str(safe) else second
    before = look(product).state
    assert before == look(product).state
    next(safe.rglob("*_B04_10m.jp2")).write_bytes(b"other")
    assert look(product).state != before
    (safe / "MTD_MSIL2A.xml").unlink()
    assert [arrival.name for arrival in list_arrivals(str(tmp_path))] == ["a"]


def test_a_stack_shows_only_what_lies_in_its_polygon(tmp_path, safe):
    lon, lat = transform(
        "EPSG:32633", "EPSG:4326", [300_203, 300_703, 300_453], [5_799_817] * 2 + [5_799_017]
    )
    ring = [*zip(lon, lat, strict=True), (lon[0], lat[0])]
    (tmp_path / "clip.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    whole = open_source(safe, S2)
    clip = read_clip(str(tmp_path / "clip.geojson")).on(whole.grid)
    source = pickle.loads(pickle.dumps(replace(whole, clip=clip)))
    assert clip.window.shape[0] == pytest.approx(80, abs=1)
    for window in (source.grid.window, clip.window, Window(-9, 20, 50, 40)):
        values, valid = source.read(window)
        before = whole.read(window)
        there = whole.grid.window.intersection(window)
        inside = clip.inside(there)
        np.testing.assert_array_equal(valid[there.relative_to(window).slices], inside)
        np.testing.assert_array_equal(values[:, valid], before.values[:, valid])
        assert np.isnan(values[:, ~valid]).all()


def test_an_item_of_bands_arrives_in_an_inbox_and_its_files_are_checked(tmp_path):
    assets = {}
    for colour in ("red", "green", "blue"):
        write_jp2(tmp_path / f"{colour}.tif", numbers_of("B02", 60), 60, driver="GTiff")
        bands = [{"name": colour, "eo:common_name": colour, "raster:scale": 1e-4}]
        assets[colour] = {"href": f"./{colour}.tif", "type": "image/tiff", "bands": bands}
    item = item_of(tmp_path, assets)
    (tmp_path / "catalog.json").write_text(
        json.dumps({"type": "Catalog", "links": [{"rel": "item", "href": "./item.json"}]})
    )
    for inbox in (item, tmp_path / "catalog.json"):
        (arrival,) = list_arrivals(str(inbox))
        assert (arrival.name, arrival.place) == ("x", str(item))
        seen = look(arrival)
        assert seen.problem is None
        assert seen == look(seen)
        assert isinstance(open_source(arrival.place), StackSource)
    write_jp2(tmp_path / "blue.tif", numbers_of("B03", 60), 60, driver="GTiff")
    assert look(arrival).state != seen.state
    png = write_jp2(tmp_path / "green.tif", numbers_of("B02", 60), 60, driver="PNG")
    assert "may not name a file of this format" in str(look(arrival).problem)
    png.write_text("<VRTDataset/>")
    assert "not a raster that can be opened" in str(look(arrival).problem)
    png.unlink()
    assert "no such file" in str(look(arrival).problem)
    assets["green"]["href"] = "https://example.com/green.tif"
    item_of(tmp_path, assets)
    known = look(arrival)
    assert (known.problem, known.state) == (None, None), "nobody looks whether a URL has changed"
