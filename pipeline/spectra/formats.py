"""Readers of hyperspectral files, one per format: counts, bands, scale, nodata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import rasterio
import xarray as xr
import zarr
from numpy.typing import ArrayLike, NDArray
from scipy.io import loadmat
from zarr.abc.store import Store

from spectile.catalog.bands import Bands
from spectile.catalog.errors import SceneError
from spectile.pipeline.files.opening import open_raster
from spectile.pipeline.files.untrusted import check_decoded, reading_file
from spectile.pipeline.store.base import read_bounded
from spectile.pipeline.store.zarr_files import ZarrFiles

Axes = Literal["yxb", "xyb", "byx", "bxy", "ybx", "xby"]
Unit = Literal["nm", "um"]

MOST_HEADER = 16_000_000
"""Bytes of the longest ENVI header that is read."""
PLAUSIBLE_NM = (200.0, 20_000.0)
"""Valid band centres, nm. Centres outside have the wrong unit: a value in µm is never in this range."""


@dataclass(frozen=True)
class Layout:
    """What a file does not state itself; a key that does not apply to its format is an error."""

    dataset: str | None = None
    """The array of the scene inside a MATLAB, HDF5 or Zarr file."""
    wavelengths: str | None = None
    """The array of band centres inside a MATLAB or HDF5 file."""
    fwhm: str | None = None
    """The array of band widths beside it."""
    axes: Axes | None = None
    """The order of a MATLAB or HDF5 array: b band, y row, x column; ``yxb`` by default."""
    wavelength_unit: Unit = "nm"
    """The unit of wavelengths if the file does not state it."""
    shape: tuple[int, int, int] | None = None
    """The sizes of ``axes`` that the pixels of a MATLAB array of two axes are sorted into."""
    good: str | None = None
    """The array inside a MATLAB file that is 0 for bad bands."""
    band_numbers: str | None = None
    """The array inside a MATLAB file that says which of the given bands these are, from 1."""
    first_bands: int | None = None
    """How many bands are read, from the first; the others are as if they were not in the file."""


@dataclass(frozen=True, eq=False)
class Raw:
    """The contents of a file; None for what it does not state."""

    counts: NDArray[np.generic]
    """(B, H, W) as stored."""
    bands: Bands | None = None
    """Its B bands, in the order of the file."""
    scale: float | None = None
    """Reflectance per count."""
    offset: float = 0.0
    """Reflectance of a count of zero."""
    nodata: float | None = None
    """The value of missing samples."""
    good: NDArray[np.bool_] | None = None
    """(B,) False where the file marks a band as bad."""
    numbers: NDArray[np.intp] | None = None
    """(B,) which bands of the instrument these are, from 1."""

    def first(self, count: int) -> Raw:
        """The first bands alone."""
        if not 1 <= count <= len(self.counts):
            raise ValueError(f"it has {len(self.counts)} bands, not the first {count}")
        return replace(
            self,
            counts=self.counts[:count],
            bands=None if self.bands is None else self.bands.subset(range(count)),
            good=None if self.good is None else self.good[:count],
            numbers=np.arange(1, count + 1) if self.numbers is None else self.numbers[:count],
        )

    def known_bands(self, given: Bands | None, where: str) -> Bands:
        """The bands that the file states, or else those that are given, by their numbers if it has these.

        Raises
        ------
        SceneError : there are none, or other ones than the array has.
        """
        found = self.bands or given
        if found is None:
            raise SceneError(
                "the file does not say its wavelengths", where=where, remedy="give its bands (bands_of)"
            )
        if self.bands is None and self.numbers is not None:
            if not ((self.numbers >= 1) & (self.numbers <= len(found))).all():
                said = f"{self.numbers.min()} to {self.numbers.max()}"
                raise SceneError("no such band numbers", where=where, got=said, expected=f"1 to {len(found)}")
            found = found.subset(self.numbers - 1)
        if len(found) != len(self.counts):
            raise SceneError(
                "wavelengths and bands do not match", where=where, got=len(found), expected=len(self.counts)
            )
        return found


def read_raw(path: Path, layout: Layout) -> Raw:
    """The contents of a file, by the reader of its format; ValueError if it cannot be used."""
    raw = _READERS[kind_of(path)](path, layout)
    return raw if layout.first_bands is None else raw.first(layout.first_bands)


def kind_of(path: Path) -> str:
    """The format of a path by its suffix, ``""`` for a path without one; Zarr stores are folders."""
    if path.is_dir():
        return "zarr" if any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs")) else ""
    suffix = path.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    return "envi" if suffix != ".hdr" and envi_header(path) else ""


def bands_in(centre: ArrayLike, fwhm: ArrayLike | None, unit: str | None, layout: Layout) -> Bands:
    """Bands from arrays in the unit that the file names, or else in the layout's unit."""
    said = (unit or "").strip().lower()
    if said in ("", "unknown"):
        said = layout.wavelength_unit
    if said.startswith("nano") or said == "nm":
        factor = 1.0
    elif said.startswith("micro") or said in ("um", "µm", "μm"):
        factor = 1000.0
    else:
        raise ValueError(f"wavelengths in {unit}, expected nm or µm")
    nm = np.ravel(np.asarray(centre, dtype=np.float64)) * factor
    low, high = PLAUSIBLE_NM
    if not ((nm >= low) & (nm <= high)).all():
        raise ValueError(
            f"wavelengths of {nm.min():g} to {nm.max():g} nm are not plausible; give their wavelength_unit"
        )
    return Bands.from_arrays(nm, None if fwhm is None else np.ravel(np.asarray(fwhm)) * factor)


