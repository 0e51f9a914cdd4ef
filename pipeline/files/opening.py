"""Which files are opened as scenes, with which of GDAL's drivers, and how large they may be.

GDAL detects the format by itself, and some formats refer to other files: a VRT or a description of a web
service can have any suffix and name any file or server. So the driver is chosen here, by name, and the files
beside a scene are checked before GDAL opens them.
"""

from __future__ import annotations

import os
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from spectile.catalog.errors import SceneError
from spectile.catalog.sizes import width_by_height
from spectile.catalog.urls import Location, locate
from spectile.pipeline.files.remote import gdal_path, reading
from spectile.pipeline.files.vrt import vrt_sources

MOST_PIXELS = 2**40
"""Pixels of the largest scene: a country at a decimetre per pixel."""
MOST_BLOCK_BYTES = 2**30
"""Decoded bytes of the largest block of a file, with all its bands. GDAL decodes whole blocks."""
MOST_IMAGES = 1000
"""Most images in one file, overviews among them; reading the headers of many takes long."""
MOST_HEADER_BYTES = 4_000_000
"""Bytes of the longest ENVI header."""
MOST_HEADER_FIELDS = 1000
"""Fields of an ENVI header; GDAL's time grows with their square."""
MOST_RATIO = 2**20
"""Most decoded bytes per byte of a file, checked above MOST_BLOCK_BYTES. An empty block of a sparse file
takes 16 bytes."""

MOST_DEFLATED = 1032
"""Most decoded bytes per byte that deflate reaches."""

_STARTS = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
}
_JPEG_2000 = (".jp2", ".j2k", ".jpx")
_KINDS = {
    stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip
_ALONE = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}


def open_raster(place: str, *, alone: bool = False, allow_vrt: bool = False) -> rasterio.DatasetReader:
    """The scene at a path or URL, opened by one of the drivers of ``docs/command-line.md``.

    Parameters
    ----------
    alone : ignore files beside it (for URLs this is always so); the georeference may then be missing.
    allow_vrt : accept a VRT too, if it is a mosaic of TIFFs in its folder or below.

    Raises
    ------
    SceneError : it is missing, not a file, of another format, larger than its bytes allow, or refers to
        files elsewhere.
    """
    where = locate(place)
    if isinstance(where, Location):
        driver = "JP2OpenJPEG" if where.key.lower().endswith(_JPEG_2000) else "GTiff"
    else:
        check_file(where)
        driver = "VRT" if allow_vrt and where.suffix.lower() == ".vrt" else _driver(where)
        alone = alone and driver not in ("ENVI", "VRT")  # they need files beside them
        for shown in (where, *(vrt_sources(where) if driver == "VRT" else ())):
            if shown != where:
                _check_source(shown)
            elif driver == "GTiff":
                _check_images(shown)
            if not alone:
                _check_beside(shown)
    with gdal_errors(place, "not a raster that can be opened"), reading(place):
        dataset = _open(gdal_path(place), driver, alone=alone)
        try:
            check_size(dataset, place)
            _check_overviews(dataset, place)
        except BaseException:
            dataset.close()
            raise
    return dataset


@contextmanager
def gdal_errors(where: str, what: str, remedy: str | None = None) -> Iterator[None]:
    """Turn errors of GDAL into a SceneError.

    Raises
    ------
    SceneError : instead of an error of GDAL.
    """
    try:
        yield
    except Exception as err:
        if not is_gdal_error(err):
            raise
        raise SceneError(what, where=where, got=first_line(err), remedy=remedy) from err


def is_gdal_error(err: BaseException) -> bool:
    """Whether an error comes from GDAL: one of rasterio's, or one that rasterio passes on unchanged.

    The latter have no public class. They occur where rasterio does not expect GDAL to fail.
    """
    return isinstance(err, RasterioIOError) or any(
        each.__name__ == "CPLE_BaseError" for each in type(err).__mro__
    )


def first_line(err: BaseException) -> str:
    """The first line of GDAL's message, or of rasterio's if GDAL gives none."""
    return (str(err.__cause__ or err).splitlines() or [repr(err)])[0]


