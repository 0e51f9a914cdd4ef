"""Hyperspectral scenes and spectral libraries from files, as reflectance in their own bands.

Units are declared, never guessed: a scale that the file does not carry is an argument.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy.io import loadmat

from catalog.bands import Bands
from catalog.errors import SceneError

Floats = NDArray[np.float32]

LEAST_VALID = 1e-6
"""A pixel whose every band is at or below this is padding."""


@dataclass(frozen=True, eq=False)
class Hyperspectral:
    """A hyperspectral scene in memory."""

    cube: Floats
    """(B, H, W) float32 reflectance; zero where not valid."""
    bands: Bands
    """Its B bands, in ascending order of wavelength."""
    valid: NDArray[np.bool_]
    """(H, W), False where any band is missing or the pixel is padding."""

    def within(self, first_nm: float, last_nm: float) -> Hyperspectral:
        """The bands whose centres lie in a range; their mask stays that of all bands."""
        centre = np.asarray(self.bands.centre_nm)
        keep = np.flatnonzero((centre >= first_nm) & (centre <= last_nm))
        if keep.size == 0:
            raise SceneError("no band in that range", got=f"{centre.min():g}–{centre.max():g} nm")
        return Hyperspectral(self.cube[keep], self.bands.subset(keep), self.valid)


@dataclass(frozen=True, eq=False)
class SpectralLibrary:
    """Spectra with names."""

    names: tuple[str, ...]
    """What each spectrum is of."""
    spectra: Floats
    """(N, B) float32 reflectance, NaN where a channel was deleted."""
    bands: Bands
    """Their B bands, in ascending order of wavelength."""


def read_hyperspectral(
    path: Path, *, bands: Bands | None = None, scale: float | None = None, nodata: float | None = None
) -> Hyperspectral:
    """The scene in a GeoTIFF, NEON HDF5 or MATLAB file.

    Parameters
    ----------
    path : ``.tif``/``.tiff``, ``.h5`` or ``.mat`` (version 5).
    bands : of the file, where it does not carry them.
    scale : reflectance per count, where the file does not carry it; 1 for reflectance itself.
    nodata : the value of missing samples, where the file does not carry it.

    Raises
    ------
    SceneError
        Where the file cannot be read, or its bands or scale are neither in it nor given.
    """
    readers = {".tif": _read_geotiff, ".tiff": _read_geotiff, ".h5": _read_neon, ".mat": _read_matlab}
    if path.suffix.lower() not in readers:
        raise SceneError("unknown kind of file", where=path.name, expected=", ".join(readers))
    if not path.is_file():
        raise SceneError("no such file", where=str(path))
    try:
        raw = readers[path.suffix.lower()](path)
    except (OSError, ValueError, KeyError, NotImplementedError, rasterio.errors.RasterioError) as err:
        raise SceneError(f"cannot be read: {err}", where=path.name) from err
    found = raw.bands or bands
    factor = raw.scale if raw.scale is not None else scale
    missing = raw.nodata if raw.nodata is not None else nodata
    if found is None:
        raise SceneError("the file does not say its wavelengths", where=path.name, remedy="give its bands")
    if len(found) != raw.counts.shape[0]:
        raise SceneError(
            "wavelengths and bands do not match",
            where=path.name,
            got=len(found),
            expected=raw.counts.shape[0],
        )
    if factor is None:
        raise SceneError("the file does not say its scale", where=path.name, remedy="give its scale")
    order = np.argsort(found.centre_nm)
    good = np.isfinite(raw.counts).all(axis=0)
    if missing is not None:
        good &= (raw.counts != missing).all(axis=0)
    cube = raw.counts[order].astype(np.float32) * np.float32(factor)
    good &= (cube > LEAST_VALID).any(axis=0)
    cube[:, ~good] = 0.0
    return Hyperspectral(cube, found.subset(order), good)


@dataclass(frozen=True, eq=False)
class _Raw:
    """What a file says; None where it does not."""

    counts: NDArray[np.generic]
    bands: Bands | None = None
    scale: float | None = None
    nodata: float | None = None


def _read_geotiff(path: Path) -> _Raw:
    with rasterio.open(path) as source:
        tags = [source.tags(i) for i in source.indexes]
        counts = source.read()
        scales = set(source.scales)
        nodata = source.nodata
    bands = None
    if all("wavelength" in tag for tag in tags):
        # GDAL names the unit beside it; ENVI files that became GeoTIFF often hold micrometres.
        unit = tags[0].get("wavelength_units", "nanometers").lower()
        factor = 1000.0 if unit.startswith("micro") else 1.0
        centre = np.array([float(tag["wavelength"]) for tag in tags]) * factor
        widths = [tag.get("fwhm") for tag in tags]
        bands = Bands.from_arrays(centre, [float(w) * factor for w in widths if w] if all(widths) else None)
    scale = scales.pop() if len(scales) == 1 else None
    # GDAL reports 1 for a file that says nothing.
    return _Raw(counts, bands, None if scale == 1.0 else scale, nodata)


def _read_neon(path: Path) -> _Raw:
    """NEON AOP reflectance (NEON.DOC.001288): /SITE/Reflectance/Reflectance_Data, rows × columns × bands."""
    with h5py.File(path) as file:
        site = next(iter(file.values()))["Reflectance"]
        data = site["Reflectance_Data"]
        spectral = site["Metadata/Spectral_Data"]
        fwhm = spectral["FWHM"][()] if "FWHM" in spectral else None
        bands = Bands.from_arrays(spectral["Wavelength"][()], fwhm)
        scale = float(np.ravel(data.attrs["Scale_Factor"])[0])
        nodata = float(np.ravel(data.attrs["Data_Ignore_Value"])[0])
        return _Raw(np.moveaxis(data[()], -1, 0), bands, 1.0 / scale, nodata)


def _read_matlab(path: Path) -> _Raw:
    """The one array of three axes, rows × columns × bands, and ``wavelengths`` in nm where it is there."""
    content = {key: value for key, value in loadmat(path).items() if isinstance(value, np.ndarray)}
    cubes = {key: value for key, value in content.items() if value.ndim == 3}
    if len(cubes) != 1:
        raise ValueError(f"it holds {len(cubes)} arrays of three axes, expected one")
    wavelengths = content.get("wavelengths")
    bands = Bands.from_arrays(wavelengths) if wavelengths is not None else None
    return _Raw(np.moveaxis(next(iter(cubes.values())), -1, 0), bands)


def read_spectral_library(path: Path) -> SpectralLibrary:
    """The spectra of an ENVI spectral library (``.sli`` with ``.hdr`` beside it).

    Libraries that USGS made with PRISM keep the wavelengths and resolutions as their first two spectra
    and error bars as every other one; the former become the bands and the latter are dropped.

    Raises
    ------
    SceneError
        Where the header is missing or does not describe the file, or wavelengths are nowhere.
    """
    header = _read_envi_header(path.with_suffix(".hdr"))
    try:
        count, samples = int(header["lines"]), int(header["samples"])
        kind = {"4": "f4", "5": "f8", "2": "i2", "12": "u2"}[header["data type"]]
        order = ">" if header.get("byte order", "0") == "1" else "<"
        scale = float(header.get("reflectance scale factor", "1"))
        names = [name.strip() for name in header["spectra names"].split(",")]
        spectra = np.fromfile(path, dtype=order + kind, count=count * samples).reshape(count, samples)
    except (KeyError, ValueError, OSError) as err:
        raise SceneError(f"the header does not describe the library: {err}", where=path.name) from err
    spectra = spectra.astype(np.float64)
    ignored = float(header["data ignore value"]) if "data ignore value" in header else None
    if ignored is not None:
        spectra[np.isclose(spectra, ignored, rtol=1e-5)] = np.nan
    micrometres = header.get("wavelength units", "").lower().startswith("micro")
    factor = 1000.0 if micrometres else 1.0
    if "wavelength" in header:
        centre = np.array([float(x) for x in header["wavelength"].split(",")]) * factor
        widths = [float(x) * factor for x in header["fwhm"].split(",")] if "fwhm" in header else None
    elif names[0].startswith("Wavelengths"):
        # USGS splib07 states micrometres in the record's own name.
        centre, widths = spectra[0] * 1000.0, list(spectra[1] * 1000.0)
    else:
        raise SceneError("the library does not say its wavelengths", where=path.name)
    rows = [
        i
        for i, name in enumerate(names[:count])
        if not name.startswith(("error bars", "Wavelengths in", "Resolution"))
    ]
    bands = Bands.from_arrays(centre, widths)
    ascending = np.argsort(centre)
    values = (spectra[rows][:, ascending] / scale).astype(np.float32)
    return SpectralLibrary(tuple(names[i] for i in rows), values, bands.subset(ascending))


def _read_envi_header(path: Path) -> dict[str, str]:
    """The fields of an ENVI header, keys in lower case, braces taken off."""
    try:
        text = path.read_text(encoding="latin-1")
    except OSError as err:
        raise SceneError("no ENVI header beside the library", where=path.name) from err
    fields = re.findall(r"^\s*([^=\n{]+?)\s*=\s*(\{.*?\}|[^\n]*)", text, flags=re.MULTILINE | re.DOTALL)
    return {key.lower(): value.strip("{} \r\n") for key, value in fields}
