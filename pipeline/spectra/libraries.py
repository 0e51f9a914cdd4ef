"""Spectra and response curves from files: ENVI libraries, and tables of wavelengths and curves."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import xlrd
from numpy.typing import NDArray
from scipy.io import loadmat

from spectile.catalog.bands import Bands, MeasuredBands
from spectile.catalog.errors import SceneError, UsageError
from spectile.catalog.sensors import Sensor, colours_of
from spectile.pipeline.files.opening import check_file
from spectile.pipeline.files.untrusted import reading_file
from spectile.pipeline.spectra.formats import Layout, Raw, Unit, bands_in, envi_header, read_envi_header
from spectile.pipeline.spectra.hyperspectral import AS_STORED, read_file

Floats = NDArray[np.float32]

SPECTROMETER = re.compile(r"\s+(ASD|BECK|NIC|AVIRIS)\S*\s+[A-Z]{4}$")
"""The end of a USGS name: the spectrometer with the sample's purity, and the kind of measurement."""
NUMBERED = re.compile(r"[A-Za-z][\w-]*\d[\w-]*|\d{4,}")
"""A sample's number: the collection's letters, then digits; the grain size follows a dot."""
TEMPERATURE = re.compile(r"\d+K")
MOST_SPECTRA = 10_000
"""Field spectra of a table at most."""
MOST_TABLE_BYTES = 100_000_000
"""Bytes of such a table at most."""
HIGHEST_REFLECTANCE = 1.5
"""Field spectra above that are not in reflectance, but in per cent or counts."""


@dataclass(frozen=True)
class Table:
    """How a CSV file holds spectra."""

    spectra: Literal["rows", "columns"] = "rows"
    """One a row, the names of columns being wavelengths or numbers of bands; or one a column, the first
    column being the wavelength."""
    band_prefix: str = ""
    """What is before the number in the names of columns: ``band_`` for ``band_1``."""
    sample_column: str | None = None
    """The column that names the sample of a row; every row is its own without."""


ROWS = Table()


@dataclass(frozen=True, eq=False)
class SpectralLibrary:
    """Spectra with names."""

    names: tuple[str, ...]
    """The name of each spectrum."""
    samples: tuple[str, ...]
    """The sample that each was measured on."""
    spectra: Floats
    """(N, B) float32 reflectance, NaN where a channel was deleted."""
    bands: Bands
    """Their B bands, in ascending order of wavelength, each once."""


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


def read_spectral_library(
    path: Path,
    *,
    layout: Layout = AS_STORED,
    bands: Bands | None = None,
    scale: float | None = None,
    table: Table = ROWS,
) -> SpectralLibrary:
    """The spectra of an ENVI library, of a table, or of a raster whose pixels are spectra.

    An ENVI library (``.sli``, or what its header calls one) has its header beside it, as ``NAME.hdr`` or
    ``NAME.sli.hdr``. In those that USGS made with PRISM the first two spectra are wavelengths and
    resolutions, and every other spectrum is an error bar. The first two become the bands, the error bars
    are dropped. Rasters are of any format that scenes have; their spectra are named by the header, or
    numbered from 1 in the order of their pixels.

    Parameters
    ----------
    path : the file.
    layout : the unit of the wavelengths, if the file does not state it, and how many bands are read.
    bands : the bands, if the file does not state them; a table's columns are then numbers of these, from 1.
    scale : reflectance per count, if the file does not state it; 1 if nobody does.
    table : how a CSV file holds them.

    Raises
    ------
    SceneError
        The file or its header is missing or damaged, or there are no wavelengths.
    """
    if path.suffix.lower() == ".csv":
        with reading_file(path, "cannot be read as a table of spectra"):
            names, samples, raw = _table_of_spectra(path, layout, bands, table)
    else:
        names, raw = _envi_library(path, layout)
        samples = [sample_of(name) for name in names]
    known = raw.known_bands(bands, path.name)
    _, ascending = np.unique(known.centre_nm, return_index=True)
    if raw.good is not None:
        ascending = ascending[raw.good[ascending]]
    factor = raw.scale if raw.scale is not None else scale if scale is not None else 1.0
    counts = raw.counts.reshape(len(raw.counts), -1).T[:, ascending].astype(np.float64)
    if raw.nodata is not None:
        counts[np.isclose(counts, raw.nodata, rtol=1e-5)] = np.nan
    spectra = (counts * factor + raw.offset).astype(np.float32)
    return SpectralLibrary(tuple(names), tuple(samples), spectra, known.subset(ascending))


def read_library_bands(path: Path, *, layout: Layout = AS_STORED) -> Bands:
    """The bands of an ENVI library in the order of the file, in which instruments number them.

    Raises
    ------
    SceneError : as ``read_spectral_library``.
    """
    return _envi_library(path, layout)[1].known_bands(None, path.name)


