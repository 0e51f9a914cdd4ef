"""The protocol between the pipeline and whatever turns RGB tiles into spectra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from catalog.bands import Bands


class Predictor(Protocol):
    """Turns batches of RGB tiles into spectra; a pure function of its arguments and settings."""

    @property
    def bands(self) -> Bands:
        """The bands of what it predicts."""
        ...

    @property
    def stride(self) -> int:
        """The network's stride in pixels: tile sizes and tile strides must be multiples of it."""
        ...

    @property
    def batch(self) -> int:
        """The largest number of tiles a call takes; fewer are padded to it inside."""
        ...

    @property
    def fill(self) -> NDArray[np.float32]:
        """The (3,) float32 reflectance that stands in for masked pixels of the input."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything of the predictor that can change a value, as plain JSON values.

        At least ``name``, ``digest``, ``steps``, ``sampler``, ``seed``, ``dtype``, ``device``.
        """
        ...

    def predict(
        self,
        rgb: NDArray[np.float32],
        valid: NDArray[np.bool_],
        origins: NDArray[np.int64],
        samples: range,
    ) -> Iterator[NDArray[np.float32]]:
        """Yield one (N, B, h, w) float32 reflectance array for each sample index, in order.

        Parameters
        ----------
        rgb : (N, 3, h, w) float32, reflectance; masked pixels already hold ``fill``.
        valid : (N, h, w) bool, False where the input is masked.
        origins : (N, 2) int64, (row, col) of each tile's first pixel on the scene's grid; may be
            negative. Noise is keyed on it, so that overlapping tiles agree.
        samples : the sample indices to draw.
        """
        ...

    def memory(self, tile: int) -> int:
        """Bytes that a call takes at its peak for square tiles of ``tile`` pixels, model included."""
        ...