MATLAB_ONLY = ("shape", "good", "band_numbers")


def _refuse(layout: Layout, *keys: str) -> None:
    for key in keys:
        if getattr(layout, key) is not None:
            raise ValueError(f"{key} does not apply to this format")


def _read_geotiff(path: Path, layout: Layout) -> Raw:
    _refuse(layout, "dataset", "wavelengths", "fwhm", "axes", *MATLAB_ONLY)
    with open_raster(str(path)) as source:
        return _raw(path, source, stated_by_geotiff(source, layout))


def stated_by_geotiff(source: rasterio.DatasetReader, layout: Layout) -> dict[str, Any]:
    """What an open GeoTIFF states, as fields of ``Raw``; ValueError if it contradicts itself."""
    tags = [source.tags(i) for i in source.indexes]
    imagery = [source.tags(i, ns="IMAGERY") for i in source.indexes]
    bands = None
    if all("wavelength" in tag for tag in tags):
        widths = [float(tag["fwhm"]) for tag in tags if "fwhm" in tag]
        unit = tags[0].get("wavelength_units")
        centre = [float(tag["wavelength"]) for tag in tags]
        bands = bands_in(centre, widths if len(widths) == len(tags) else None, unit, layout)
    elif all("CENTRAL_WAVELENGTH_UM" in tag for tag in imagery):
        widths = [float(tag["FWHM_UM"]) for tag in imagery if "FWHM_UM" in tag]
        centre = [float(tag["CENTRAL_WAVELENGTH_UM"]) for tag in imagery]
        bands = bands_in(centre, widths if len(widths) == len(imagery) else None, "um", layout)
    good = np.array([tag["bbl"] != "0" for tag in tags]) if all("bbl" in tag for tag in tags) else None
    return {"bands": bands, "good": good, **_numbers(source)}


def _raw(path: Path, source: rasterio.DatasetReader, stated: Mapping[str, Any]) -> Raw:
    """The counts of an open raster, with what it states."""
    check_decoded(path, (source.count, *source.shape), source.dtypes[0])
    return Raw(source.read(), **stated)


def _numbers(source: rasterio.DatasetReader) -> dict[str, Any]:
    """Scale, offset and nodata of an open raster; GDAL returns 1 for a missing scale."""
    for name, numbers in (("scales", source.scales), ("offsets", source.offsets)):
        if len(set(numbers)) > 1:
            raise ValueError(f"its bands have different {name}")
    scale = source.scales[0]
    return {"offset": source.offsets[0], "nodata": source.nodata, "scale": None if scale == 1.0 else scale}


def envi_header(path: Path) -> Path | None:
    """The header beside an ENVI file, ``NAME.hdr`` or ``NAME.SUFFIX.hdr``, if there is one."""
    return next((h for h in (path.with_suffix(".hdr"), Path(f"{path}.hdr")) if h.is_file()), None)


def read_envi_header(path: Path) -> dict[str, str]:
    """The fields of an ENVI header, keys in lower case, without braces.

    GDAL leaves out fields of more than some thousand characters.

    Raises
    ------
    SceneError : it cannot be read.
    """
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


def _read_envi(path: Path, layout: Layout) -> Raw:
    """An ENVI raster of any interleave, named by its data file."""
    _refuse(layout, "dataset", "wavelengths", "fwhm", "axes", *MATLAB_ONLY)
    with open_raster(str(path)) as source:
        return _raw(path, source, stated_by_envi(source, layout))


