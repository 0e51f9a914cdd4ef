"""Hyperspectral scenes from files, as reflectance in their own bands.

Units are declared, never guessed: a scale that is not in the file must be given.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import median_abs_deviation

from spectile.catalog.bands import Bands
from spectile.catalog.errors import SceneError
from spectile.pipeline.files.untrusted import reading_file
from spectile.pipeline.spectra.formats import KINDS, Layout, Raw, bands_in, kind_of, read_raw

Floats = NDArray[np.float32]

LEAST_VALID = 1e-6
"""A pixel is padding if all its bands are at or below this value."""

LEAST_DEVIATION = 1e-3
"""Smallest standard deviation assumed for the differences from neighbouring bands, reflectance."""

AS_STORED = Layout()


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
        """The bands with centres in a range; the mask is still that of all bands."""
        centre = np.asarray(self.bands.centre_nm)
        keep = np.flatnonzero((centre >= first_nm) & (centre <= last_nm))
        if keep.size == 0:
            raise SceneError("no band in that range", got=f"{centre.min():g}–{centre.max():g} nm")
        return Hyperspectral(self.cube[keep], self.bands.subset(keep), self.valid)

    def despiked(self, factor: float) -> Hyperspectral:
        """The scene with spiky pixels masked; no value is changed.

        A band's deviation is its value less the median of the two bands on either side. A pixel is masked
        where, in any band, the deviation lies further from its median over the valid pixels than
        ``factor`` robust standard deviations (1.4826 · MAD, at least ``LEAST_DEVIATION``). A band with spikes
        everywhere has a large deviation and is not detected: leave it out first.
        """
        count = len(self.bands)
        spiky = np.zeros(int(self.valid.sum()), dtype=bool)
        spectra = self.cube[:, self.valid]
        for band in range(count):
            beside = [b for b in range(max(band - 2, 0), min(band + 3, count)) if b != band]
            if not beside or not spiky.size:
                break
            deviation = spectra[band] - np.median(spectra[beside], axis=0)
            scatter = max(float(median_abs_deviation(deviation, scale="normal")), LEAST_DEVIATION)
            spiky |= np.abs(deviation - np.median(deviation)) > factor * scatter
        valid = self.valid.copy()
        valid[valid] = ~spiky
        return Hyperspectral(self.cube * valid, self.bands, valid)


def read_hyperspectral(
    path: Path,
    *,
    layout: Layout = AS_STORED,
    bands: Bands | None = None,
    scale: float | None = None,
    nodata: float | None = None,
    bad_nm: Sequence[tuple[float, float]] = (),
) -> Hyperspectral:
    """The scene in a GeoTIFF, ENVI, HDF5 (NEON, NetCDF-4), MATLAB (v5, v7.3) file or Zarr store.

    Parameters
    ----------
    path : the file; for ENVI the data file, with its ``.hdr`` beside it.
    layout : the arrays inside the file, and their axes.
    bands : the bands, if the file does not state them.
    scale : reflectance per count, if the file does not state it; 1 for reflectance itself.
    nodata : the value of missing samples, if the file does not state it.
    bad_nm : ranges of bands to leave out, in addition to those that the file marks as bad (bbl).

    Raises
    ------
    SceneError
        The file cannot be read, bands or scale are neither in it nor given, or no pixel is valid.
    """
    return hyperspectral_of(
        read_file(path, layout), path.name, bands=bands, scale=scale, nodata=nodata, bad_nm=bad_nm
    )


def hyperspectral_of(
    raw: Raw,
    name: str,
    *,
    bands: Bands | None = None,
    scale: float | None = None,
    nodata: float | None = None,
    bad_nm: Sequence[tuple[float, float]] = (),
) -> Hyperspectral:
    """The scene in what was read of a file of this name; else as ``read_hyperspectral``.

    Raises
    ------
    SceneError
        Bands or scale are neither in it nor given, or no pixel is valid.
    """
    found = raw.known_bands(bands, name)
    factor = raw.scale if raw.scale is not None else scale
    missing = raw.nodata if raw.nodata is not None else nodata
    if factor is None:
        raise SceneError("the file does not say its scale", where=name, remedy="give its scale")
    centre = np.asarray(found.centre_nm)
    keep = np.ones(len(found), dtype=bool) if raw.good is None else raw.good.copy()
    for first, last in bad_nm:
        keep &= (centre < first) | (centre > last)
    if not keep.any():
        raise SceneError("every band is bad", where=name)
    order = np.array([band for band in np.argsort(centre) if keep[band]])
    counts = raw.counts if keep.all() else raw.counts[keep]
    finite = np.isfinite(counts).all(axis=0)
    here = np.ones_like(finite) if missing is None else (counts != missing).all(axis=0)
    cube = raw.counts[order].astype(np.float32) * np.float32(factor) + np.float32(raw.offset)
    good: NDArray[np.bool_] = finite & here & (cube > LEAST_VALID).any(axis=0)
    if not good.any():
        raise SceneError(
            "no pixel is valid in all bands",
            where=name,
            got=f"{(~finite).sum()} not finite, {(~here).sum()} nodata, of {good.size}",
            remedy="leave bad bands out (bad_nm), or check the nodata value",
        )
    cube[:, ~good] = 0.0
    return Hyperspectral(cube, found.subset(order), good)


def read_bands(path: Path, *, layout: Layout = AS_STORED) -> Bands:
    """The bands of a hyperspectral file, or of a CSV file with columns ``wavelength`` and ``fwhm``.

    Raises
    ------
    SceneError
        The file cannot be read or states no wavelengths.
    """
    if path.suffix.lower() == ".csv":
        with reading_file(path, "cannot be read as a table of bands"):
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            centre = [float(row["wavelength"]) for row in rows]
            widths = [float(row["fwhm"]) for row in rows] if rows and "fwhm" in rows[0] else None
            return bands_in(centre, widths, None, layout)
    found = read_file(path, layout).bands
    if found is None:
        raise SceneError("the file does not say its wavelengths", where=path.name)
    return found


def scene_files(path: Path, pattern: str) -> list[Path]:
    """The hyperspectral files of a folder in order of name, or the one file at the path.

    Raises
    ------
    SceneError
        The path does not exist, or no file of a known format matches the pattern.
    """
    if not path.is_dir() or kind_of(path):
        return [path]
    try:
        found = sorted(each for each in path.glob(pattern) if kind_of(each))
    except (ValueError, NotImplementedError) as err:
        raise SceneError(f"not a pattern of file names: {err}", where=path.name, got=pattern) from err
    if not found:
        raise SceneError(f"no hyperspectral file matches {pattern}", where=path.name, expected=KINDS)
    return found


def read_file(path: Path, layout: Layout) -> Raw:
    """The contents of a file of any known format, or one line that says why not.

    Raises
    ------
    SceneError : it is missing, of no known format, or cannot be read.
    """
    if not path.exists():
        raise SceneError("no such file", where=str(path))
    if not kind_of(path):
        raise SceneError("unknown kind of file", where=path.name, expected=KINDS)
    with reading_file(path):
        return read_raw(path, layout)
