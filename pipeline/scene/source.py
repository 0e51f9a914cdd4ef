"""Opening a scene for a model: from a file, or from several that are one scene."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from spectile.catalog.choices import NodataRule
from spectile.catalog.errors import SceneError, UsageError
from spectile.catalog.inputs import RGB_SCENE, InputSpec
from spectile.catalog.redaction import redact_url
from spectile.catalog.sensors import Sensor
from spectile.catalog.urls import Location, locate
from spectile.pipeline.files.addresses import resolve
from spectile.pipeline.files.opening import gdal_errors, open_raster
from spectile.pipeline.files.remote import reading
from spectile.pipeline.scene.bands import (
    Chosen,
    FileBand,
    as_sensor,
    choose_bands,
    describe_bands,
    find_sensor,
)
from spectile.pipeline.scene.file import grid_of, measured, open_file
from spectile.pipeline.scene.parts import Parts, folder_parts, item_parts
from spectile.pipeline.scene.raster import SceneSource
from spectile.pipeline.scene.safe import is_safe, safe_parts
from spectile.pipeline.scene.stack import StackSource, open_stack

Scene = SceneSource | StackSource
"""A scene, of one file or of several."""


def check_opens(path: str | Path, *, sensor: str | None = None, allow_vrt: bool = False) -> None:
    """Refuse a scene that is no raster or has no place, before anything else is loaded; not of URLs.

    Raises
    ------
    SceneError : as in ``open_source``.
    """
    found = _parts_of(path, find_sensor(sensor) if sensor is not None else None)
    file = found.parts[0].place if isinstance(found, Parts) else found
    if isinstance(locate(file), Path):
        with open_raster(file, allow_vrt=allow_vrt) as dataset:
            grid_of(dataset, file)


def _parts_of(path: str | Path, sensor: Sensor | None) -> Parts | str:
    """The files of a scene; the path itself of a scene that is one file."""
    place = locate(path)
    if isinstance(place, Path):
        if os.path.isdir(place):  # False where it cannot be reached; opening it says why
            return safe_parts(place) if is_safe(place) else folder_parts(place, sensor, str(place))
        if place.suffix.lower() in (".json", ".geojson"):
            return item_parts(place, str(place))
    return str(path)


def bands_of(
    path: str | Path,
    *,
    sensor: str | None = None,
    allow_vrt: bool = False,
    allow_private: bool = False,
) -> tuple[FileBand, ...]:
    """The bands that a scene has, by its own metadata or as those of a sensor; no pixel is read.

    Parameters
    ----------
    path, sensor, allow_vrt, allow_private : as of ``open_source``.

    Raises
    ------
    SceneError : missing, not a raster, or with other bands than the sensor.
    """
    of_sensor = find_sensor(sensor) if sensor is not None else None
    found = _parts_of(path, of_sensor)
    if isinstance(found, Parts):
        there = tuple(part.band for part in found.parts)
    else:
        where = locate(found)
        if isinstance(where, Location):
            final = resolve(where, listed=found != str(path), allow_private=allow_private)
            found = found if final == where else final.url
        with gdal_errors(found, "the scene's metadata cannot be read"), reading(found):
            with open_raster(found, allow_vrt=allow_vrt) as dataset:
                there = describe_bands(dataset)
    return there if of_sensor is None else as_sensor(there, of_sensor, redact_url(str(path)))


def open_source(
    path: str | Path,
    spec: InputSpec | None = RGB_SCENE,
    *,
    radiometry: str | None = None,
    nodata_rule: NodataRule = "all",
    sensor: str | None = None,
    bands: Sequence[int | str] | None = None,
    measure: bool = True,
    memory: int | None = None,
    allow_vrt: bool = False,
    listed: bool = False,
    allow_private: bool = False,
) -> Scene:
    """The source of a scene, with everything that reading needs.

    Parameters
    ----------
    path : a raster, path or URL; of this machine also a Sentinel-2 folder, a folder of files of one band
        each, or a STAC item.
    spec : what the model takes; None takes the ``bands`` that are named.
    radiometry : ``reflectance``, ``display``, ``display:GAIN``, ``display/PEAK``, ``display/PEAK:GAIN`` or
        ``dn:OFFSET,SCALE``; by default the file's own metadata decide.
    nodata_rule : whether all or any of the channels must hold the nodata value.
    sensor : which bands the file has, as in ``find_sensor``; by default its own metadata say it.
    bands : the band of each channel, by number from 1 or by name; by default as in ``choose_bands``.
    measure : read the scene once, decimated, to check its range and to measure the display gain.
        Without it only the first and the last pixel are read, and a display source cannot be read yet.
    allow_vrt : as in ``open_raster``.
    listed : a catalogue named it: it must be GeoTIFF or JPEG 2000, and not on a private address.
    allow_private : as in ``resolve``.
    memory : bytes that reading may take in addition to the result; by default the limit for any file.

    Raises
    ------
    SceneError : missing, not a raster, no CRS or geotransform, wrong bands, or undeclared radiometry.
    UsageError : unknown nodata rule or sensor.
    """
    if nodata_rule not in get_args(NodataRule):
        raise UsageError("unknown nodata rule", got=nodata_rule, expected="all or any")
    shown = redact_url(str(path))
    of_sensor = find_sensor(sensor) if sensor is not None else None

    def choose(there: tuple[FileBand, ...]) -> Chosen:
        known = there if of_sensor is None else as_sensor(there, of_sensor, shown)
        return choose_bands(known, spec, bands, shown)

    found = _parts_of(path, of_sensor)
    source: Scene
    if isinstance(found, str):
        source = open_file(
            found, choose, pictures=_is_picture(spec, bands), radiometry=radiometry, nodata_rule=nodata_rule,
            allow_vrt=allow_vrt, listed=listed or found != str(path), allow_private=allow_private,
        )  # fmt: skip
    else:
        chosen = choose(tuple(part.band for part in found.parts))
        if found.is_one_file:
            by_number = {part.band.number: part for part in found.parts}
            own = [by_number[band.number] for band in chosen.bands]
            indices = tuple(replace(part.band, number=part.index) for part in own)
            source = open_file(
                own[0].place, lambda _: replace(chosen, bands=indices), pictures=_is_picture(spec, bands),
                stated=[part.stated for part in own], radiometry=radiometry, nodata_rule=nodata_rule,
                listed=True, allow_private=allow_private,
            )  # fmt: skip
        else:
            source = open_stack(
                str(path), found.parts, chosen, tags=found.tags, notices=found.notices, radiometry=radiometry,
                nodata_rule=nodata_rule, allow_private=allow_private,
            )  # fmt: skip
    if memory is not None and source.memory() > memory:
        raise SceneError(
            "the file's blocks do not fit the memory", where=source.path,
            got=f"{source.memory() / 1e9:.2f} GB", expected=f"up to {memory / 1e9:.2f} GB",
            remedy="raise --memory, or write the file anew with tiles, e.g. rio convert --co TILED=YES",
        )  # fmt: skip
    source.check_ends()
    if not measure:
        return source
    said = radiometry is not None
    if isinstance(source, SceneSource):
        return measured(source, declared_by_user=said)
    return replace(source, files=tuple(measured(file, declared_by_user=said) for file in source.files))


def _is_picture(spec: InputSpec | None, bands: Sequence[int | str] | None) -> bool:
    """Whether the channels are red, green and blue, so that a picture made for the eye gives them."""
    return len(bands or ()) == 3 if spec is None else spec.colours == ("red", "green", "blue")