def stated_by_envi(source: rasterio.DatasetReader, layout: Layout) -> dict[str, Any]:
    """What the header of an open ENVI raster states, as fields of ``Raw``."""
    beside = envi_header(Path(source.name))
    if beside is None:
        raise ValueError("no ENVI header (.hdr) beside it")
    # GDAL leaves out long fields, so it is read here.
    header, stated = read_envi_header(beside), _numbers(source)

    def numbers(key: str) -> list[float] | None:
        return [float(x) for x in header[key].split(",")] if key in header else None

    bands = None
    if centre := numbers("wavelength"):
        bands = bands_in(centre, numbers("fwhm"), header.get("wavelength units"), layout)
    if "reflectance scale factor" in header and stated["scale"] is None:
        stated["scale"] = 1.0 / float(header["reflectance scale factor"])
    bad = numbers("bbl")
    return {"bands": bands, "good": None if bad is None else np.array(bad) != 0, **stated}


def _read_hdf5(path: Path, layout: Layout) -> Raw:
    """Any array of three axes in HDF5 (also NetCDF-4); NEON AOP reflectance if no array is named."""
    _refuse(layout, *MATLAB_ONLY)
    with h5py.File(path) as file:
        if layout.dataset is None:
            _refuse(layout, "wavelengths", "fwhm", "axes")
            return _read_neon(file, layout)
        data = _h5(file, layout.dataset)
        widths = h5_values(file, _h5(file, layout.fwhm)) if layout.fwhm is not None else None
        bands = None
        if layout.wavelengths is not None:
            centre = _h5(file, layout.wavelengths)
            unit = _text(centre.attrs, "units", "Units")
            bands = bands_in(h5_values(file, centre), widths, unit, layout)
        scale, nodata = _number(data.attrs, "scale_factor"), _number(data.attrs, "_FillValue")
        offset = _number(data.attrs, "add_offset") or 0.0
        return Raw(_band_first(h5_values(file, data), layout), bands, scale, offset, nodata)


def _h5(file: h5py.File, name: str) -> Any:
    found = file.get(name)
    if isinstance(found, h5py.Dataset):
        return found
    cubes: list[str] = []
    file.visititems(lambda path, item: cubes.append(path) if isinstance(item, h5py.Dataset) else None)
    raise ValueError(f"no array {name}; it holds {', '.join(cubes[:12])}")


def h5_values(file: h5py.File, data: h5py.Dataset) -> NDArray[Any]:
    """The values of an HDF5 array, which must be kept in the file itself.

    Raises
    ------
    ValueError : it lies in another file, or is too large for this one.
    """
    if data.file.filename != file.filename or data.external or data.is_virtual:
        raise ValueError(f"{data.name} refers to other files")
    check_decoded(Path(file.filename), data.shape or (), data.dtype)
    return np.asarray(data[()])


def _text(attributes: Mapping[str, Any], *keys: str) -> str | None:
    """The first attribute that exists, as text."""
    for key in keys:
        if key in attributes:
            value = np.ravel(attributes[key])[0]
            return value.decode() if isinstance(value, bytes) else str(value)
    return None


def _number(attributes: Mapping[str, Any], key: str) -> float | None:
    return float(np.ravel(attributes[key])[0]) if key in attributes else None


def _read_neon(file: h5py.File, layout: Layout) -> Raw:
    """NEON AOP reflectance (NEON.DOC.001288): /SITE/Reflectance/Reflectance_Data, rows × columns × bands."""
    # A list, here and below: h5py holds its lock while an iterator waits, and an error leaves it waiting.
    site = next(
        (group for group in list(file.values()) if isinstance(group, h5py.Group) and "Reflectance" in group),
        None,
    )
    if site is None:
        raise ValueError("not a NEON file; name its dataset")
    reflectance = site["Reflectance"]
    data = reflectance["Reflectance_Data"]
    spectral = reflectance["Metadata/Spectral_Data"]
    fwhm = h5_values(file, spectral["FWHM"]) if "FWHM" in spectral else None
    bands = bands_in(h5_values(file, spectral["Wavelength"]), fwhm, "nanometers", layout)
    scale = float(np.ravel(data.attrs["Scale_Factor"])[0])
    nodata = float(np.ravel(data.attrs["Data_Ignore_Value"])[0])
    return Raw(np.moveaxis(h5_values(file, data), -1, 0), bands, 1.0 / scale, nodata=nodata)


