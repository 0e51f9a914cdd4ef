"""Which bands a file has, and which of them feed the channels of a model. Nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rasterio.enums import ColorInterp

from spectile.catalog.bands import TOLERANCE_NM
from spectile.catalog.errors import SceneError, UsageError
from spectile.catalog.inputs import InputSpec
from spectile.catalog.sensors import COLOURS, FILE_SENSORS, Sensor, colour_at, plain_name

if TYPE_CHECKING:
    import rasterio

SHOWN = 16
"""Most bands that a message names."""
_UNITS_NM = {"nm": 1.0, "nanometers": 1.0, "um": 1e3, "µm": 1e3, "micrometers": 1e3}
_NO_COLOUR = (ColorInterp.undefined, ColorInterp.gray, ColorInterp.palette)


@dataclass(frozen=True)
class FileBand:
    """One band of a scene, and what is known of it."""

    number: int
    """From 1, in the file; of several files, in their order."""
    name: str = ""
    """Its name, empty if it has none."""
    colour: str = ""
    """What it is called in common, such as red or nir08; empty if nobody says."""
    centre_nm: float | None = None
    """Its centre wavelength, nm."""
    alpha: bool = False
    """Whether it holds alpha."""
    fwhm_nm: float | None = None
    """Its full width at half maximum, nm."""

    def __str__(self) -> str:
        wavelength = f"{self.centre_nm:g} nm" if self.centre_nm is not None else ""
        known = ", ".join(part for part in (self.name or self.colour, wavelength) if part)
        return f"band {self.number}" + (f" ({known})" if known else "")


@dataclass(frozen=True)
class Chosen:
    """The bands that feed a model."""

    bands: tuple[FileBand, ...]
    """One for each channel."""
    feeds: tuple[str, ...]
    """Each channel and its band, for people."""
    notices: tuple[str, ...]
    """What the user should know of it."""


def describe_bands(dataset: rasterio.DatasetReader) -> tuple[FileBand, ...]:
    """The bands of a file by its own metadata.

    Wavelengths are taken from a band's ``wavelength`` (GDAL's ENVI driver) or from the IMAGERY domain;
    colours from GDAL's colour interpretation, or from a description that is a colour's name.
    """
    found = []
    for number, (interpretation, text) in enumerate(
        zip(dataset.colorinterp, dataset.descriptions, strict=True), 1
    ):
        # GDAL's ENVI driver adds the wavelength to the name.
        name = " ".join(re.sub(r"\s*\([\d.]+ \w+\)$", "", text or "").split())[:40]
        colour = "" if interpretation in _NO_COLOUR else interpretation.name
        if not colour and name.lower() in COLOURS:
            colour = name.lower()
        alpha = interpretation is ColorInterp.alpha
        own, imagery = dataset.tags(number), dataset.tags(number, ns="IMAGERY")
        unit = _UNITS_NM.get(own.get("wavelength_units", "nm").strip().lower())
        centre = _nm((own.get("wavelength"), unit), (imagery.get("CENTRAL_WAVELENGTH_UM"), 1e3))
        width = _nm((own.get("fwhm"), unit), (imagery.get("FWHM_UM"), 1e3))
        found.append(FileBand(number, name, colour, centre, alpha, width))
    return tuple(found)


def _nm(*stated: tuple[str | None, float | None]) -> float | None:
    """The first of several texts that is a length, nm."""
    for text, factor in stated:
        try:
            if text is not None and factor is not None and np.isfinite(nm := float(text) * factor) and nm > 0:
                return round(nm, 3)
        except ValueError:
            continue
    return None


def find_sensor(text: str) -> Sensor:
    """The sensor of ``--sensor``: a name of ``FILE_SENSORS`` or a file of responses, with ``:BAND,BAND``.

    Raises
    ------
    UsageError : there is no such sensor or band.
    SceneError : the file cannot be read.
    """
    name, mark, chosen = text.partition(":")
    if name in FILE_SENSORS:
        sensor = FILE_SENSORS[name]
    elif Path(name).is_file():
        from spectile.pipeline.spectra.libraries import read_sensor

        sensor = read_sensor(Path(name))
    else:
        raise UsageError(
            "unknown sensor", got=name, expected=f"{', '.join(FILE_SENSORS)}, or a file of responses"
        )
    return sensor.subset(sensor.find(chosen.split(","), name)) if mark else sensor


def as_sensor(bands: Sequence[FileBand], sensor: Sensor, where: str) -> tuple[FileBand, ...]:
    """The bands of a file as those of a sensor: by their names if all are named, else in its order.

    Raises
    ------
    SceneError : the file has another number of bands, and they are not named.
    """
    named = {plain_name(name): at for at, name in enumerate(sensor.names)}
    seen = [band for band in bands if not band.alpha]
    at = [named.get(plain_name(band.name)) for band in seen]
    if None in at or len(set(at)) < len(at):
        if len(seen) != len(sensor.names):
            raise SceneError(
                "the file has other bands than the sensor", where=where, got=f"{len(seen)} bands",
                expected=f"{len(sensor.names)}: {', '.join(sensor.names)}",
                remedy="name those that it has, e.g. --sensor sentinel2:B02,B03,B04,B08",
            )  # fmt: skip
        at = list(range(len(seen)))
    told = {}
    for band, i in zip(seen, at, strict=True):
        assert i is not None
        nm = round(sensor.bands.centre_nm[i], 1)
        told[band.number] = replace(
            band, name=sensor.names[i], colour=sensor.colours[i], centre_nm=nm,
            fwhm_nm=sensor.bands.fwhm_nm[i],
        )  # fmt: skip
    return tuple(told.get(band.number, band) for band in bands)


def choose_bands(
    bands: Sequence[FileBand], spec: InputSpec | None, asked: Sequence[int | str] | None, where: str
) -> Chosen:
    """The bands that feed the channels of a model.

    A channel that is a colour takes the band that is called so, and of several the nearest in wavelength.
    Any other channel takes the band nearest to its wavelength, at most half its width or ``TOLERANCE_NM``
    away. A file of three bands of which nothing is known is red, green and blue.

    Parameters
    ----------
    spec : what the model takes; None takes what is asked.
    asked : bands by number or name, one for each channel; None lets the file's metadata decide.

    Raises
    ------
    SceneError : a channel has no band, or bands are asked for that the file does not have.
    """
    if asked is not None:
        chosen = [_asked(bands, each, where) for each in asked]
        if spec is not None and len(chosen) != len(spec.bands):
            raise SceneError(
                "--bands must name one band for each channel of the model", where=where,
                got=",".join(map(str, asked)), expected=", ".join(spec.channels),
            )  # fmt: skip
    else:
        assert spec is not None
        chosen = _by_metadata(bands, spec, where)
    if spec is None:
        return Chosen(tuple(chosen), tuple(map(str, chosen)), ())
    feeds = tuple(f"{channel}: {band}" for channel, band in zip(spec.channels, chosen, strict=True))
    short = where.rpartition("/")[2]
    notices = []
    if far := [feed for at, feed in enumerate(feeds) if not _near(chosen[at], spec, at)]:
        notices.append(f"{short}: bands at other wavelengths than the model's feed {'; '.join(far)}")
    numbers = {band.number for band in chosen}
    if unused := [str(band) for band in bands if band.number not in numbers and not band.alpha]:
        more = f" and {len(unused) - SHOWN} more" if len(unused) > SHOWN else ""
        notices.append(f"{short}: the model does not use {', '.join(unused[:SHOWN])}{more}")
    return Chosen(tuple(chosen), feeds, tuple(notices))


def _asked(bands: Sequence[FileBand], asked: int | str, where: str) -> FileBand:
    if isinstance(asked, int):
        found = [band for band in bands if band.number == asked]
    else:
        name = plain_name(asked)
        found = [band for band in bands if plain_name(band.name) == name] or [
            band for band in bands if plain_name(band.colour) == name
        ]
    if len(found) != 1:
        raise SceneError(
            "no such band" if not found else "several bands have this name", where=where, got=str(asked),
            expected=_listed(bands),
        )  # fmt: skip
    return found[0]


def _by_metadata(bands: Sequence[FileBand], spec: InputSpec, where: str) -> list[FileBand]:
    seen = [band for band in bands if not band.alpha]
    colours = spec.colours
    nothing_known = all(band.centre_nm is None for band in seen)
    if colours == ("red", "green", "blue") and len(seen) == 3 and nothing_known:
        if not {"red", "green", "blue"} <= {band.colour for band in seen}:
            return seen
    chosen: list[FileBand] = []
    for at, (colour, centre) in enumerate(zip(colours, spec.bands.centre_nm, strict=True)):
        if colour is None:
            fitting = [band for band in seen if band.centre_nm is not None and _near(band, spec, at)]
        else:
            called = [band for band in seen if re.sub(r"^nir\d+$", "nir", band.colour) == colour]
            fitting = called or [
                band
                for band in seen
                if not band.colour and band.centre_nm is not None and colour_at(band.centre_nm) == colour
            ]
        if not fitting:
            raise SceneError(
                f"the scene lacks a band that the model needs, {spec.channels[at]}", where=where,
                got=_listed(bands),
                remedy="say which bands the file has with --sensor, or which to take with --bands",
            )  # fmt: skip
        best = min(fitting, key=lambda band: abs((band.centre_nm or centre) - centre))
        if best in chosen:
            raise SceneError(
                f"{best} would feed two channels of the model", where=where,
                got=f"{spec.channels[chosen.index(best)]} and {spec.channels[at]}",
                expected="a band for each", remedy="choose them with --bands",
            )  # fmt: skip
        chosen.append(best)
    return chosen


def _near(band: FileBand, spec: InputSpec, at: int) -> bool:
    """Whether a band's wavelength is that of a channel, or not known."""
    centre, width = spec.bands.centre_nm[at], spec.bands.fwhm_nm[at]
    return band.centre_nm is None or abs(band.centre_nm - centre) <= max(TOLERANCE_NM, width / 2)


def _listed(bands: Sequence[FileBand]) -> str:
    if all(str(band) == f"band {band.number}" and not band.alpha for band in bands):
        return f"{len(bands)} band(s) of which the file says nothing"
    more = f" and {len(bands) - SHOWN} more" if len(bands) > SHOWN else ""
    return ", ".join(map(str, bands[:SHOWN])) + more
