"""Files that are odd in ways that chance does not find."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from benchmarks.fuzz.mutants import PLACE

Odd = Callable[[Path, np.random.Generator], "Path | str"]


def write_odd(folder: Path, seed: int, number: int) -> tuple[str, str | None, str]:
    """Write one; its path, its radiometry, and what it is."""
    names = sorted(ODD)
    name = names[number % len(names)]
    rng = np.random.default_rng([seed, 10**6 + number])
    return str(ODD[name](folder, rng)), None, name


def _scene(folder: Path, values: np.ndarray, name: str = "scene.tif", **options: object) -> Path:
    settled = {
        "driver": "GTiff", "count": values.shape[0], "height": values.shape[1], "width": values.shape[2],
        "dtype": values.dtype, "crs": "EPSG:32619", "transform": PLACE, **options,
    }  # fmt: skip
    later = {key: settled.pop(key) for key in ("scales", "colorinterp") if key in settled}
    with rasterio.open(folder / name, "w", **settled) as dataset:
        dataset.write(values)
        for key, value in later.items():
            setattr(dataset, key, value)
    return folder / name


def _bytes(rng: np.random.Generator, bands: int = 3, shape: tuple[int, int] = (60, 70)) -> np.ndarray:
    return rng.integers(1, 250, (bands, *shape), dtype=np.uint8)


def _with(beside: str, text: str) -> Odd:
    """A sound scene with a text file beside it; ``{}`` is a file that it must not show."""

    def write(folder: Path, rng: np.random.Generator) -> Path:
        (folder / "secret").write_bytes(b"SECRET" * 3000)
        path = _scene(folder, _bytes(rng, shape=(128, 128)))
        (folder / f"scene.{beside}").write_text(text.replace("{}", str(folder / "secret")))
        return path

    return write


def _alone(name: str, text: str | bytes) -> Odd:
    """A file of some bytes."""

    def write(folder: Path, rng: np.random.Generator) -> Path:
        (folder / "secret").write_bytes(b"SECRET" * 3000)
        raw = text.replace("{}", str(folder / "secret")).encode() if isinstance(text, str) else text
        (folder / name).write_bytes(raw)
        return folder / name

    return write


def _of(values: Callable[[np.random.Generator], np.ndarray], **options: object) -> Odd:
    return lambda folder, rng: _scene(folder, values(rng), **options)


def _raw_vrt(side: int) -> str:
    band = (
        '<VRTRasterBand dataType="Byte" band="{b}" subClass="VRTRawRasterBand">'
        "<SourceFilename>{}</SourceFilename>"
        f"<PixelOffset>1</PixelOffset><LineOffset>{side}</LineOffset></VRTRasterBand>"
    )
    place = "<SRS>EPSG:32619</SRS><GeoTransform>0, 1, 0, 0, 0, -1</GeoTransform>"
    bands = "".join(band.replace("{b}", str(number)) for number in (1, 2, 3))
    return f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}">{place}{bands}</VRTDataset>'


def _envi(lines: int, bytes_there: int) -> Odd:
    def write(folder: Path, rng: np.random.Generator) -> Path:
        (folder / "scene.img").write_bytes(rng.bytes(bytes_there))
        (folder / "scene.hdr").write_text(
            f"ENVI\nsamples = 60\nlines = {lines}\nbands = 3\ndata type = 1\ninterleave = bsq\n"
            "map info = {UTM, 1, 1, 320000, 4881000, 0.5, 0.5, 19, North, WGS-84}\n"
        )
        return folder / "scene.img"

    return write


def _resized(tags: dict[int, int]) -> Odd:
    """A tiled scene with other numbers in its directory: 256 is the width, 257 the height, 322 a tile's."""

    def write(folder: Path, rng: np.random.Generator) -> Path:
        path = _scene(folder, _bytes(rng), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
        raw = bytearray(path.read_bytes())
        first = struct.unpack("<I", raw[4:8])[0]
        for at in range(first + 2, first + 2 + 12 * struct.unpack("<H", raw[first : first + 2])[0], 12):
            tag = struct.unpack("<H", raw[at : at + 2])[0]
            if tag in tags:
                raw[at : at + 12] = struct.pack("<HHII", tag, 4, 1, tags[tag])
        path.write_bytes(raw)
        return path

    return write


def _many_images(folder: Path, rng: np.random.Generator) -> Path:
    path = _scene(folder, _bytes(rng))
    for _ in range(3):  # each append copies the whole list, so that a few images make a loop's length
        raw = path.read_bytes()
        first = struct.unpack("<I", raw[4:8])[0]
        size = 2 + 12 * struct.unpack("<H", raw[first : first + 2])[0]
        chain = b"".join(
            raw[first : first + size] + struct.pack("<I", len(raw) + (number + 1) * (size + 4))
            for number in range(4000)
        )
        head = raw[: first + size] + struct.pack("<I", len(raw)) + raw[first + size + 4 :]
        path.write_bytes(head + chain[:-4] + b"\0" * 4)
    return path


def _sparse(side: int, block: int) -> Odd:
    def write(folder: Path, rng: np.random.Generator) -> Path:
        path = folder / "scene.tif"
        with rasterio.open(
            path, "w", driver="GTiff", count=3, height=side, width=side, dtype="uint8", crs="EPSG:32619",
            transform=PLACE, tiled=True, blockxsize=block, blockysize=block, sparse_ok=True,
        ):  # fmt: skip
            pass
        return path

    return write


def _link_loop(folder: Path, rng: np.random.Generator) -> Path:
    (folder / "a.tif").symlink_to("b.tif")
    (folder / "b.tif").symlink_to("a.tif")
    return folder / "a.tif"


def _socket(folder: Path, rng: np.random.Generator) -> Path:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "s"))
    return folder / "s"


