"""Scenes of several files: which file holds which band, and what is said of its numbers.

A Sentinel-2 folder, a folder of files of one band each, or a STAC item. Strangers write them, so no file
outside the folder is used, and only GeoTIFF and JPEG 2000.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from spectile.catalog.errors import SceneError, UsageError
from spectile.catalog.sensors import COLOURS, Sensor, plain_name
from spectile.catalog.stac.documents import is_plain, parse_json
from spectile.catalog.stac.scenes import checked_href, is_raster, item_span, scene_asset
from spectile.pipeline.scene.bands import FileBand
from spectile.pipeline.scene.radiometry import Stated
from spectile.pipeline.store.base import read_bounded

MOST_BYTES = 16_000_000
"""Bytes of the largest STAC item that is read as a scene."""
MOST_BANDS = 1000
"""Most bands of a scene of several files."""
ENDINGS = (".tif", ".tiff", ".jp2")
"""Endings of the files in a folder that is a scene."""


NOTHING_STATED = Stated()


@dataclass(frozen=True)
class Part:
    """One band of such a scene."""

    place: str
    """Path or URL of its file."""
    band: FileBand
    """What is known of it; its number is that in the scene."""
    index: int = 1
    """Its number in its file, from 1."""
    stated: Stated = NOTHING_STATED
    """What is said of its numbers."""


@dataclass(frozen=True)
class Parts:
    """A scene of several files, or a file that others describe."""

    parts: tuple[Part, ...]
    """Its bands, in order."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """When it was taken, as a raster's metadata would say it."""
    notices: tuple[str, ...] = ()
    """What the user should know of it."""

    @property
    def is_one_file(self) -> bool:
        """Whether all of its bands are in one file."""
        return len({part.place for part in self.parts}) == 1


def inside(path: Path, folder: Path) -> Path:
    """The file that a path means.

    Raises
    ------
    SceneError : it, or a link on the way to it, leads out of the folder.
    """
    found = Path(os.path.realpath(path))
    if not found.is_relative_to(os.path.realpath(folder)):
        raise SceneError("a file of the scene lies outside its folder", where=str(folder), got=str(path))
    return found


def folder_parts(folder: Path, sensor: Sensor | None, where: str) -> Parts:
    """The bands of a folder of files: the last part of a name that is a band of the sensor, or a colour.

    Raises
    ------
    SceneError : there is none, two files are of one band, or a link leads out of the folder.
    """
    names = COLOURS if sensor is None else sensor.names
    order = {plain_name(name): at for at, name in enumerate(names)}
    found: dict[int, Path] = {}
    left = []
    try:
        files = sorted(each for each in folder.iterdir() if each.suffix.lower() in ENDINGS)
    except OSError as err:
        raise SceneError("the folder cannot be read", where=where, got=err.strerror) from err
    for path in files:
        known = [plain_name(word) for word in re.split(r"[^A-Za-z0-9]", path.stem)]
        # nir1 and coastal_blue are names, too.
        known += [plain_name(path.stem), *(a + b for a, b in pairwise(known))]
        at = next((order[word] for word in reversed(known) if word in order), None)
        if at is None:
            left.append(path.name)
        elif at in found:
            raise SceneError(
                "two files are of one band", where=where, got=f"{found[at].name} and {path.name}",
                remedy="leave one of them in the folder",
            )  # fmt: skip
        else:
            found[at] = inside(path, folder)
    if not found:
        raise SceneError(
            "no file of the folder is named as a band", where=where, got=", ".join(left[:5]) or "no raster",
            expected=f"names that end in {', '.join(list(names)[:13])}",
            remedy="say whose bands they are, e.g. --sensor landsat8",
        )  # fmt: skip
    parts = []
    for number, at in enumerate(sorted(found), 1):
        if sensor is None:
            colour = list(COLOURS)[at]
            band = FileBand(number, colour, colour)
        else:
            nm = round(sensor.bands.centre_nm[at], 1)
            width = sensor.bands.fwhm_nm[at]
            band = FileBand(number, sensor.names[at], sensor.colours[at], nm, fwhm_nm=width)
        parts.append(Part(str(found[at]), band))
    unused = (f"{folder.name}: files of no band: {', '.join(left[:8])}",) if left else ()
    return Parts(tuple(parts), notices=unused)


