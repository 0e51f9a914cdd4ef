"""Simulated pairs of any size, for what needs no real imagery: same cubes, resuming, memory, speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from spectile.catalog.bands import FWHM_PER_SIGMA, Bands, resampling_matrix
from spectile.model.data.degrade import taps

FRAME = Affine(30.0, 0.0, 450_000.0, 0.0, -30.0, 5_400_000.0)
"""An invented frame for files that have none, near Paris."""
MSI = Bands((490.0, 560.0, 665.0, 842.0), (66.0, 36.0, 31.0, 106.0))
PATCH = 1024
"""Fine pixels after which the scenes repeat, but for their noise."""
MATERIALS = 13
"""As many as make a subspace of twelve directions, the most that a fusion takes."""
BLOCK = 128
"""Rows and columns of the files' blocks."""
NOISE = 2e-3
"""Standard deviation in both scenes, reflectance."""


def simulate(folder: Path, side: int, *, bands: int = 40, ratio: int = 4) -> tuple[str, str]:
    """The places of a coarse and a sharp scene of ``side`` × ``side`` fine pixels: mixed spectra with noise.

    They are written strip by strip, so that their size does not matter.
    """
    rng = np.random.default_rng(side)
    hsi_bands = Bands.evenly_spaced(430.0, 430.0 + 12.0 * bands, bands)
    share = _shares(rng)
    spectra = _spectra(hsi_bands, rng)
    matrix, _ = resampling_matrix(hsi_bands, MSI)
    sharp = np.einsum("ck,khw->chw", matrix @ spectra, share)
    coarse = np.einsum("bk,khw->bhw", spectra, _averaged(share, ratio))
    places = folder / f"hsi-{side}.tif", folder / f"msi-{side}.tif"
    _write(places[0], coarse.astype(np.float32), hsi_bands, side // ratio, FRAME, rng)
    _write(places[1], sharp.astype(np.float32), MSI, side, FRAME @ Affine.scale(1 / ratio), rng)
    return str(places[0]), str(places[1])


def _shares(rng: np.random.Generator) -> NDArray[np.float64]:
    """(K, PATCH, PATCH) of the materials, from fine to coarse fields; the patch closes on itself."""
    heights = [
        gaussian_filter(rng.standard_normal((PATCH, PATCH)), size, mode="wrap") * size
        for size in np.resize([2.0, 4.0, 8.0, 16.0], MATERIALS)
    ]
    share = np.exp(6.0 * np.stack(heights))
    return np.asarray(share / share.sum(axis=0))


def _spectra(bands: Bands, rng: np.random.Generator) -> NDArray[np.float64]:
    """(B, K) smooth spectra between 0.02 and 0.6."""
    drawn = gaussian_filter(
        rng.standard_normal((len(bands), MATERIALS)), (len(bands) / 12, 0), mode="nearest"
    )
    drawn = (drawn - drawn.min()) / np.ptp(drawn)
    return np.asarray(0.02 + 0.58 * drawn)


def _averaged(share: NDArray[np.float64], ratio: int) -> NDArray[np.float64]:
    """What a coarse sensor sees of the patch that repeats, with a PSF as wide as its pixels."""
    first, weight = taps(ratio, ratio / FWHM_PER_SIGMA)
    for axis in (1, 2):
        at = np.arange(PATCH // ratio) * ratio
        share = sum(
            one * np.take(share, (at + first + tap) % PATCH, axis=axis) for tap, one in enumerate(weight)
        )
    return share


def _write(
    path: Path, patch: NDArray[np.float32], bands: Bands, side: int, frame: Affine, rng: np.random.Generator
) -> None:
    """A patch, repeated and with noise, as a GeoTIFF of counts of 1e-4 that states its wavelengths."""
    profile: dict[str, Any] = {
        "driver": "GTiff", "dtype": "uint16", "crs": "EPSG:32631", "transform": frame, "count": len(bands),
        "height": side, "width": side, "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK,
        "compress": "deflate", "zlevel": 1, "bigtiff": "if_safer",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.scales = (1e-4,) * len(bands)
        for band, (centre, width) in enumerate(zip(bands.centre_nm, bands.fwhm_nm, strict=True), 1):
            dataset.update_tags(band, wavelength=f"{centre}", wavelength_units="Nanometers", fwhm=f"{width}")
        cols = np.arange(side) % patch.shape[2]
        for row in range(0, side, BLOCK):
            rows = np.arange(row, min(row + BLOCK, side)) % patch.shape[1]
            strip = patch[:, rows[:, None], cols]
            strip += NOISE * rng.standard_normal(strip.shape, dtype=np.float32)
            window = rasterio.windows.Window(0, row, side, len(rows))
            dataset.write(np.clip(strip * 1e4, 0, 65535).astype(np.uint16), window=window)
