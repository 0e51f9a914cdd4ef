"""The protocol between the pipeline and whatever turns tiles into spectra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import RGB_CAMERA, VNIR48, Bands
from spectile.catalog.calibration import Calibration
from spectile.catalog.inputs import Batch, InputSpec


class Predictor(Protocol):
    """Turns batches of tiles into spectra; a pure function of its arguments and settings."""

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The rasters that it takes. The first lies on the cube's grid and gives the cube its colours."""
        ...

    @property
    def bands(self) -> Bands:
        """The bands of what it predicts."""
        ...

    @property
    def stride(self) -> int:
        """The network's stride in pixels: tile sizes and tile strides must be multiples of it."""
        ...

    @property
    def reach(self) -> int | None:
        """How many rows and columns away a pixel still changes what is predicted, by a stored count or more.

        0 for what looks at single pixels, None for what looks at the whole tile.
        """
        ...

    @property
    def batch(self) -> int:
        """The best number of tiles in a call; a run that lacks memory uses fewer."""
        ...

    @property
    def calibration(self) -> Calibration | None:
        """What the spread of its samples says about the error; None if that is not known."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything of the predictor that can change a value, the calibration included, as JSON values.

        At least ``name``, ``digest``, ``steps``, ``sampler``, ``seed``, ``dtype``, ``device``.
        """
        ...

    def predict(self, batch: Batch, samples: range) -> Iterator[NDArray[np.float32]]:
        """Yield one (N, B, h, w) float32 reflectance array for each sample index, in order.

        Parameters
        ----------
        batch : N tiles of every input. Noise is keyed on their origins, so that overlapping tiles agree.
        samples : the sample indices to draw.

        Raises
        ------
        MemoryError : there is not enough memory, of the device either.
        NetworkError : the network failed otherwise; a run tries the block again.
        """
        ...

    def memory(self, tile: int) -> int:
        """Bytes at the peak of a call of ``batch`` square tiles of ``tile`` pixels, model included."""
        ...


@dataclass
class BandsRepeat:
    """A predictor that costs nothing: the colour, interpolated over the wavelengths.

    It stands in for the network where the pipeline itself is measured or tested.
    """

    bands: Bands = VNIR48
    """The bands of the cube."""
    batch: int = 8
    """Tiles a call."""
    stride: int = 1
    """It looks at single pixels."""
    reach: int | None = 0
    """It looks at single pixels."""

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """A colour scene; masked pixels are mid grey."""
        return (InputSpec("rgb", RGB_CAMERA, (0.2, 0.2, 0.2)),)

    @property
    def calibration(self) -> Calibration | None:
        """None: its samples are all the same."""
        return None

    @property
    def settings(self) -> Mapping[str, object]:
        """Nothing can be set."""
        return {"name": "bands-repeat", "digest": "", "steps": 0, "sampler": "none", "seed": 0,
                "dtype": "float32", "device": "cpu"}  # fmt: skip

    def predict(self, batch: Batch, samples: range) -> Iterator[NDArray[np.float32]]:
        """Yield the same (N, B, h, w) reflectance for each sample."""
        rgb = batch.rasters["rgb"].values
        centre = np.array(RGB_CAMERA.centre_nm)[::-1]
        weights = np.array(
            [np.interp(self.bands.centre_nm, centre, row) for row in np.eye(3)[::-1]], np.float32
        )
        # Tile by tile and band by band in memory: the blending reads them in that order.
        spectra = weights.T @ rgb.reshape(len(rgb), 3, -1)
        for _ in samples:
            yield spectra.reshape(len(rgb), -1, *rgb.shape[2:])

    def memory(self, tile: int) -> int:
        """Bytes of one batch of spectra."""
        return 2 * self.batch * len(self.bands) * tile * tile * 4
