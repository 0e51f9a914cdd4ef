"""A part of a cube, read square by square: what is exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import Bands
from spectile.catalog.errors import BlockError
from spectile.pipeline.cube.shards import read_bands
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.plan.layers import ENDMEMBER
from spectile.pipeline.plan.plan import CHUNK, SHARD

_SQUARE_BYTES = 16_000_000
"""Most bytes of a square of all bands in float32; zarr needs several times as much while it reads."""

Format = Literal["cog", "geotiff", "envi", "netcdf", "zarr2"]


@dataclass(frozen=True)
class Part:
    """The exported part of a cube: one layer, some bands, a window."""

    source: Any
    """The cube's group."""
    layer: str
    """The array's name."""
    window: Window
    """The pixels of the cube."""
    grid: Grid
    """Their place on the map."""
    chosen: tuple[int, ...] | None
    """Positions of the bands or endmembers in the cube; None of a layer without."""
    bands: Bands | None
    """The bands themselves; None of a layer without."""
    dtype: np.dtype[Any]
    """Of the values that are written."""
    scale: float | None
    """Reflectance of one stored count; None if the values are not counts."""
    nodata: float | None
    """The value of missing pixels; NaN in float32."""
    facts: Mapping[str, str]
    """The source, to show to readers."""
    endmembers: tuple[str, ...] = ()
    """The names of the endmembers; none of a layer without."""

    @property
    def axis(self) -> str | None:
        """The dimension before rows and columns; None where there is none."""
        if self.bands is not None:
            return "wavelength"
        return ENDMEMBER if self.endmembers else None

    @property
    def names(self) -> tuple[str, ...]:
        """What each band of a raster is called."""
        if self.bands is not None:
            return tuple(f"{centre:.6g} nm" for centre in self.bands.centre_nm)
        return self.endmembers or (self.layer,)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(bands, rows, columns)."""
        return len(self.chosen or (0,)), *self.window.shape

    @property
    def array(self) -> Any:
        """The cube's array."""
        return self.source[self.layer]

    def windows(self) -> list[Window]:
        """Squares of whole chunks that cover the part, row by row, counted from its first pixel."""
        bands, rows, cols = self.shape
        side = SHARD if bands * SHARD**2 * 4 <= _SQUARE_BYTES else CHUNK
        squares = ((row, col) for row in range(0, rows, side) for col in range(0, cols, side))
        return [Window(row, col, min(side, rows - row), min(side, cols - col)) for row, col in squares]

    def read(self, square: Window) -> NDArray[Any]:
        """(bands, h, w) in ``dtype`` of one square of ``windows``.

        Raises
        ------
        BlockError : what is stored is damaged.
        StoreError : the store cannot be read.
        """
        place = Window(self.window.row + square.row, self.window.col + square.col, *square.shape)
        try:
            if self.chosen is None:
                values: NDArray[Any] = self.array[place.slices][None]
            else:
                values = read_bands(self.array, self.chosen, place.slices)
        except (ValueError, RuntimeError, OSError) as err:
            raise BlockError(
                "the cube cannot be read", where=f"{self.layer} at row {place.row}, column {place.col}",
                got=str(err) or type(err).__name__, remedy="see spectile verify --repair",
            ) from err  # fmt: skip
        if values.dtype == self.dtype:
            return values
        return self._decoded(values)

    def _decoded(self, counts: NDArray[Any]) -> NDArray[np.float32]:
        attributes = self.array.attrs
        values: NDArray[np.float32] = counts.astype(np.float32)
        values *= np.float32(attributes.get("scale_factor", 1.0))
        if "_FillValue" in attributes:
            values[counts == attributes["_FillValue"]] = np.nan
        return values
