"""Pairs of the fusion benchmark, and the scores of what is fused of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import FWHM_PER_SIGMA, Bands
from spectile.catalog.inputs import Batch, Raster
from spectile.model.data.degrade import DegradedPair, degrade
from spectile.model.fusion.estimate import estimate_pair
from spectile.model.fusion.pair import PairModel, PairWindow
from spectile.model.fusion.predictor import load_fusion

SENSOR = "ikonos"


@dataclass(frozen=True)
class Protocol:
    """How cubes are degraded."""

    name: str
    ratio: int
    snr_db: tuple[float, float]
    """Of the HSI and of the MSI."""

    @property
    def sigma(self) -> tuple[float, float]:
        """The PSF's along rows and columns, fine pixels: its full width at half maximum is a coarse pixel."""
        return (self.ratio / FWHM_PER_SIGMA,) * 2

    def pair_of(self, cube: NDArray[np.float64], response: NDArray[np.float64], seed: int) -> PairWindow:
        """The pair of a cube (B, H, W), all of it valid."""
        return window_of(degrade(cube, self.ratio, self.sigma, response, snr_db=self.snr_db, seed=seed))

    def known_pair(
        self,
        window: PairWindow,
        bands: tuple[Bands, Bands],
        response: NDArray[np.float64],
        *,
        clean: NDArray[np.float64] | None,
        seed: int,
    ) -> PairModel:
        """What is estimated of a pair of HSI and MSI ``bands`` whose response and PSF are known."""
        return estimate_pair(
            [window], self.ratio, *bands,
            response=response, psf=self.sigma, scaled=False, clean=clean, seed=seed,
        )  # fmt: skip


PROTOCOLS = (Protocol("x8", 8, (20.0, 30.0)), Protocol("x4", 4, (35.0, 40.0)))
PRIORS = ("own", "clean")


def window_of(seen: DegradedPair) -> PairWindow:
    """A pair of which everything is valid."""
    whole = (np.ones(cube.shape[1:], dtype=bool) for cube in (seen.hsi, seen.msi))
    return PairWindow(seen.hsi.astype(np.float32), next(whole), seen.msi.astype(np.float32), next(whole))


def batch_of(window: PairWindow) -> Batch:
    """A window as a batch of one tile."""
    rasters = {
        "hsi": Raster(window.hsi[None], window.hsi_valid[None]),
        "msi": Raster(window.msi[None], window.msi_valid[None]),
    }
    return Batch(rasters, np.zeros((1, 2), dtype=np.int64), 1)


def draws(method: str, pair: PairModel, window: PairWindow, seed: int, count: int) -> NDArray[np.float32]:
    """(count, B, H, W) the mean, or samples."""
    predictor = load_fusion(method, pair, seed=seed, device="cpu", samples=count)
    return np.stack([one[0] for one in predictor.predict(batch_of(window), range(count))])
