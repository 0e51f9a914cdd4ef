"""A scene leads GDAL to no other file and to no server, whatever its bytes and its neighbours say."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from spectile.catalog.errors import SceneError, UsageError
from spectile.pipeline.files.opening import MOST_IMAGES, check_size
from spectile.pipeline.scene.source import open_source
from tests.hostile.servers import listening

SECRET = b"SECRET" * 1000


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that no scene may show."""
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "secret"
    path.write_bytes(SECRET)
    return path


def _vrt_of(secret: Path, side: int = 64) -> str:
    """A VRT whose bands are the bytes of a file."""
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}" subClass="VRTRawRasterBand">'
        f'<SourceFilename relativeToVRT="0">{secret}</SourceFilename><ImageOffset>0</ImageOffset>'
        f"<PixelOffset>1</PixelOffset><LineOffset>{side}</LineOffset></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    return (
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><SRS>EPSG:32619</SRS>'
        f"<GeoTransform>320000, 0.5, 0, 4881000, 0, -0.5</GeoTransform>{bands}</VRTDataset>"
    )


def _web_service(url: str) -> str:
    """A description of a web map service, as GDAL's driver WMS takes it."""
    return (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{url}/${{z}}/${{x}}/${{y}}.png</ServerUrl></Service>'
        "<DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>100</UpperLeftY><LowerRightX>100</LowerRightX>"
        "<LowerRightY>0</LowerRightY><SizeX>64</SizeX><SizeY>64</SizeY></DataWindow><BandsCount>3</BandsCount>"
        "<Projection>EPSG:32619</Projection></GDAL_WMS>"
    )


@pytest.mark.parametrize("name", ["scene.tif", "scene.vrt", "scene.png"])
def test_a_vrt_of_another_file_is_refused_whatever_its_ending(tmp_path, secret, name):
    (tmp_path / name).write_text(_vrt_of(secret))
    with rasterio.open(tmp_path / name) as dataset:
        assert dataset.read(1).tobytes()[:6] == b"SECRET", "GDAL by itself would show it"
    with pytest.raises(SceneError, match="not a raster that can be opened"):
        open_source(tmp_path / name)


@pytest.mark.parametrize("ending", ["ovr", "msk"])
def test_a_vrt_in_the_place_of_overviews_or_a_mask_is_refused(make_scene, secret, ending):
    path = make_scene((128, 128))
    Path(f"{path}.{ending}").write_text(_vrt_of(secret, 64 if ending == "ovr" else 128))
    with pytest.raises(SceneError, match=rf"\.{ending}: it refers to other files"):
        open_source(path)


def test_metadata_that_names_other_overviews_is_refused(make_scene, secret):
    path = make_scene((128, 128))
    elsewhere = secret.with_name("overviews.vrt")
    elsewhere.write_text(_vrt_of(secret))
    beside = Path(f"{path}.aux.xml")
    beside.write_text(
        '<PAMDataset><Metadata domain="OVERVIEWS">'
        f'<MDI key="OVERVIEW_FILE">{elsewhere}</MDI></Metadata></PAMDataset>'
    )
    with pytest.raises(SceneError, match="it refers to other files"):
        open_source(path)
    beside.unlink()
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(elsewhere))
    with pytest.raises(SceneError, match="it refers to other files"):
        open_source(path)


def _mosaic(source: str, *, relative: int = 1, more: str = "") -> str:
    """A VRT that shows one file as it is."""
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename><SourceBand>{band}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    return (
        '<VRTDataset rasterXSize="53" rasterYSize="37"><SRS>EPSG:32619</SRS>'
        f"<GeoTransform>320000, 0.5, 0, 4881000, 0, -0.5</GeoTransform>{bands}{more}</VRTDataset>"
    )


def test_a_vrt_that_is_allowed_shows_tiffs_beside_it(make_scene):
    path = make_scene()
    vrt = path.with_name("mosaic.vrt")
    vrt.write_text(_mosaic(path.name))
    with pytest.raises(SceneError, match="--allow-vrt"):
        open_source(vrt)
    ours, plain = open_source(vrt, allow_vrt=True), open_source(path)
    np.testing.assert_array_equal(ours.read(ours.grid.window)[0], plain.read(plain.grid.window)[0])
    before = ours.identity()
    path.write_bytes(make_scene(seed=2).read_bytes())
    assert open_source(vrt, allow_vrt=True).identity() != before


