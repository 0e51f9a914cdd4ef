"""A small pair whose truth is known, for the tests of this folder."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from spectile.catalog.bands import Bands, resampling_matrix
from spectile.catalog.inputs import Batch, Raster
from spectile.model.data.degrade import degrade
from spectile.model.fusion.estimate import estimate_pair
from spectile.model.fusion.pair import PairModel, PairWindow
from spectile.model.fusion.predictor import FusionPredictor

RATIO, SIGMA = 4, (1.7, 1.7)
HSI = Bands.evenly_spaced(400.0, 1000.0, 24)
MSI = Bands((490.0, 560.0, 665.0, 840.0), (60.0, 40.0, 40.0, 110.0))


class Case(NamedTuple):
    """A cube and what two sensors see of it."""

    truth: NDArray[np.float64]
    response: NDArray[np.float64]
    window: PairWindow
    noise: tuple[float, float]


@lru_cache(maxsize=4)
def case(size: int = 64, seed: int = 0) -> Case:
    """Fields of three materials with smooth shading, sharp borders and slow change."""
    generator = np.random.default_rng(seed)
    nm = np.array(HSI.centre_nm)
    soil = 0.1 + 0.35 * (nm - 400) / 600
    leaf = 0.04 + 0.03 * np.exp(-(((nm - 550) / 40) ** 2)) + 0.4 / (1 + np.exp(-(nm - 715) / 12))
    roof = 0.25 + 0.05 * np.sin(nm / 90)
    height = [gaussian_filter(generator.standard_normal((size, size)), 2.5, mode="wrap") for _ in range(3)]
    kind = np.argmax(height, axis=0)
    shade = 1.0 + 1.5 * gaussian_filter(generator.standard_normal((size, size)), 3.0, mode="wrap")
    slow = gaussian_filter(generator.standard_normal((size, size)), 12.0, mode="wrap")
    cube = np.stack([soil, leaf, roof])[kind].transpose(2, 0, 1) * shade
    cube = np.clip(cube + 0.8 * slow * (0.1 * np.cos(nm / 60))[:, None, None], 0.01, 1.0)
    response, _ = resampling_matrix(HSI, MSI)
    seen = degrade(cube, RATIO, SIGMA, response, snr_db=(35.0, 40.0), seed=seed)
    window = PairWindow(
        seen.hsi.astype(np.float32), np.ones(seen.hsi.shape[1:], bool),
        seen.msi.astype(np.float32), np.ones(seen.msi.shape[1:], bool),
    )  # fmt: skip
    return Case(cube, response, window, (seen.hsi_noise, seen.msi_noise))


@lru_cache(maxsize=4)
def pair_of(size: int = 64, seed: int = 0) -> PairModel:
    """What is estimated of the case, with its response and PSF known."""
    known = case(size, seed)
    return estimate_pair([known.window], RATIO, HSI, MSI, response=known.response, psf=SIGMA, scaled=False)


def batch_of(window: PairWindow, predictor: FusionPredictor, origin: tuple[int, int] = (0, 0)) -> Batch:
    """A window as the pipeline would hand it over."""
    rasters = {
        "hsi": Raster(window.hsi[None], window.hsi_valid[None]),
        "msi": Raster(window.msi[None], window.msi_valid[None]),
    }
    filled = {spec.name: spec.filled(rasters[spec.name]) for spec in predictor.inputs}
    return Batch(filled, np.array([origin], dtype=np.int64), 1)


def rmse(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Root mean squared difference."""
    return float(np.sqrt(np.square(one - other).mean()))
