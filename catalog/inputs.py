"""The inputs of a model: rasters by name, each with its channels, and batches of tiles of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import RGB_CAMERA, Bands
from spectile.catalog.errors import UsageError
from spectile.catalog.sensors import colours_of


class Raster(NamedTuple):
    """Values and where they are valid; of several tiles, stacked along a first axis."""

    values: NDArray[np.float32]
    """(C, h, w) or (N, C, h, w) float32, reflectance."""
    valid: NDArray[np.bool_]
    """(h, w) or (N, h, w) bool."""


@dataclass(frozen=True)
class InputSpec:
    """One raster that a model takes."""

    name: str
    """Name of the raster, ``rgb`` for a colour scene."""
    bands: Bands
    """The bands of its channels, in order."""
    fill: tuple[float, ...]
    """Reflectance per channel that replaces masked pixels."""
    ratio: int = 1
    """Number of the cube's pixels along one pixel of the raster: 1 for a raster on the cube's grid."""

    def __post_init__(self) -> None:
        if len(self.fill) != len(self.bands):
            raise UsageError(
                f"the input {self.name} needs one fill value a channel",
                got=len(self.fill), expected=len(self.bands),
            )  # fmt: skip
        if self.ratio < 1:
            raise UsageError(f"the ratio of the input {self.name}", got=self.ratio, expected="1 or more")

    @property
    def colours(self) -> tuple[str | None, ...]:
        """What each channel is called: red, green, blue or nir; None where only its wavelength tells it."""
        return colours_of(self.bands)

    @property
    def channels(self) -> tuple[str, ...]:
        """Each channel by colour and wavelength, for messages."""
        named = zip(self.colours, self.bands.centre_nm, strict=True)
        return tuple(f"{colour} ({nm:g} nm)" if colour else f"{nm:g} nm" for colour, nm in named)

    def filled(self, raster: Raster) -> Raster:
        """The raster with ``fill`` where it is not valid."""
        fill = np.array(self.fill, dtype=np.float32)[:, None, None]
        return Raster(np.where(raster.valid[..., None, :, :], raster.values, fill), raster.valid)


RGB_SCENE = InputSpec("rgb", RGB_CAMERA, (0.2, 0.2, 0.2))
"""A colour scene; masked pixels are mid grey."""


@dataclass(frozen=True)
class Batch:
    """Tiles that go through a network together."""

    rasters: Mapping[str, Raster]
    """Each input by its name: (N, C, h/ratio, w/ratio); masked pixels hold the input's fill value."""
    origins: NDArray[np.int64]
    """(N, 2) int64, (row, col) of each tile's first pixel on the cube's grid; may be negative."""
    size: int
    """Most tiles of a call, N or more; a network whose result depends on the batch size pads to it."""

    def __len__(self) -> int:
        return len(self.origins)

    @classmethod
    def of_colours(
        cls,
        rgb: NDArray[np.float32],
        valid: NDArray[np.bool_] | None = None,
        origins: NDArray[np.int64] | None = None,
        name: str = "rgb",
    ) -> Batch:
        """Tiles (N, C, h, w) of the only input; by default all are valid and at the origin."""
        count, _, height, width = rgb.shape
        valid = np.ones((count, height, width), dtype=bool) if valid is None else valid
        origins = np.zeros((count, 2), dtype=np.int64) if origins is None else origins
        return cls({name: Raster(rgb, valid)}, origins, count)


def even_batch(inputs: Sequence[InputSpec], count: int, tile: int) -> Batch:
    """``count`` tiles of ``tile`` pixels filled with the inputs' fill values, to time a network."""
    rasters = {}
    for spec in inputs:
        side = tile // spec.ratio
        valid = np.zeros((count, side, side), dtype=bool)
        empty = Raster(np.zeros((count, len(spec.bands), side, side), dtype=np.float32), valid)
        rasters[spec.name] = Raster(spec.filled(empty).values, ~valid)
    return Batch(rasters, np.zeros((count, 2), dtype=np.int64), count)
