"""Spectra and response curves from files: ENVI libraries, and tables of wavelengths and curves."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xlrd
from numpy.typing import NDArray
from scipy.io import loadmat

from spectile.catalog.bands import Bands, MeasuredBands
from spectile.catalog.errors import SceneError, UsageError
from spectile.catalog.sensors import Sensor, colours_of
from spectile.pipeline.scene.formats import Layout, Unit, bands_in
from spectile.pipeline.scene.opening import check_file
from spectile.pipeline.scene.untrusted import reading_file
from spectile.pipeline.store.base import read_bounded

Floats = NDArray[np.float32]

SPECTROMETER = re.compile(r"\s+(ASD|BECK|NIC|AVIRIS)\S*\s+[A-Z]{4}$")
"""The end of a USGS name: the spectrometer with the sample's purity, and the kind of measurement."""
NUMBERED = re.compile(r"[A-Za-z][\w-]*\d[\w-]*|\d{4,}")
"""A sample's number: the collection's letters, then digits; the grain size follows a dot."""
TEMPERATURE = re.compile(r"\d+K")
MOST_HEADER = 16_000_000
"""Bytes of the longest ENVI header that is read."""
MOST_SPECTRA = 10_000
"""Field spectra of a table at most."""
MOST_TABLE_BYTES = 100_000_000
"""Bytes of such a table at most."""
HIGHEST_REFLECTANCE = 1.5
"""Field spectra above that are not in reflectance, but in per cent or counts."""


@dataclass(frozen=True, eq=False)
class SpectralLibrary:
    """Spectra with names."""

    names: tuple[str, ...]
    """The name of each spectrum."""
    spectra: Floats
    """(N, B) float32 reflectance, NaN where a channel was deleted."""
    bands: Bands
    """Their B bands, in ascending order of wavelength."""


@dataclass(frozen=True, eq=False)
class FieldSpectra:
    """Spectra that were measured in the field, and where."""

    names: tuple[str, ...]
    """The name of each spectrum, or its number from 1."""
    x: NDArray[np.float64]
    """(N,) easting or longitude."""
    y: NDArray[np.float64]
    """(N,) northing or latitude."""
    is_lonlat: bool
    """Whether they are longitude and latitude, degrees on WGS 84."""
    spectra: Floats
    """(N, B) float32 reflectance, NaN for an empty cell."""
    bands: Bands
    """Their B bands, in ascending order of wavelength; as wide as their spacing."""


def read_field_spectra(path: Path, *, scale: float | None = None) -> FieldSpectra:
    """The spectra of a table (CSV) with a line each.

    The first line has ``x`` and ``y``, or ``lon`` and ``lat``, maybe ``name``, and the wavelengths in nm,
    such as ``550`` or ``550 nm``.

    Parameters
    ----------
    scale : reflectance of a value of 1, e.g. 0.01 for per cent; by default they are reflectance, and values
        above ``HIGHEST_REFLECTANCE`` are refused.

    Raises
    ------
    SceneError
        It is no such table, or its numbers are none.
    """
    check_file(path)
    try:
        if path.stat().st_size > MOST_TABLE_BYTES:
            raise SceneError(
                "the table is too large", where=path.name, expected=f"up to {MOST_TABLE_BYTES} bytes"
            )
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, ValueError, csv.Error) as err:
        raise SceneError(f"cannot be read as a table: {err}", where=path.name) from err
    if len(rows) < 2 or len(rows) > MOST_SPECTRA + 1:
        raise SceneError(
            "a table of field spectra has a line of headers and one for each spectrum", where=path.name,
            got=f"{len(rows)} lines", expected=f"2 to {MOST_SPECTRA + 1}",
        )  # fmt: skip
    heads = [cell.strip().lower() for cell in rows[0]]
    columns = {head: at for at, head in enumerate(heads)}
    pair = next((each for each in (("x", "y"), ("lon", "lat")) if set(each) <= columns.keys()), None)
    nm = {at: match for at, head in enumerate(heads) if (match := _WAVELENGTH.fullmatch(head))}
    if pair is None or not nm:
        raise SceneError(
            "the table lacks coordinates or wavelengths", where=path.name, got=", ".join(heads)[:80],
            expected="columns x,y or lon,lat, and wavelengths in nm, e.g. 550",
            remedy="separate columns by commas" if ";" in heads[0] else None,
        )  # fmt: skip
    if unknown := [head for at, head in enumerate(heads) if at not in nm and head not in (*pair, "name")]:
        raise SceneError("unknown column", where=path.name, got=unknown[0] or "one without a name",
                         expected=f"{', '.join(pair)}, name, or a wavelength in nm")  # fmt: skip
    for line, row in enumerate(rows, 1):
        if len(row) != len(heads):
            raise SceneError("a line has another number of columns", where=f"{path.name} line {line}",
                             got=len(row), expected=len(heads))  # fmt: skip
    centres = [float(match[1]) for match in nm.values()]
    if len(set(centres)) < len(centres):
        raise SceneError("a wavelength twice", where=path.name, got=f"{len(centres)} columns")
    try:
        order = np.argsort(centres)
        bands = bands_in(np.asarray(centres)[order], None, "nm", Layout())
        places = np.array([[float(row[columns[name]]) for name in pair] for row in rows[1:]])
        values = np.array([[float(row[at].strip() or "nan") for at in nm] for row in rows[1:]])
    except (ValueError, UsageError) as err:
        raise SceneError(f"the table holds what is no number: {err}", where=path.name) from err
    if not np.isfinite(places).all():
        raise SceneError("a place that is no number", where=path.name)
    values = np.where(np.isfinite(values), values, np.nan)[:, order] * (1.0 if scale is None else scale)
    top = float(np.nanmax(values, initial=0.0))
    if scale is None and top > HIGHEST_REFLECTANCE:
        raise SceneError(
            "the spectra are not in reflectance", where=path.name, got=f"values up to {top:g}",
            expected=f"up to {HIGHEST_REFLECTANCE:g}", remedy="use --scale 0.01 for per cent",
        )  # fmt: skip
    names = [row[columns["name"]].strip() if "name" in columns else "" for row in rows[1:]]
    return FieldSpectra(
        tuple(name or str(number) for number, name in enumerate(names, 1)),
        places[:, 0], places[:, 1], pair[0] == "lon", values.astype(np.float32), bands,
    )  # fmt: skip


_WAVELENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(?:nm)?")


def read_spectral_library(path: Path, *, wavelength_unit: Unit = "nm") -> SpectralLibrary:
    """The spectra of an ENVI spectral library (``.sli`` with ``.hdr`` beside it).

    In libraries that USGS made with PRISM the first two spectra are wavelengths and resolutions, and every
    other spectrum is an error bar. The first two become the bands, the error bars are dropped.

    Parameters
    ----------
    path : the ``.sli`` file.
    wavelength_unit : used if the header does not state it.

    Raises
    ------
    SceneError
        The header is missing or does not describe the file, or there are no wavelengths.
    """
    header = _read_envi_header(path.with_suffix(".hdr"))
    layout = Layout(wavelength_unit=wavelength_unit)
    unit = header.get("wavelength units")
    with reading_file(path, "the header does not describe the library"):
        count, samples = int(header["lines"]), int(header["samples"])
        kind = {"4": "f4", "5": "f8", "2": "i2", "12": "u2"}[header["data type"]]
        order = ">" if header.get("byte order", "0") == "1" else "<"
        scale = float(header.get("reflectance scale factor", "1"))
        names = [name.strip() for name in header["spectra names"].split(",")]
        # numpy would take memory for what the header states.
        if min(count, samples) < 1 or count * samples * int(kind[1]) > path.stat().st_size:
            raise ValueError(f"{count} spectra of {samples} values are not in the file")
        spectra = np.fromfile(path, dtype=order + kind, count=count * samples).reshape(count, samples)
        spectra = spectra.astype(np.float64)
        ignored = float(header["data ignore value"]) if "data ignore value" in header else None
        if ignored is not None:
            spectra[np.isclose(spectra, ignored, rtol=1e-5)] = np.nan
        bands = None
        if "wavelength" in header:
            centre = [float(x) for x in header["wavelength"].split(",")]
            widths = [float(x) for x in header["fwhm"].split(",")] if "fwhm" in header else None
            bands = bands_in(centre, widths, unit, layout)
        elif names[0].startswith("Wavelengths"):
            # USGS splib07 states micrometres in the record's own name.
            bands = bands_in(spectra[0], spectra[1], "micrometers", layout)
        if bands is not None and len(bands) != samples:
            raise ValueError(f"{len(bands)} wavelengths for {samples} values")
    if bands is None:
        raise SceneError("the library does not say its wavelengths", where=path.name)
    rows = [
        i
        for i, name in enumerate(names[:count])
        if not name.startswith(("error bars", "Wavelengths in", "Resolution"))
    ]
    ascending = np.argsort(bands.centre_nm)
    values = (spectra[rows][:, ascending] / scale).astype(np.float32)
    return SpectralLibrary(tuple(names[i] for i in rows), values, bands.subset(ascending))


def sample_of(name: str) -> str:
    """The sample of a spectrum, from a name in the USGS form: material, number, notes, spectrometer.

    ``Albite HS66.3B Plagioclase  NIC4bbb RREF`` and ``Albite HS66.4B  ASDFRc AREF`` are one sample in two
    grain sizes under two spectrometers: ``HS66``. The number alone identifies a sample, since the spelling of
    materials varies. Without a number the first two words do, except temperatures.
    """
    words = SPECTROMETER.sub("", name).split()
    if len(words) < 2:
        return " ".join(words) or name
    if number := NUMBERED.match(words[1]):
        return number[0]
    return words[0] if TEMPERATURE.fullmatch(words[1]) else " ".join(words[:2])