def _pipe(folder: Path, rng: np.random.Generator) -> Path:
    os.mkfifo(folder / "scene.tif")
    return folder / "scene.tif"


def _pipe_beside(folder: Path, rng: np.random.Generator) -> Path:
    os.mkfifo(folder / "scene.tif.aux.xml")
    return _scene(folder, _bytes(rng))


def _folder(folder: Path, rng: np.random.Generator) -> Path:
    (folder / "scene.tif").mkdir()
    return folder / "scene.tif"


def _no_utf_8(folder: Path, rng: np.random.Generator) -> str:
    path = os.fsencode(_scene(folder, _bytes(rng)))
    os.rename(path, path.replace(b"scene", b"latin\xff"))
    return os.fsdecode(path.replace(b"scene", b"latin\xff"))


def _hdf5(folder: Path, rng: np.random.Generator) -> Path:
    with h5py.File(folder / "scene.tif", "w") as file:
        file["rgb"] = _bytes(rng)
    return folder / "scene.tif"


def _broken_jpeg_2000(folder: Path, rng: np.random.Generator) -> Path:
    path = _scene(folder, _bytes(rng), "scene.jp2", driver="JP2OpenJPEG")
    raw = bytearray(path.read_bytes())
    raw[int(rng.integers(len(raw) // 2, len(raw)))] ^= 255
    path.write_bytes(raw)
    return path


def _picture(driver: str, ending: str) -> Odd:
    def write(folder: Path, rng: np.random.Generator) -> Path:
        path = _scene(folder, _bytes(rng), f"scene.{ending}", driver=driver)
        (folder / f"scene.{ending}.aux.xml").write_text(
            "<PAMDataset><SRS>EPSG:32619</SRS><GeoTransform>320000, 0.5, 0, 4881000, 0, -0.5</GeoTransform>"
            "</PAMDataset>"
        )
        return path

    return write


def _points(folder: Path, rng: np.random.Generator) -> Path:
    points = [GroundControlPoint(r, c, c, -r) for r, c in ((0, 0), (0, 20), (20, 0), (20, 20))]
    return _scene(folder, _bytes(rng), gcps=points, transform=None)


def _numbers(kind: str) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: rng.random((3, 60, 70)).astype(kind)


def _value(value: float) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: np.full((3, 60, 70), value, np.float32)


def _world(first: str) -> Odd:
    def write(folder: Path, rng: np.random.Generator) -> Path:
        path = _scene(folder, _bytes(rng), transform=None)
        (folder / "scene.tfw").write_text(f"{first}\n0\n0\n-0.5\n320000\n4881000\n")
        return path

    return write


_WEB = "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9/${z}</ServerUrl></Service></GDAL_WMS>"
_ELSEWHERE = (
    '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{}</MDI></Metadata></PAMDataset>'
)
_RGBNA = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined, ColorInterp.alpha]

ODD: dict[str, Odd] = {
    "a pipe": _pipe,
    "a pipe beside": _pipe_beside,
    "a socket": _socket,
    "a folder": _folder,
    "a loop of links": _link_loop,
    "no UTF-8": _no_utf_8,
    "a device": lambda folder, rng: "/dev/zero",
    "nothing": _alone("scene.tif", b""),
    "four bytes": _alone("scene.tif", b"II*\0"),
    "text": _alone("scene.tif", "no raster"),
    "HDF5": _hdf5,
    "gzip": _alone("scene.tif", b"\x1f\x8b\x08" * 99),
    "SQLite": _alone("scene.tif", b"SQLite format 3\0" * 99),
    "a missing file": lambda folder, rng: folder / "a.tif",
    "VRT of a raw file": _alone("scene.tif", _raw_vrt(64)),
    "VRT": _alone("scene.vrt", _raw_vrt(64)),
    "web service": _alone("scene.tif", _WEB),
    "VRT as overviews": _with("tif.ovr", _raw_vrt(64)),
    "VRT as mask": _with("tif.msk", _raw_vrt(128)),
    "overviews elsewhere": _with("tif.aux.xml", _ELSEWHERE),
    "broken side-car": _with("tif.aux.xml", "<PAMDataset"),
    "statistics": _with("tif.aux.xml", "<PAMDataset/>"),
    "a virtual path": lambda folder, rng: "/vsicurl/http://127.0.0.1:9/a.tif",
    "many images": _many_images,
    "100,000 px": _resized({256: 100_000, 257: 100_000}),
    "2^31 px": _resized({256: 2**31 - 1, 257: 2**31 - 1}),
    "one long row": _resized({256: 2**31 - 1}),
    "a huge tile": _resized({322: 65_536, 323: 65_536}),
    "an odd tile": _resized({322: 16}),
    "sparse, empty": _sparse(3_000, 512),
    "sparse, one tile": _sparse(32_768, 32_768),
    "scale 0": _of(_bytes, scales=(0.0,) * 3),
    "scale NaN": _of(_bytes, scales=(float("nan"),) * 3),
    "scale infinite": _of(_bytes, scales=(float("inf"),) * 3),
    "scale 1e-300": _of(_bytes, scales=(1e-300,) * 3),
    "world file NaN": _world("nan"),
    "world file inf": _world("inf"),
    "world file 1e308": _world("1e308"),
    "no CRS": _of(_bytes, crs=None),
    "no place": _of(_bytes, transform=None),
    "points": _points,
    "rotated": _of(_bytes, transform=PLACE @ Affine.rotation(30)),
    "degrees": _of(_bytes, crs="EPSG:4326"),
    "degrees, sound": _of(_bytes, crs="EPSG:4326", transform=Affine(1e-5, 0, 10, 0, -1e-5, 50)),
    "polar": _of(_bytes, crs="EPSG:3031"),
    "US feet": _of(_bytes, crs="EPSG:2263"),
    "an engineering CRS": _of(_bytes, crs='LOCAL_CS["site",UNIT["metre",1]]'),
    "geocentric": _of(_bytes, crs="EPSG:4978"),
    "far away": _of(_bytes, transform=Affine(1, 0, 1e30, 0, -1, 1e30)),
    "tiny pixels": _of(_bytes, transform=Affine(1e-12, 0, 0, 0, -1e-12, 0)),
    "south up": _of(_bytes, transform=Affine(0.5, 0, 320_000, 0, 0.5, 4_881_000)),
    "one band": _of(lambda rng: _bytes(rng, 1)),
    "two bands": _of(lambda rng: _bytes(rng, 2)),
    "RGB, infrared, alpha": _of(lambda rng: _bytes(rng, 5), photometric="RGB", colorinterp=_RGBNA),
    "one pixel": _of(lambda rng: _bytes(rng, 3, (1, 1))),
    "one row": _of(lambda rng: _bytes(rng, 3, (1, 300))),
    "one column": _of(lambda rng: _bytes(rng, 3, (300, 1))),
    "complex": _of(_numbers("complex64")),
    "float64": _of(_numbers("float64")),
    "int16": _of(lambda rng: _bytes(rng).astype("int16")),
    "int8": _of(lambda rng: (_bytes(rng) // 2).astype("int8")),
    "uint32": _of(lambda rng: _bytes(rng).astype("uint32")),
    "all NaN": _of(_value(np.nan)),
    "all infinite": _of(_value(np.inf)),
    "floats of 1e30": _of(_value(1e30)),
    "floats of -1e30": _of(_value(-1e30)),
    "floats of 0": _of(_value(0.0)),
    "black": _of(lambda rng: 0 * _bytes(rng)),
    "nodata NaN": _of(_numbers("float32"), nodata=float("nan")),
    "all nodata": _of(lambda rng: 0 * _bytes(rng), nodata=0),
    "bands apart": _of(_bytes, interleave="band"),
    "BigTIFF": _of(_bytes, bigtiff="YES"),
    "big-endian": _of(_bytes, endianness="BIG"),
    "CMYK": _of(lambda rng: _bytes(rng, 4), photometric="CMYK"),
    "one strip": _of(_bytes, blockysize=60, compress="deflate"),
    "PNG": _picture("PNG", "png"),
    "JPEG": _picture("JPEG", "jpg"),
    "JPEG 2000": _of(_bytes, name="scene.jp2", driver="JP2OpenJPEG"),
    "broken JPEG 2000": _broken_jpeg_2000,
    "ENVI": _envi(50, 9000),
    "ENVI, cut": _envi(50, 4000),
    "ENVI, 2^31 rows": _envi(2**31 - 1, 9000),
}