def _read_matlab(path: Path, layout: Layout) -> Raw:
    """The named array, or the only one with three axes, of a MATLAB file; with ``wavelengths`` if present."""
    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            # Version 7.3: HDF5 lists the axes of MATLAB's column-major arrays from last to first.
            content = {
                key: h5_values(file, item).T
                for key, item in list(file.items())
                if isinstance(item, h5py.Dataset)
            }
    else:
        content = {key: value for key, value in loadmat(path).items() if isinstance(value, np.ndarray)}

    def array(name: str) -> NDArray[np.generic]:
        if name not in content:
            raise ValueError(f"no array {name}; it holds {', '.join(content)}")
        found: NDArray[np.generic] = content[name]
        return found

    if layout.dataset is not None:
        cube = array(layout.dataset)
    else:
        cubes = [name for name, value in content.items() if value.ndim == 3]
        if len(cubes) != 1:
            holds = f"it holds {len(cubes)} arrays of three axes ({', '.join(cubes)})" if cubes else ""
            raise ValueError(f"{holds or 'it holds no array of three axes'}; name its dataset")
        cube = content[cubes[0]]
    bands = None
    if layout.wavelengths is not None or "wavelengths" in content:
        widths = array(layout.fwhm) if layout.fwhm is not None else None
        bands = bands_in(array(layout.wavelengths or "wavelengths"), widths, None, layout)
    good = None if layout.good is None else array(layout.good).ravel() != 0
    numbers = None if layout.band_numbers is None else array(layout.band_numbers).ravel().astype(np.intp)
    if layout.shape is not None:
        cube = cube.reshape(layout.shape)
    cube = _band_first(cube, layout)
    for name, of_bands in ((layout.good, good), (layout.band_numbers, numbers)):
        if of_bands is not None and len(of_bands) != len(cube):
            raise ValueError(f"{name} has {len(of_bands)} values for {len(cube)} bands")
    return Raw(cube, bands, good=good, numbers=numbers)


def _band_first(cube: NDArray[np.generic], layout: Layout) -> NDArray[np.generic]:
    if cube.ndim != 3:
        raise ValueError(f"the array has shape {cube.shape}, expected three axes")
    axes = layout.axes or "yxb"
    return cube.transpose([axes.index(name) for name in "byx"])


def _read_zarr(path: Path, layout: Layout) -> Raw:
    """A Zarr store as xarray writes it: an array of three dimensions with a ``wavelength`` coordinate."""
    _refuse(layout, "wavelengths", "fwhm", "axes", *MATLAB_ONLY)
    with open_zarr(path) as store:
        array, stated = spectra_of_zarr(store, layout)
        return Raw(array.values, **stated)


def open_zarr(place: Path | Store) -> xr.Dataset:
    """The numeric arrays of a store, which anybody may have written.

    Raises
    ------
    ValueError : an array is too large for the bytes of its folder.
    """
    files = ZarrFiles(place, read_only=True) if isinstance(place, Path) else place
    arrays = dict(zarr.open_group(files, mode="r", use_consolidated=False).arrays())
    # Texts and objects of Python are not decoded.
    others = [name for name, array in arrays.items() if array.dtype.kind not in "biuf"]
    if isinstance(place, Path):
        for array in arrays.values():
            check_decoded(place, tuple(map(max, array.shape, array.shards or array.chunks)), array.dtype)
    store: xr.Dataset = xr.open_zarr(files, chunks=None, consolidated=False, drop_variables=others)
    return store


def spectra_of_zarr(store: xr.Dataset, layout: Layout) -> tuple[xr.DataArray, dict[str, Any]]:
    """The array (band, y, x) of an open store, and what is stated of it, as fields of ``Raw``."""
    if "wavelength" not in store.coords or store.wavelength.ndim != 1:
        raise ValueError("it has no coordinate wavelength")
    band = str(store.wavelength.dims[0])
    cubes = [str(name) for name, held in store.data_vars.items() if held.ndim == 3 and band in held.dims]
    name = layout.dataset or ("reflectance" if "reflectance" in cubes else cubes[0] if cubes else "")
    if name not in cubes:
        raise ValueError(f"no array {name} of three dimensions; it holds {', '.join(cubes) or 'none'}")
    cube = store[name].transpose(band, ...)
    widths = store["fwhm"].values if "fwhm" in store.variables else None
    bands = bands_in(store.wavelength.values, widths, store.wavelength.attrs.get("units"), layout)
    # xarray has applied the scale, and missing samples are NaN.
    scaled = "scale_factor" in cube.encoding or cube.attrs.get("units") == "1"
    return cube, {"bands": bands, "scale": 1.0 if scaled else None}


_READERS: dict[str, Callable[[Path, Layout], Raw]] = {
    "geotiff": _read_geotiff,
    "envi": _read_envi,
    "hdf5": _read_hdf5,
    "matlab": _read_matlab,
    "zarr": _read_zarr,
}
_SUFFIXES = {
    ".tif": "geotiff", ".tiff": "geotiff", ".mat": "matlab",
    **dict.fromkeys((".h5", ".hdf5", ".he5", ".nc"), "hdf5"),
    **dict.fromkeys((".bsq", ".bil", ".bip"), "envi"),
}  # fmt: skip
KINDS = f"{', '.join(_SUFFIXES)}, an ENVI file with its .hdr, or a Zarr store"
"""The formats that can be read, for messages."""