def _read_envi_header(path: Path) -> dict[str, str]:
    """The fields of an ENVI header, keys in lower case, without braces."""
    if not path.is_file():
        raise SceneError("no ENVI header beside the library", where=path.name)
    with reading_file(path):
        lines = iter(read_bounded(path, MOST_HEADER).decode("latin-1").splitlines())
    fields = {}
    for line in lines:
        key, _, value = line.partition("=")
        if value.lstrip().startswith("{"):
            parts = [value]
            while "}" not in parts[-1] and (more := next(lines, None)) is not None:
                parts.append(more)
            value = "".join(parts).partition("}")[0]
        fields[key.strip().lower()] = value.strip("{ ")
    return fields


def read_responses(
    path: Path, channels: Sequence[str | int], *, wavelength_unit: Unit = "nm"
) -> MeasuredBands:
    """Measured response curves of a camera's channels.

    Parameters
    ----------
    path : an ENVI library (``.sli``), or a table whose first column is the wavelength and whose others are
        curves: ``.csv``, ``.xls`` (first sheet) or ``.mat`` (its one array of two axes).
    channels : the curves of red, green and blue, each by its name or its number; 1 is the first curve.
    wavelength_unit : used if the file does not state it.

    Raises
    ------
    SceneError
        The file cannot be read, or has no such curve.
    """
    names, nm, curves = _curves(path, wavelength_unit)
    picked = []
    for channel in channels:
        position = names.index(channel) if channel in names else channel
        if not isinstance(position, int) or not 0 <= position - (channel not in names) < len(curves):
            raise SceneError(
                "no such response curve",
                where=path.name,
                got=channel,
                expected=f"{', '.join(names) or 'no name'}, or 1 to {len(curves)}",
            )
        picked.append(position - (channel not in names))
    # Measured zeros scatter around zero.
    chosen = np.maximum(np.nan_to_num(curves[picked]), 0.0)
    try:
        return MeasuredBands.from_curves(nm, chosen)
    except UsageError as err:
        raise SceneError(str(err), where=path.name) from err


def read_sensor(path: Path) -> Sensor:
    """The bands of a sensor from a file with the response of each, in order.

    Bands without a name are called B1, B2, and so on.

    Parameters
    ----------
    path : as in ``read_responses``.

    Raises
    ------
    SceneError : the file cannot be read.
    """
    names, _, curves = _curves(path, "nm")
    bands = read_responses(path, range(1, len(curves) + 1))
    names = names or [f"B{number}" for number in range(1, len(curves) + 1)]
    colours = [name or "" for name in colours_of(bands)]
    return Sensor(tuple(names), tuple(colours), bands, path.name)


def _curves(path: Path, unit: Unit) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """The names of a file's curves, their wavelengths (W,), nm, and the curves (C, W)."""
    if path.suffix.lower() == ".sli":
        library = read_spectral_library(path, wavelength_unit=unit)
        names, curves = list(library.names), library.spectra.astype(np.float64)
        nm = np.asarray(library.bands.centre_nm)
    else:
        readers = {".csv": _csv_table, ".xls": _xls_table, ".mat": _mat_table}
        if path.suffix.lower() not in readers:
            raise SceneError("unknown kind of file", where=path.name, expected=".sli, .csv, .xls, .mat")
        with reading_file(path, "cannot be read as response curves"):
            names, table = readers[path.suffix.lower()](path)
            nm = np.asarray(bands_in(table[:, 0], None, None, Layout(wavelength_unit=unit)).centre_nm)
        curves = table[:, 1:].T
    return names, nm, curves


def _rows_table(rows: Sequence[Sequence[object]]) -> tuple[list[str], NDArray[np.float64]]:
    """The names of the curves, from a first row of text, and the table of numbers below it."""
    filled = [row for row in rows if any(str(cell).strip() for cell in row)]
    names: list[str] = []
    try:
        float(str(filled[0][0]))
    except ValueError:
        names = [str(cell).strip() for cell in filled[0][1:]]
        filled = filled[1:]
    return names, np.array([[float(str(cell)) for cell in row] for row in filled])


def _csv_table(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    with path.open(encoding="utf-8", newline="") as file:
        return _rows_table(list(csv.reader(file)))


def _xls_table(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    sheet = xlrd.open_workbook(path).sheet_by_index(0)
    return _rows_table([sheet.row_values(row) for row in range(sheet.nrows)])


def _mat_table(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    tables = [value for key, value in loadmat(path).items() if not key.startswith("__")]
    if len(tables) != 1 or tables[0].ndim != 2:
        raise ValueError("it holds more than one table")
    return [], np.asarray(tables[0], dtype=np.float64)