def test_a_vrt_that_is_allowed_shows_nothing_else(make_scene, secret, tmp_path):
    path = make_scene()
    (tmp_path / "inner").mkdir()
    vrt = tmp_path / "inner" / "mosaic.vrt"
    (vrt.parent / "link.tif").symlink_to(path)
    (vrt.parent / "raw.tif").write_text(_vrt_of(secret))
    (vrt.parent / "plain.tif").write_bytes(path.read_bytes())
    raw = _vrt_of(secret)
    for text in (
        _mosaic("../scene.tif"),
        _mosaic(str(path), relative=0),
        _mosaic("link.tif"),
        _mosaic("raw.tif"),
        _mosaic("missing.tif"),
        _mosaic("/vsicurl/http://127.0.0.1:9/a.tif", relative=0),
        _mosaic("plain.tif", more=f"<OverviewList>2</OverviewList><Overview>{path}</Overview>"),
        _mosaic("plain.tif").replace("<SimpleSource>", f'<SimpleSource SourceFilename="{secret}">'),
        _mosaic("plain.tif").replace("relativeToVRT", "relativetoVRT").replace('"1"', '"01"'),
        _mosaic("plain.tif", more='<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">x</MDI></Metadata>'),
        f'<!DOCTYPE a [<!ENTITY b SYSTEM "file://{secret}">]>' + _mosaic("plain.tif"),
        raw,
        "<VRTDataset",
    ):
        vrt.write_text(text)
        with pytest.raises(SceneError):
            open_source(vrt, allow_vrt=True)
    vrt.write_text(_mosaic("plain.tif"))
    assert open_source(vrt, allow_vrt=True).grid.shape == (37, 53), "what is left is a scene"


def test_a_description_of_a_web_service_asks_no_server(tmp_path):
    with listening() as server:
        for name in ("scene.tif", "scene.xml"):
            (tmp_path / name).write_text(_web_service(server.url))
            with pytest.raises(SceneError, match="not a raster that can be opened"):
                open_source(tmp_path / name)
        assert server.requests == []


@pytest.mark.parametrize(
    "name",
    [
        "/vsicurl/{}/a.tif", "vsicurl/{}/a.tif", "/vsizip/{}/a.zip/a.tif", "/vsimem/a.tif",
        "GTIFF_DIR:1:{}/a.tif", "vrt://{}/a.tif", "WMS:{}/wms", "WMTS:{}/a.xml", "ZARR:/vsicurl/{}/a",
        "DERIVED_SUBDATASET:AMPLITUDE:{}/a.tif", "STACTA:{}/a.json", "<VRTDataset>{}</VRTDataset>",
        "<GDAL_WMS>{}</GDAL_WMS>",
    ],
)  # fmt: skip
def test_gdal_s_own_kinds_of_names_ask_no_server(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with listening() as server:
        place = name.format(server.url)
        with pytest.raises(UsageError):
            open_source(place)
        assert server.requests == []


def _with_images(path: Path, count: int, *, overviews: bool = False) -> None:
    """Write the first image of a TIFF again and again after it, or say that they are its overviews."""
    raw = bytearray(path.read_bytes())
    first = struct.unpack("<I", raw[4:8])[0]
    entries = struct.unpack("<H", raw[first : first + 2])[0]
    directory = bytes(raw[first : first + 2 + 12 * entries])
    at = len(raw)
    raw[first + len(directory) : first + len(directory) + 4] = struct.pack("<I", at)
    if overviews:
        reduced = struct.pack("<HHHII", entries + 1, 254, 4, 1, 1)
        directory = reduced + directory[2:]
    for number in range(1, count + 1):
        following = at + number * (len(directory) + 4) if number < count else 0
        raw += directory + struct.pack("<I", following)
    path.write_bytes(raw)


@pytest.mark.parametrize("overviews", [False, True])
def test_a_file_of_very_many_images_is_refused_before_gdal_counts_them(make_scene, overviews):
    path = make_scene()
    _with_images(path, 3, overviews=overviews)
    assert open_source(path).grid.shape == (37, 53)
    path = make_scene(seed=2)
    _with_images(path, MOST_IMAGES + 5, overviews=overviews)
    with pytest.raises(SceneError, match="too many images"):
        open_source(path)
    if not overviews:  # as it is done for URLs
        with rasterio.open(path) as dataset, pytest.raises(SceneError, match="too many images"):
            check_size(dataset, "a URL")
    path.rename(f"{path}.ovr")
    with pytest.raises(SceneError, match=r"\.ovr: the file holds too many images"):
        open_source(make_scene(seed=3))


def test_overviews_of_erdas_beside_a_scene_are_refused(write_scene):
    path = write_scene(np.full((3, 256, 256), 50, np.uint8))
    beside = path.with_suffix(".aux")
    with rasterio.open(
        beside, "w", driver="HFA", width=256, height=256, count=3, dtype="uint8", crs="EPSG:32619",
        transform=rasterio.Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000), DEPENDENT_FILE=path.name,
        USE_SPILL="YES",
    ) as made:  # fmt: skip
        made.write(np.full((3, 256, 256), 200, np.uint8))
    with rasterio.open(beside, "r+", driver="HFA") as made:
        made.build_overviews([4])
    with rasterio.open(path) as dataset:
        assert (dataset.read(1, out_shape=(64, 64)) == 200).all(), "GDAL shows what a third file holds"
    with pytest.raises(SceneError, match="it refers to other files"):
        open_source(path)