def item_parts(path: Path, where: str) -> Parts | str:
    """The bands of a local STAC item: its files of one band each, or else its one raster.

    Raises
    ------
    UsageError : it is no item, or an asset leads where it must not.
    """
    try:
        item = parse_json(read_bounded(path, MOST_BYTES), where)
    except OSError as err:
        raise UsageError("cannot be read", where=where, got=err.strerror or str(err)) from err
    assets = item.get("assets") if isinstance(item, dict) else None
    if not isinstance(item, dict) or item.get("type") != "Feature" or not isinstance(assets, dict):
        raise UsageError("not a STAC item", where=where, expected="a Feature with assets")
    if not is_plain(item):
        raise UsageError("not a STAC item", where=where, got="numbers that are not finite")
    properties = item.get("properties")
    applied = isinstance(properties, dict) and properties.get("earthsearch:boa_offset_applied") is True
    span = item_span(item)
    tags = {"ACQUISITIONDATETIME": span.partition("/")[0]} if span else {}
    singles = single_bands(assets)
    if singles:
        files = [(*each, 1) for each in singles]
    else:
        href = scene_asset(assets, where)
        asset = next(each for each in assets.values() if is_raster(each) and each["href"] == href)
        files = [(href, band, index) for index, band in enumerate(_described(asset), 1)]
        if not files:
            return checked_href(href, path, path, where)
    if len(files) > MOST_BANDS:
        raise UsageError("too many bands", where=where, got=len(files), expected=f"up to {MOST_BANDS}")
    parts = tuple(
        Part(checked_href(href, path, path, where), _band(number, band), index, _stated(band, applied))
        for number, (href, band, index) in enumerate(files, 1)
    )
    return Parts(parts, tags)


def single_bands(assets: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The href of each file of one band, and what its item says of the band."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for asset in assets.values():
        described = _described(asset)
        if is_raster(asset) and len(described) == 1 and (name := str(described[0].get("name", ""))):
            # Some items list a JPEG 2000 beside each COG.
            if name not in found or str(asset.get("type", "")).startswith("image/tiff"):
                found[name] = (str(asset["href"]), described[0])
    return list(found.values())


def _described(asset: Any) -> Sequence[Mapping[str, Any]]:
    """What an asset says of each band, in STAC 1.1 (``bands``) or 1.0 (``eo:bands``, ``raster:bands``)."""
    if not isinstance(asset, dict):
        return []
    lists = [asset.get(key) for key in ("bands", "eo:bands", "raster:bands")]
    bands, eo, raster = (
        [each for each in said if isinstance(each, dict)] if isinstance(said, list) else [] for said in lists
    )
    if bands:
        shared = {key: value for key, value in asset.items() if len(bands) == 1 and ":" in key}
        return [{**shared, **band} for band in bands]
    if len(raster) != len(eo):
        raster = [{} for _ in eo]
    return [{**numbers, **band} for band, numbers in zip(eo, raster, strict=True)]


def _value(band: Mapping[str, Any], *keys: str) -> Any:
    return next((band[key] for key in keys if band.get(key) is not None), None)


def _number(band: Mapping[str, Any], *keys: str) -> float | None:
    value = _value(band, *keys)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _band(number: int, band: Mapping[str, Any]) -> FileBand:
    colour = _value(band, "eo:common_name", "common_name")
    centre_um = _number(band, "eo:center_wavelength", "center_wavelength")
    width_um = _number(band, "eo:full_width_half_max", "full_width_half_max")
    return FileBand(
        number, str(band.get("name", ""))[:40], str(colour or "")[:40],
        None if centre_um is None else round(centre_um * 1e3, 3),
        fwhm_nm=None if width_um is None else round(width_um * 1e3, 3),
    )  # fmt: skip


def _stated(band: Mapping[str, Any], applied: bool) -> Stated:
    scale, offset = _number(band, "raster:scale", "scale"), _number(band, "raster:offset", "offset")
    # Earth Search names an offset that its files do not have any more, and says so there.
    return Stated(scale, 0.0 if applied else offset or 0.0, _number(band, "nodata"))