def check_file(path: Path) -> None:
    """Refuse a path that is not a regular file; GDAL would wait for ever at a pipe.

    Raises
    ------
    SceneError : it is missing, not a regular file, or its name is not UTF-8.
    """
    shown = str(path)
    try:
        shown.encode()
        facts = path.stat()
    except UnicodeEncodeError as err:
        raise SceneError("the path is not UTF-8", where=shown, remedy="rename the file") from err
    except FileNotFoundError as err:
        raise SceneError("no such file", where=shown, remedy="check the path of the scene") from err
    except (OSError, ValueError) as err:
        why = err.strerror if isinstance(err, OSError) else str(err)
        raise SceneError("the file cannot be reached", where=shown, got=why) from err
    if not stat.S_ISREG(facts.st_mode):
        raise SceneError(
            "not a file", where=shown, got=_KINDS.get(stat.S_IFMT(facts.st_mode)), expected="a raster"
        )
    if path.absolute().parts[1].startswith("vsi"):
        raise SceneError("GDAL's virtual paths cannot be used", where=shown, remedy="copy the file")


def check_listed(path: Path) -> None:
    """Refuse formats that a catalogue may not name. As for URLs, only GeoTIFF and JPEG 2000 are allowed.

    Raises
    ------
    SceneError : the file has another format.
    """
    check_file(path)
    if (driver := _driver(path)) not in ("GTiff", "JP2OpenJPEG"):
        raise SceneError(
            "a catalogue may not name a file of this format",
            where=str(path),
            got=driver,
            expected="GeoTIFF or JPEG 2000",
        )


def _driver(path: Path) -> str:
    """The name of the driver for a file, from its first bytes; for ENVI from the header beside it."""
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
    except OSError as err:
        raise SceneError("the file cannot be read", where=str(path), got=err.strerror) from err
    for beginning, driver in _STARTS.items():
        if start.startswith(beginning):
            return driver
    for header in (path.with_suffix(".hdr"), path.with_name(f"{path.name}.hdr")):
        if header.is_file() and header.stat().st_size >= 4:
            with header.open("rb") as stream:
                text = stream.read(MOST_HEADER_BYTES + 1)
            if text.startswith(b"ENVI"):
                if len(text) > MOST_HEADER_BYTES or text.count(b"=") > MOST_HEADER_FIELDS:
                    raise SceneError("the ENVI header is too long", where=str(header), remedy="shorten it")
                return "ENVI"
    raise SceneError(
        "not a raster that can be opened",
        where=str(path),
        expected="GeoTIFF, JPEG 2000, PNG or JPEG with a world file, or ENVI",
        remedy="use --allow-vrt, or convert it, e.g. rio convert"
        if path.suffix.lower() == ".vrt"
        else "convert it, e.g. rio convert",
    )


def _check_source(path: Path) -> None:
    """Refuse a file of a VRT that is not TIFF. GDAL would open any format."""
    check_file(path)
    if not is_tiff(path):
        _refuse(path, "not a TIFF")
    _check_images(path)
    with (
        gdal_errors(str(path), "not a raster that can be opened"),
        _open(str(path), "GTiff", alone=True) as dataset,
    ):
        _check_overviews(dataset, str(path))


def _starts(path: Path, beginning: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(beginning)) == beginning