def test_an_envi_header_that_takes_gdal_long_is_refused(tmp_path):
    (tmp_path / "scene.img").write_bytes(b"\7" * 1800)
    for more in ("".join(f"k{number} = 1\n" for number in range(2000)), "x" * 5_000_000):
        (tmp_path / "scene.hdr").write_text(f"ENVI\nsamples = 20\nlines = 30\nbands = 3\n{more}")
        with pytest.raises(SceneError, match="header is too long"):
            open_source(tmp_path / "scene.img")


def _resized(path: Path, tags: dict[int, int]) -> None:
    """Change numbers in the first directory of a little-endian TIFF."""
    raw = bytearray(path.read_bytes())
    first = struct.unpack("<I", raw[4:8])[0]
    for entry in range(struct.unpack("<H", raw[first : first + 2])[0]):
        at = first + 2 + 12 * entry
        tag = struct.unpack("<H", raw[at : at + 2])[0]
        if tag in tags:
            raw[at : at + 12] = struct.pack("<HHII", tag, 4, 1, tags[tag])
    path.write_bytes(raw)


WIDTH, HEIGHT, ROWS_A_STRIP = 256, 257, 278


@pytest.mark.parametrize("side", [100_000, 2**31 - 1])
@pytest.mark.parametrize("tiled", [True, False])
@pytest.mark.parametrize("measure", [True, False])
def test_a_small_file_that_says_it_is_huge_is_refused(write_scene, side, tiled, measure):
    options = {"tiled": True, "blockxsize": 64, "blockysize": 64} if tiled else {}
    path = write_scene(np.ones((3, 64, 64), np.uint8), **options)
    _resized(path, {WIDTH: side, HEIGHT: side})
    with pytest.raises(SceneError, match=r"too small for its image size|too large|can be opened"):
        open_source(path, measure=measure)


def test_envi_data_that_are_cut_off_are_refused(tmp_path):
    header = (
        "ENVI\nsamples = 20\nlines = 30\nbands = 3\ndata type = 1\ninterleave = bip\n"
        "map info = {UTM, 1, 1, 320000, 4881000, 0.5, 0.5, 19, North, WGS-84}\n"
    )
    (tmp_path / "scene.hdr").write_text(header)
    (tmp_path / "scene.img").write_bytes(b"\7" * 1800)
    assert open_source(tmp_path / "scene.img").grid.shape == (30, 20)
    (tmp_path / "scene.img").write_bytes(b"\7" * 1799)
    with pytest.raises(SceneError, match="too small for its image size"):
        open_source(tmp_path / "scene.img")
    (tmp_path / "scene.img").write_bytes(gzip.compress(b"\7" * 1800))
    packed = header.replace("bands", "file compression = 1\nbands")
    (tmp_path / "scene.hdr").write_text(packed)
    before = set(tmp_path.iterdir())
    assert open_source(tmp_path / "scene.img").grid.shape == (30, 20)
    assert set(tmp_path.iterdir()) == before, "GDAL would note beside it how large it is"
    (tmp_path / "scene.hdr").write_text(packed.replace("lines = 30", "lines = 30000"))
    with pytest.raises(SceneError, match="too small for its image size"):
        open_source(tmp_path / "scene.img")


def test_an_empty_sparse_file_of_many_pixels_is_a_scene(write_scene, tmp_path):
    with rasterio.open(
        tmp_path / "sparse.tif", "w", driver="GTiff", width=20_000, height=20_000, count=3, dtype="uint8",
        crs="EPSG:32619", transform=rasterio.Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000), tiled=True,
        blockxsize=512, blockysize=512, sparse_ok=True, photometric="RGB",
    ) as dataset:  # fmt: skip
        dataset.write(np.full((3, 512, 512), 9, np.uint8), window=rasterio.windows.Window(0, 0, 512, 512))
    assert (tmp_path / "sparse.tif").stat().st_size < 1_000_000
    assert open_source(tmp_path / "sparse.tif", measure=False).grid.shape == (20_000, 20_000)


def test_one_huge_tile_is_refused_before_it_takes_memory(tmp_path):
    program = """
import sys, resource
import rasterio
from spectile.catalog.errors import SceneError
from spectile.pipeline.scene.source import open_source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    open_source(sys.argv[1])
except SceneError as err:
    print(err)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    path = tmp_path / "tile.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=32_768, height=32_768, count=3, dtype="uint8", crs="EPSG:32619",
        transform=rasterio.Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000), tiled=True, blockxsize=32_768,
        blockysize=32_768, sparse_ok=True,
    ):  # fmt: skip
        pass
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    told, grown = done.stdout.splitlines()
    assert "blocks are too large" in told
    assert int(grown) < 100_000  # kB
