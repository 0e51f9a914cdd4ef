"""A small simulated pair as files, and a fusion that costs nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from scipy.ndimage import gaussian_filter

from spectile.catalog.bands import Bands, resampling_matrix
from spectile.catalog.inputs import Batch, InputSpec
from spectile.pipeline.block.predict import TileFindings

HSI = Bands.evenly_spaced(450, 890, 12)
MSI = Bands((490.0, 560.0, 665.0, 842.0), (66.0, 36.0, 31.0, 106.0))
RATIO = 4
NORTH_UP = Affine(30.0, 0.0, 400_000.0, 0.0, -30.0, 5_800_000.0)


def truth(shape: tuple[int, int], *, seed: int = 0) -> np.ndarray:
    """(B, h, w) smooth mixtures of three spectra with fields of sharp borders, reflectance."""
    rng = np.random.default_rng(seed)
    nm = np.array(HSI.centre_nm)
    red_edge = 1 / (1 + np.exp(-(nm - 715) / 15))
    spectra = np.stack(
        [0.05 + 0.4 * red_edge, 0.1 + 0.3 * (nm - 450) / 440, np.full(nm.size, 0.04) + 0.02 * (nm < 600)]
    )
    scores = np.stack([gaussian_filter(rng.standard_normal(shape), 3) for _ in range(3)])
    share = np.exp(12 * scores)
    share /= share.sum(axis=0)
    return np.einsum("kb,khw->bhw", spectra, share).astype(np.float32)


def write_pair(
    folder: Path,
    shape: tuple[int, int] = (40, 48),
    *,
    moved: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
    transform: Affine = NORTH_UP,
    noise: float = 1e-3,
) -> tuple[str, str, np.ndarray]:
    """HSI and MSI of a simulated place, and the truth (B, 4h, 4w) on the HSI's divided grid.

    Parameters
    ----------
    shape : rows and columns of the HSI.
    moved : fine pixels by which the MSI is moved against its georeference, positive down and right.
    """
    from scipy.ndimage import shift

    rng = np.random.default_rng(seed + 1)
    fine = truth((shape[0] * RATIO, shape[1] * RATIO), seed=seed)
    blurred = np.stack([gaussian_filter(band, RATIO / 2.355, mode="reflect") for band in fine])
    hsi = blurred.reshape(len(fine), shape[0], RATIO, shape[1], RATIO).mean(axis=(2, 4))
    matrix, _ = resampling_matrix(HSI, MSI)
    msi = np.einsum("cb,bhw->chw", matrix, fine)
    if any(moved):
        msi = np.stack([shift(band, moved, order=3, mode="nearest") for band in msi])
    hsi = hsi + noise * rng.standard_normal(hsi.shape)
    msi = msi + noise * rng.standard_normal(msi.shape)
    places = []
    for name, values, bands, placed in (
        ("hsi.tif", hsi, HSI, transform),
        ("msi.tif", msi, MSI, transform @ Affine.scale(1 / RATIO)),
    ):
        places.append(write_bands(folder / name, values, bands, placed))
    return places[0], places[1], fine


def write_bands(
    path: Path,
    values: np.ndarray,
    bands: Bands | None,
    transform: Affine,
    crs: str = "EPSG:32633",
    **options: object,
) -> str:
    """An array of reflectance as a GeoTIFF with wavelengths; the path."""
    profile = {
        "driver": "GTiff", "count": len(values), "height": values.shape[1], "width": values.shape[2],
        "dtype": "float32", "crs": crs, "transform": transform, **options,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values.astype(profile["dtype"]))
        if bands is not None:
            for band, (centre, width) in enumerate(zip(bands.centre_nm, bands.fwhm_nm, strict=True), 1):
                dataset.update_tags(
                    band, wavelength=f"{centre}", wavelength_units="Nanometers", fwhm=f"{width}"
                )
    return str(path)


@dataclass
class Repeated:
    """A fusion that costs nothing: each spectrum of the HSI stands in all of its fine pixels."""

    bands: Bands = HSI
    ratio: int = RATIO
    batch: int = 4
    reach: int | None = 4
    calibration = None

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return (
            InputSpec("msi", MSI, (0.2,) * len(MSI)),
            InputSpec("hsi", self.bands, (0.2,) * len(self.bands), self.ratio),
        )

    @property
    def stride(self) -> int:
        return self.ratio

    @property
    def settings(self) -> Mapping[str, object]:
        return {"name": "fuse:repeated", "digest": "0" * 64, "steps": 0, "sampler": "none", "seed": 0,
                "dtype": "float32", "device": "cpu"}  # fmt: skip

    @property
    def response(self) -> tuple[np.ndarray, np.ndarray]:
        matrix, _ = resampling_matrix(HSI, MSI)
        return matrix.astype(np.float32), np.zeros(len(MSI), np.float32)

    def predict(self, batch: Batch, samples: range) -> Iterator[np.ndarray]:
        for sample in samples:
            tiles = batch.rasters["hsi"].values + np.float32(1e-3 * sample)
            yield tiles.repeat(self.ratio, axis=2).repeat(self.ratio, axis=3)

    def inspect(self, batch: Batch, mean: np.ndarray) -> TileFindings:
        """A number of the tile as the difference; changed where the MSI's first band is above 8 %."""
        number = (batch.origins @ np.array([1, 3])) % 7 * np.float32(0.01)
        difference = np.broadcast_to(number.astype(np.float32)[:, None, None], mean[:, 0].shape)
        return TileFindings(difference, batch.rasters["msi"].values[:, 0] > 0.08)

    def memory(self, tile: int) -> int:
        return 4 * self.batch * len(self.bands) * tile * tile * 4