def is_tiff(path: Path) -> bool:
    """Whether a regular file starts as TIFF does."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return _STARTS.get(stream.read(4)) == "GTiff"


def _check_images(path: Path) -> None:
    """Refuse a TIFF of too many images. GDAL would read the header of each before it tells their number."""
    with path.open("rb") as file:
        start = file.read(16).ljust(16, b"\0")
        order = "<" if start.startswith(b"II") else ">"
        big = 43 in start[2:4]
        entry = 20 if big else 12
        count, place = (struct.Struct(order + code) for code in ("QQ" if big else "HI"))
        (at,) = place.unpack_from(start, 8 if big else 4)
        size = os.fstat(file.fileno()).st_size
        seen: set[int] = set()
        while 0 < at < size and at not in seen:
            if len(seen) == MOST_IMAGES:
                raise _too_many_images(path, f"more than {MOST_IMAGES}")
            seen.add(at)
            file.seek(at)
            at += count.size + entry * _number(file, count)
            file.seek(min(at, size))
            at = _number(file, place)


def _number(file: BinaryIO, kind: struct.Struct) -> int:
    """The next number; zero where the file ends before it."""
    (number,) = kind.unpack(file.read(kind.size).ljust(kind.size, b"\0"))
    return int(number)


def _too_many_images(where: object, got: object) -> SceneError:
    return SceneError(
        "the file holds too many images", where=str(where), got=got, expected=f"up to {MOST_IMAGES}",
        remedy="write the scene alone",
    )  # fmt: skip


def _check_beside(path: Path) -> None:
    """Refuse files beside a scene whose content does not match their name.

    GDAL opens an ``.ovr`` and a ``.msk`` with any driver, so either could be a VRT that names any file.
    """
    start = f"{path.stem}.".lower()
    with os.scandir(path.parent) as entries:
        beside = [each for each in entries if each.name.lower().startswith(start) and each.name != path.name]
    for entry in beside:
        name, here = entry.name.lower(), Path(entry.path)
        if name.endswith((".ovr", ".msk")):
            _check_source(here)
        elif name.endswith((".ovr.aux.xml", ".msk.aux.xml")):
            _refuse(here, "metadata of overviews")
        elif name.endswith(".aux") and here.is_file() and _starts(here, b"EHFA_HEADER_TAG"):
            _refuse(here, "overviews of ERDAS, whose pixels any file may hold")
        elif here.exists() and not (here.is_file() or here.is_dir()):
            _refuse(here, "no file")


def _check_overviews(dataset: rasterio.DatasetReader, where: str) -> None:
    if "OVERVIEW_FILE" in dataset.tags(ns="OVERVIEWS"):
        _refuse(where, "the name of another file with overviews")


def _refuse(where: object, got: str) -> NoReturn:
    raise SceneError(
        "it refers to other files", where=str(where), got=got, remedy="delete it, or write the scene anew"
    )


def _open(name: str, driver: str, *, alone: bool) -> rasterio.DatasetReader:
    # GDAL would note the size of a compressed ENVI file in a file beside it.
    options = {"CPL_VSIL_GZIP_WRITE_PROPERTIES": "NO", **(_ALONE if alone else {})}
    with warnings.catch_warnings(), rasterio.Env(**options):
        # A scene without a georeference gets our own error, with a remedy.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(Path(name).absolute() if not name.startswith("/vsi") else name, driver=driver)


def block_bytes(dataset: rasterio.DatasetReader) -> int:
    """Decoded bytes of the largest block of a file, with all bands that are stored in it."""
    pixels: int = max(rows * cols for rows, cols in dataset.block_shapes)
    size = max(_item_size(dtype) for dtype in dataset.dtypes)
    together = 1 if str(dataset.profile.get("interleave")) == "band" else dataset.count
    return int(pixels * size * together)


def _item_size(dtype: str) -> int:
    return 8 if dtype == "complex_int16" else np.dtype(dtype).itemsize


def check_size(dataset: rasterio.DatasetReader, where: str) -> None:
    """Refuse a file with an impossible size in its header, before that size is used.

    Raises
    ------
    SceneError : the scene is too large, or the file has too few bytes for it.
    """
    rows, cols = dataset.shape
    shown = width_by_height((rows, cols))
    if rows * cols > MOST_PIXELS:
        raise SceneError(
            "the scene is too large", where=where, got=shown, expected=f"up to {MOST_PIXELS:.3g} px"
        )
    images = len(dataset.subdatasets) + len(dataset.overviews(1))
    if images > MOST_IMAGES:
        raise _too_many_images(where, images)
    block = block_bytes(dataset)
    if block > MOST_BLOCK_BYTES:
        high, wide = max(dataset.block_shapes, key=np.prod)
        raise SceneError(
            "the file's blocks are too large to read it in parts",
            where=where,
            got=f"{width_by_height((high, wide))}, {block / 1e9:.1f} GB",
            expected=f"up to {MOST_BLOCK_BYTES / 1e9:.1f} GB",
            remedy="write it anew with tiles, e.g. rio convert --co TILED=YES",
        )
    size = _stored_bytes(dataset, where)
    decoded = rows * cols * dataset.count * min(_item_size(dtype) for dtype in dataset.dtypes)
    blocks = sum(-(-rows // high) * -(-cols // wide) for high, wide in dataset.block_shapes[:1])
    # Of TIFF where each block is, 4 bytes at least; of ENVI every number. GDAL would take zeros for the rest.
    held = {"GTiff": 4 * blocks, "ENVI": decoded}.get(dataset.driver, 0)
    if dataset.driver == "ENVI" and size is not None and _starts(Path(where), b"\x1f\x8b"):
        held = -(-decoded // MOST_DEFLATED)  # the whole file is packed by gzip
    if size is not None and (size < held or decoded > max(MOST_BLOCK_BYTES, size * MOST_RATIO)):
        raise SceneError(
            "the file is too small for its image size",
            where=where,
            got=f"{size} bytes for {shown}",
            remedy="restore it",
        )


def _stored_bytes(dataset: rasterio.DatasetReader, where: str) -> int | None:
    place = locate(where)
    return place.stat().st_size if isinstance(place, Path) and dataset.driver != "VRT" else None
