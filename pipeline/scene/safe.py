"""Sentinel-2 products as ESA delivers them: a folder .SAFE with an XML file that names the bands' files.

The layout is that of the Sentinel-2 Products Specification (PSD 14 and later: one tile, compact names). Level
2A is reflectance at the surface, (DN + BOA_ADD_OFFSET) / BOA_QUANTIFICATION_VALUE, and DN 0 is no data. Level
1C is reflectance at the top of the atmosphere, with RADIO_ADD_OFFSET and QUANTIFICATION_VALUE.
Products before baseline 04.00 (January 2022) have no offsets.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from xml.etree.ElementTree import Element

from spectile.catalog.errors import SceneError
from spectile.catalog.sensors import FILE_SENSORS
from spectile.pipeline.files.xml import read_xml
from spectile.pipeline.scene.bands import FileBand
from spectile.pipeline.scene.parts import Part, Parts, inside
from spectile.pipeline.scene.radiometry import Stated

METADATA = {"MTD_MSIL2A.xml": "BOA", "MTD_MSIL1C.xml": "RADIO"}
"""The name of a product's metadata, and what its offsets are called."""
MOST_FILES = 1000
"""Most files that a product of one tile names; level 2A names about forty."""
_BAND = re.compile(r"_(B\d\d|B8A)(?:_(\d\d)m)?$")


def is_safe(folder: Path) -> bool:
    """Whether a folder is a Sentinel-2 product of level 1C or 2A."""
    return any(os.path.isfile(folder / name) for name in METADATA)


def safe_parts(folder: Path) -> Parts:
    """The bands of a product, each at the finest resolution that is there, in the order of the instrument.

    Raises
    ------
    SceneError : the metadata cannot be read, lack a number, or name files elsewhere or none that is there.
    """
    name, offsets_of = next((name, kind) for name, kind in METADATA.items() if (folder / name).is_file())
    metadata = inside(folder / name, folder)
    root = read_xml(metadata, "Sentinel-2 metadata file")
    where = str(folder)
    quantification = _number(root, where, f"{'BOA_' if offsets_of == 'BOA' else ''}QUANTIFICATION_VALUE")
    offsets = {
        element.get("band_id", ""): _float(element.text, where, element.tag)
        for element in root.iterfind(f".//{{*}}{offsets_of}_ADD_OFFSET")
    }
    sensor = FILE_SENSORS["sentinel2"]
    files = _files(root, folder)
    parts: list[Part] = []
    for at, band in enumerate(sensor.names):
        if band not in files:
            continue
        if offsets and str(at) not in offsets:
            raise SceneError("the product's metadata lack a number", where=where, got=f"no offset of {band}")
        stated = Stated(1 / quantification, offsets.get(str(at), 0.0) / quantification, 0.0)
        known = FileBand(
            len(parts) + 1, band, sensor.colours[at], sensor.bands.centre_nm[at],
            fwhm_nm=sensor.bands.fwhm_nm[at],
        )  # fmt: skip
        parts.append(Part(str(files[band]), known, stated=stated))
    if not parts:
        raise SceneError(
            "the product has no band", where=where, got=name,
            expected="a product of one tile, as delivered since December 2016",
        )  # fmt: skip
    taken = root.findtext(".//{*}PRODUCT_START_TIME")
    notices = () if offsets_of == "BOA" else (
        f"{folder.name}: level 1C is reflectance at the top of the atmosphere; models are trained on that of "
        "the surface (level 2A)",
    )  # fmt: skip
    return Parts(tuple(parts), {"ACQUISITIONDATETIME": taken} if taken else {}, notices)


def _files(root: Element, folder: Path) -> dict[str, Path]:
    """The file of each band that is there, at the finest resolution; many keep a part of a product."""
    found: dict[str, tuple[int, Path]] = {}
    elements = root.findall(".//{*}IMAGE_FILE")
    if len(elements) > MOST_FILES:
        raise SceneError(
            "the product names too many files",
            where=str(folder),
            got=len(elements),
            expected=f"up to {MOST_FILES}",
        )
    for element in elements:
        name = (element.text or "").strip()
        if match := _BAND.search(name):
            size, path = int(match[2] or 0), inside(folder / f"{name}.jp2", folder)
            if path.is_file() and (match[1] not in found or size < found[match[1]][0]):
                found[match[1]] = size, path
    return {band: path for band, (_, path) in found.items()}


def _number(root: Element, where: str, name: str) -> float:
    text = root.findtext(f".//{{*}}{name}")
    value = _float(text, where, name)
    if value <= 0:
        raise SceneError("the product's metadata lack a number", where=where, got=f"{name} {value:g}")
    return value


def _float(text: str | None, where: str, name: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SceneError("the product's metadata lack a number", where=where, got=f"{name} {text!r:.40}")
    return value
