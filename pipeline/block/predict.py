"""The protocol between the pipeline and whatever turns RGB tiles into spectra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import RGB_CAMERA, VNIR48, Bands
from spectile.catalog.calibration import Calibration


class Predictor(Protocol):
    """Turns batches of RGB tiles into spectra; a pure function of its arguments and settings."""

    @property
    def bands(self) -> Bands:
        """The bands of what it predicts."""
        ...

    @property
    def response(self) -> Bands:
        """The camera that its input is taken to be from, in the order R, G, B."""
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
    def calibration(self) -> Calibration | None:
        """What its samples' spread is worth as an error; None where that is not known."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything of the predictor that can change a value, the calibration included, as JSON values.

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

        Raises
        ------
        MemoryError : there is not enough memory, of the device either.
        NetworkError : the network failed otherwise; a run tries the block again.
        """
        ...

    def halve(self) -> bool:
        """Take half as many tiles a call from now on; False where it takes only one."""
        ...

    def memory(self, tile: int) -> int:
        """Bytes that a call takes at its peak for square tiles of ``tile`` pixels, model included."""
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

    @property
    def response(self) -> Bands:
        """That between whose centres the colour is interpolated."""
        return RGB_CAMERA

    @property
    def fill(self) -> NDArray[np.float32]:
        """Mid grey."""
        return np.full(3, 0.2, dtype=np.float32)

    @property
    def calibration(self) -> Calibration | None:
        """None: its samples are all the same."""
        return None

    @property
    def settings(self) -> Mapping[str, object]:
        """Nothing can be set."""
        return {"name": "bands-repeat", "digest": "", "steps": 0, "sampler": "none", "seed": 0,
                "dtype": "float32", "device": "cpu"}  # fmt: skip

    def predict(
        self,
        rgb: NDArray[np.float32],
        valid: NDArray[np.bool_],
        origins: NDArray[np.int64],
        samples: range,
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the same (N, B, h, w) reflectance for each sample."""
        centre = np.array(RGB_CAMERA.centre_nm)[::-1]
        weights = np.array(
            [np.interp(self.bands.centre_nm, centre, row) for row in np.eye(3)[::-1]], np.float32
        )
        # Tile by tile and band after band in memory: what blends them goes through it in that order.
        spectra = weights.T @ rgb.reshape(len(rgb), 3, -1)
        for _ in samples:
            yield spectra.reshape(len(rgb), -1, *rgb.shape[2:])

    def halve(self) -> bool:
        """Take half as many tiles a call from now on; False where it takes only one."""
        self.batch, before = max(1, self.batch // 2), self.batch
        return self.batch < before

    def memory(self, tile: int) -> int:
        """Bytes of one batch of spectra."""
        return 2 * self.batch * len(self.bands) * tile * tile * 4
