"""A predictor that costs nothing, for tests of the pipeline."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from spectile.catalog.bands import RGB_CAMERA, Bands
from spectile.catalog.calibration import Calibration
from spectile.catalog.inputs import Batch, InputSpec
from spectile.pipeline.block.mosaic import Mosaic, Source, extent, mosaic_block, read_inputs
from spectile.pipeline.block.predict import Predictor
from spectile.pipeline.geometry.tiling import Block, Tiling

NORTH_UP = Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000)

UTM = CRS.from_epsg(32619).to_wkt()

SIX = Bands.evenly_spaced(400, 900, 6)


@dataclass
class Positional:
    """A predictor whose spectra depend on colour, place and sample, and on how full a tile is.

    The last is what a network with spatial statistics does; it shows in overlaps.
    """

    bands: Bands = SIX
    response: Bands = RGB_CAMERA
    stride: int = 8
    reach: int | None = None
    batch: int = 3
    leak: float = 0.0
    calibration: Calibration | None = None
    settings: tuple = ()

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return (InputSpec("rgb", self.response, (0.2, 0.3, 0.4)),)

    def predict(self, batch: Batch, samples: range) -> Iterator[np.ndarray]:
        rgb, origins = batch.rasters["rgb"].values, batch.origins
        count, _, height, width = rgb.shape
        assert count <= batch.size <= self.batch
        rows = origins[:, 0, None, None] + np.arange(height)[:, None]
        cols = origins[:, 1, None, None] + np.arange(width)
        for sample in samples:
            keyed = np.sin(rows * 12.9898 + cols * 78.233 + sample * 3.1).astype(np.float32)
            base = np.repeat(rgb, 2, axis=1) + 0.02 * keyed[:, None]
            yield base + self.leak * rgb.mean(axis=(1, 2, 3), keepdims=True)

    def memory(self, tile: int) -> int:
        return 1000


@dataclass
class Mixing(Positional):
    """One that mixes a library of three spectra too, by shares that add up to one."""

    endmembers: tuple[str, ...] = ("water", "leaf", "dry soil, fine")

    def predict(self, batch: Batch, samples: range) -> Iterator[np.ndarray]:
        for spectra in super().predict(batch, samples):
            weights = np.exp(4 * spectra[:, :6:2])
            yield np.concatenate([spectra, weights / weights.sum(axis=1, keepdims=True)], axis=1)


def made(block: Block, *, source: Source, tiling: Tiling, predictor: Predictor, **options) -> Mosaic:
    """One block of a scene."""
    reading = read_inputs({"rgb": source}, predictor.inputs, extent(tiling, block.window))
    return mosaic_block(block, reading=reading, tiling=tiling, predictor=predictor, **options)