def _envi_library(path: Path, layout: Layout) -> tuple[list[str], Raw]:
    """The names and counts (B, N, 1) of an ENVI library, or those of a raster's pixels."""
    beside = envi_header(path)
    if beside is None and path.suffix.lower() == ".sli":
        raise SceneError("no ENVI header beside the library", where=path.name)
    header = {} if beside is None else read_envi_header(beside)
    names = [name.strip() for name in header["spectra names"].split(",")] if "spectra names" in header else []
    if path.suffix.lower() != ".sli" and "spectral library" not in header.get("file type", "").lower():
        raw = read_file(path, layout)
        pixels = raw.counts[0].size
        return names if len(names) == pixels else _numbers(pixels), raw
    with reading_file(path, "the header does not describe the library"):
        raw = _read_sli(path, header, "" if not names else names[0], layout)
        if layout.first_bands is not None:
            raw = raw.first(layout.first_bands)
    count = raw.counts.shape[1]
    names = (names or _numbers(count))[:count]
    of_others = ("error bars", "Wavelengths in", "Resolution")
    kept = [at for at, name in enumerate(names) if not name.startswith(of_others)]
    return [names[at] for at in kept], replace(raw, counts=raw.counts[:, kept])


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]


def _read_sli(path: Path, header: Mapping[str, str], first: str, layout: Layout) -> Raw:
    count, samples = int(header["lines"]), int(header["samples"])
    kind = {"4": "f4", "5": "f8", "2": "i2", "12": "u2"}[header["data type"]]
    order = ">" if header.get("byte order", "0") == "1" else "<"
    # numpy would take memory for what the header states.
    if min(count, samples) < 1 or count * samples * int(kind[1]) > path.stat().st_size:
        raise ValueError(f"{count} spectra of {samples} values are not in the file")
    spectra = np.fromfile(path, dtype=order + kind, count=count * samples).reshape(count, samples)
    bands = None
    if "wavelength" in header:
        centre = [float(x) for x in header["wavelength"].split(",")]
        widths = [float(x) for x in header["fwhm"].split(",")] if "fwhm" in header else None
        bands = bands_in(centre, widths, header.get("wavelength units"), layout)
    elif first.startswith("Wavelengths"):
        # USGS splib07 states micrometres in the record's own name.
        bands = bands_in(spectra[0], spectra[1], "micrometers", layout)
    if bands is not None and len(bands) != samples:
        raise ValueError(f"{len(bands)} wavelengths for {samples} values")
    factor, ignored = header.get("reflectance scale factor"), header.get("data ignore value")
    return Raw(
        spectra.T[:, :, None],
        bands,
        scale=None if factor is None else 1.0 / float(factor),
        nodata=None if ignored is None else float(ignored),
    )


def _table_of_spectra(
    path: Path, layout: Layout, bands: Bands | None, table: Table
) -> tuple[list[str], list[str], Raw]:
    """The names, samples and counts (B, N, 1) of a CSV file."""
    if table.spectra == "columns":
        names, values = _csv_table(path)
        names = names or _numbers(values.shape[1] - 1)
        raw = Raw(values[:, 1:, None], bands_in(values[:, 0], None, None, layout))
        return names, names, raw if layout.first_bands is None else raw.first(layout.first_bands)
    with path.open(encoding="utf-8-sig", newline="") as file:
        head, *rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    number = re.compile(re.escape(table.band_prefix) + r"(\d+(?:\.\d+)?)")
    found = [
        (at, float(match[1])) for at, cell in enumerate(head) if (match := number.fullmatch(cell.strip()))
    ]
    if not found:
        raise ValueError(f"no column is named {table.band_prefix}NUMBER; see spectra and band_prefix")
    if table.sample_column is not None and table.sample_column not in head:
        raise ValueError(f"no column {table.sample_column}")
    columns, of_band = zip(*found, strict=True)
    values = np.array([[_cell(row[at]) for at in columns] for row in rows])
    if bands is None:
        raw = Raw(values.T[:, :, None], bands_in(of_band, None, None, layout))
    else:
        raw = Raw(values.T[:, :, None], numbers=np.array(of_band, dtype=np.intp))
    at = None if table.sample_column is None else head.index(table.sample_column)
    named = _numbers(len(rows)) if at is None else [row[at].strip() for row in rows]
    return named, named, raw if layout.first_bands is None else raw.first(layout.first_bands)


def _cell(text: str) -> float:
    """A number of a table, NaN where it is missing."""
    return math.nan if text.strip() in ("", "NA") else float(text)


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
        library = read_spectral_library(path, layout=Layout(wavelength_unit=unit))
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
