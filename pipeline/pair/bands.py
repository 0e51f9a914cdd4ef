"""Which bands the two scenes of a pair have, in nm. Nothing is guessed that a file could state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spectile.catalog.bands import Bands
from spectile.catalog.errors import SceneError
from spectile.catalog.redaction import redact_url
from spectile.catalog.sensors import FILE_SENSORS
from spectile.catalog.urls import locate
from spectile.pipeline.files.opening import open_raster
from spectile.pipeline.files.untrusted import reading_file
from spectile.pipeline.scene.bands import SHOWN, FileBand
from spectile.pipeline.scene.source import bands_of
from spectile.pipeline.spectra.formats import Layout, stated_by_envi
from spectile.pipeline.spectra.hyperspectral import read_bands

LEAST_BANDS = 8
"""Fewer bands are no spectrum."""


@dataclass(frozen=True)
class Spectral:
    """The bands of a scene that take part in a fusion."""

    numbers: tuple[int, ...]
    """Their numbers in the file, from 1."""
    bands: Bands
    """Centre and width of each."""
    scale: float | None = None
    """Reflectance per count that an ENVI header states beside GDAL's own scale."""
    left_out: tuple[str, ...] = ()
    """Bands that take no part, for people."""


def hsi_bands(place: str, *, wavelengths: str | Bands | None = None, allow_private: bool = False) -> Spectral:
    """All good bands of a hyperspectral scene, in ascending order of wavelength.

    Parameters
    ----------
    place : GeoTIFF, ENVI or JPEG 2000, a path or URL, or a STAC item.
    wavelengths : a CSV file (columns ``wavelength`` and ``fwhm``, nm) or a file of the same sensor, for a
        scene that does not state them; or what was read of one.

    Raises
    ------
    SceneError : it does not say its wavelengths, has too few bands, or cannot be read.
    """
    path = locate(place)
    given = read_bands(Path(wavelengths)) if isinstance(wavelengths, str) else wavelengths
    if isinstance(path, Path) and path.is_file() and _is_envi(place):
        # GDAL leaves out long fields of the header, and rounds widths to a nanometre.
        with reading_file(path), open_raster(place) as dataset:
            stated, count = stated_by_envi(dataset, Layout()), dataset.count
        bands, good, scale = stated["bands"], stated["good"], stated["scale"]
    else:
        there = [band for band in bands_of(place, allow_private=allow_private) if not band.alpha]
        count, good, scale = len(there), None, None
        bands = _of_metadata(there)
    bands = given or bands
    if bands is None:
        raise SceneError(
            "the HSI does not say its wavelengths", where=redact_url(place), got=f"{count} bands",
            remedy="give them with --wavelengths FILE.csv (columns wavelength and fwhm, in nm)",
        )  # fmt: skip
    if len(bands) != count:
        raise SceneError(
            "wavelengths and bands of the HSI do not match", where=redact_url(place),
            got=f"{len(bands)} wavelengths", expected=count,
        )  # fmt: skip
    return replace(in_order(bands, redact_url(place), good), scale=scale)


def in_order(bands: Bands, where: str, good: Sequence[bool] | None = None) -> Spectral:
    """The good ones of all bands of an HSI, in ascending order of wavelength.

    Raises
    ------
    SceneError : there are too few.
    """
    keep = [int(at) for at in np.argsort(bands.centre_nm, kind="stable") if good is None or good[at]]
    if len(keep) < LEAST_BANDS:
        raise SceneError(
            "the HSI has too few bands for a spectrum", where=where, got=f"{len(keep)} good bands",
            expected=f"{LEAST_BANDS} or more", remedy="is it the MSI?",
        )  # fmt: skip
    left = () if good is None else tuple(f"band {at + 1}" for at in range(len(bands)) if not good[at])
    return Spectral(tuple(at + 1 for at in keep), bands.subset(keep), left_out=left)


def _is_envi(place: str) -> bool:
    with open_raster(place) as dataset:
        return bool(dataset.driver == "ENVI")


def _of_metadata(there: Sequence[FileBand]) -> Bands | None:
    centre = [band.centre_nm for band in there if band.centre_nm is not None]
    if not there or len(centre) < len(there):
        return None
    widths = [band.fwhm_nm for band in there if band.fwhm_nm is not None]
    return Bands.from_arrays(centre, widths if len(widths) == len(there) else None)


def msi_bands(
    place: str,
    hsi: Bands,
    *,
    sensor: str | None = None,
    asked: Sequence[int | str] | None = None,
    allow_vrt: bool = False,
    allow_private: bool = False,
) -> Spectral:
    """The bands of a multispectral scene that lie in the range of an HSI, in the order of the file.

    A band whose wavelength nobody states, but which is called red, green, blue or nir, has that of a usual
    camera: what it really sees is estimated on the pair.

    Parameters
    ----------
    place, sensor, allow_vrt, allow_private : as of ``open_source``.
    asked : bands by number or name; None takes all.

    Raises
    ------
    SceneError : nothing is known of a band, or none lies in the HSI's range.
    """
    where = redact_url(place)
    there = [
        band
        for band in bands_of(place, sensor=sensor, allow_vrt=allow_vrt, allow_private=allow_private)
        if not band.alpha
    ]
    if asked is not None:
        from spectile.pipeline.scene.bands import choose_bands

        there = list(choose_bands(there, None, asked, where).bands)
    return within(there, hsi, where)


def within(there: Sequence[FileBand], hsi: Bands, where: str) -> Spectral:
    """Those bands of an MSI whose centres lie in the range of an HSI; see ``msi_bands``.

    Raises
    ------
    SceneError : as of ``msi_bands``.
    """
    nominal = FILE_SENSORS["rgbn"]
    known: list[tuple[FileBand, float, float | None]] = []
    for band in there:
        named = (
            nominal.bands.subset([nominal.colours.index(band.colour)])
            if band.colour in nominal.colours
            else None
        )
        if band.centre_nm is None and named is None:
            raise SceneError(
                f"nobody says what {band} of the MSI sees", where=where,
                expected="a wavelength, or the name of a colour",
                remedy="say which bands the file has with --sensor, or which to take with --bands",
            )  # fmt: skip
        centre = band.centre_nm if band.centre_nm is not None else named.centre_nm[0]  # type: ignore[union-attr]
        width = band.fwhm_nm or (named.fwhm_nm[0] if named is not None else None)
        known.append((band, centre, width))
    low, high = min(hsi.centre_nm), max(hsi.centre_nm)
    taken = [each for each in known if low <= each[1] <= high]
    if not taken:
        shown = ", ".join(f"{centre:g}" for _, centre, _ in known[:SHOWN])
        raise SceneError(
            "MSI and HSI have no wavelengths in common", where=where, got=f"MSI bands at {shown} nm",
            expected=f"one between {low:g} and {high:g} nm",
        )  # fmt: skip
    left = tuple(str(band) for band, centre, _ in known if not low <= centre <= high)
    centres = [centre for _, centre, _ in taken]
    widths = [_width(centres, centre, width) for _, centre, width in taken]
    return Spectral(
        tuple(band.number for band, _, _ in taken), Bands(tuple(centres), tuple(widths)), left_out=left
    )


def _width(centres: Sequence[float], centre: float, stated: float | None) -> float:
    """The width of a band: as stated, or half the way to its nearest neighbour, at most 60 nm."""
    if stated is not None:
        return stated
    near = [abs(other - centre) for other in centres if other != centre]
    return max(min([60.0, *near]), 1.0)
