"""A smooth scene, and tiles of it through a predictor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.inputs import Batch
from spectile.model.predict.network import NetworkPredictor


def scene_of(size: int = 160) -> NDArray[np.float32]:
    """(3, size, size) reflectance, smooth with a little noise."""
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.normal(size=(3, size, size)), 1), 2)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return (0.03 + 0.3 * smooth + 0.01 * rng.random((3, size, size))).astype(np.float32)


def predict(
    predictor: NetworkPredictor, scene: NDArray[np.float32], places: list[tuple[int, int]], size: int = 64
) -> NDArray[np.float32]:
    """The first sample of the tiles of ``size`` pixels that begin at these places."""
    return next(predictor.predict(batch_of(scene, places, size), range(1)))


def batch_of(scene: NDArray[np.float32], places: list[tuple[int, int]], size: int) -> Batch:
    """The tiles of ``size`` pixels that begin at these places."""
    rgb = np.stack([scene[:, r : r + size, c : c + size] for r, c in places])
    return Batch.of_colours(rgb, origins=np.array(places, dtype=np.int64))
