"""The table of a cube's arrays: by it they are laid out, checked, written and read. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from spectile.catalog.calibration import Calibration
from spectile.catalog.counts import NODATA, SCALE
from spectile.pipeline.plan.layers import LAYERS, array_name, layer_attributes
from spectile.pipeline.plan.plan import CHUNK, SHARD, Plan
from spectile.pipeline.plan.quality_layers import FLAGS, QUALITY, quality_attributes

CHUNK_BANDS = 16
"""Bands of a chunk; all bands if there are fewer."""

Values = Literal["reflectance", "flags", "mask", "scene", "coordinate"]
"""What an array's numbers mean, which decides how they are stored, averaged and summed up.

- ``reflectance``: counts of SCALE, NODATA for none. Overviews hold the mean of those that are known;
  statistics are taken.
- ``flags``: bits, those of ``FLAGS``. Overviews hold the flags that any pixel has, nodata only where all
  have it; the pixels with each flag are counted.
- ``mask``: 1 or 0. Overviews hold whether any pixel is 1.
- ``scene``: the number of a scene from 1, 0 for none. Overviews hold the first that is not 0.
- ``coordinate``: laid out with the cube; blocks do not write it.
"""

_STORED: dict[Values, tuple[str, int]] = {
    "reflectance": ("uint16", NODATA), "flags": ("uint8", FLAGS["nodata"]), "mask": ("uint8", 0),
    "scene": ("uint16", 0),
}  # fmt: skip
"""Type and fill value of the arrays that blocks write."""
_PACKING = {"scale_factor": SCALE, "_FillValue": NODATA, "valid_range": [0, NODATA - 1], "units": "1"}
_PIXELS = ("y", "x")
_SPECTRA = ("wavelength", *_PIXELS)

BLOCK_ARRAYS = ("reflectance", *map(array_name, LAYERS), "valid", "source", *QUALITY)
"""The names of all arrays that the blocks of some cube write."""


@dataclass(frozen=True)
class ArrayLayout:
    """What decides the memory that reading an array takes."""

    dimensions: tuple[str, ...]
    """Their names."""
    shape: tuple[int, ...]
    """Its elements along each."""
    dtype: str
    """Its type, as numpy names it."""
    chunks: tuple[int, ...]
    """Elements of a chunk."""
    shards: tuple[int, ...] | None
    """Elements of a shard; None where there is one chunk."""


@dataclass(frozen=True)
class ArraySpec:
    """One array of a cube and of each of its overviews."""

    name: str
    """Its name."""
    axes: tuple[str, ...]
    """Its dimensions."""
    values: Values
    """What its numbers mean."""
    dtype: str
    """Its type, as numpy names it."""
    fill: int = 0
    """The number where nothing is written."""

    @property
    def is_spectral(self) -> bool:
        """Whether it has bands."""
        return self.axes == _SPECTRA

    @property
    def packing(self) -> dict[str, Any]:
        """The attributes that say what its counts mean; none if it holds no reflectance."""
        return dict(_PACKING) if self.values == "reflectance" else {}

    @property
    def is_written(self) -> bool:
        """Whether blocks write it."""
        return self.values != "coordinate"

    def layout(self, bands: int, shape: tuple[int, int]) -> ArrayLayout:
        """How it is stored at a level of so many rows and columns."""
        sizes = dict(zip(_SPECTRA, (bands, *shape), strict=True))
        whole = tuple(sizes[axis] for axis in self.axes)
        if not self.is_written:
            return ArrayLayout(self.axes, whole, self.dtype, whole, None)
        chunk, shard = ((depth,) if self.is_spectral else () for depth in spectral_depths(bands))
        chunks, shards = (*chunk, CHUNK, CHUNK), (*shard, SHARD, SHARD)
        return ArrayLayout(self.axes, whole, self.dtype, chunks, shards)

    def pixel_bytes(self, bands: int) -> int:
        """Bytes of a pixel of the cube, before compression."""
        return np.dtype(self.dtype).itemsize * (bands if self.is_spectral else 1)


def spectral_depths(bands: int) -> tuple[int, int]:
    """(bands of a chunk, bands of a shard) for a number of bands: a shard is whole chunks with all bands."""
    chunk = min(bands, CHUNK_BANDS)
    return chunk, -(-bands // chunk) * chunk


def cube_arrays(plan: Plan) -> dict[str, ArraySpec]:
    """The arrays of a cube, by name: those that blocks write, then the coordinates."""
    along = {"wavelength": "float64", "fwhm": "float64", "good_wavelengths": "uint8"}
    coordinates = [
        *(ArraySpec(name, ("wavelength",), "coordinate", dtype) for name, dtype in along.items()),
        *(ArraySpec(axis, (axis,), "coordinate", "float64") for axis in _PIXELS if plan.grid.is_axis_aligned),
        ArraySpec("spatial_ref", (), "coordinate", "int64"),
    ]
    return block_arrays(plan) | {spec.name: spec for spec in coordinates}


def block_arrays(plan: Plan) -> dict[str, ArraySpec]:
    """The arrays that blocks write, by name."""
    values: dict[str, Values] = {
        "reflectance": "reflectance",
        **{array_name(layer): "reflectance" for layer in plan.layers},
        "valid": "mask",
        **({"source": "scene"} if plan.scenes else {}),
        **{layer: "flags" if layer == "quality" else "reflectance" for layer in plan.quality},
    }
    spectral = {"reflectance", *map(array_name, plan.layers)}
    return {
        name: ArraySpec(name, _SPECTRA if name in spectral else _PIXELS, kind, *_STORED[kind])
        for name, kind in values.items()
    }


def array_attributes(spec: ArraySpec, plan: Plan, calibration: Calibration | None = None) -> dict[str, Any]:
    """The attributes of an array; those of ``y``, ``x`` and ``spatial_ref`` come from the grid, not the plan.

    Parameters
    ----------
    calibration : with which the layers are made.
    """
    if not spec.is_written:
        return dict(_ALONG_WAVELENGTH.get(spec.name, {}))
    return {
        **_described(spec.name, plan, calibration),
        **spec.packing,
        "grid_mapping": "spatial_ref",
        "coordinates": "fwhm good_wavelengths spatial_ref" if spec.is_spectral else "spatial_ref",
    }


def _described(name: str, plan: Plan, calibration: Calibration | None) -> dict[str, Any]:
    layers = {array_name(layer): layer for layer in plan.layers}
    if name == "reflectance":
        beside = {"ancillary_variables": " ".join(layers)} if layers else {}
        return {"long_name": "estimated surface reflectance", **beside}
    if name in layers:
        return layer_attributes(layers[name], samples=plan.samples, calibration=calibration)
    if name == "valid":
        return {"long_name": "whether the scene is valid", "flag_values": [0, 1],
                "flag_meanings": "masked valid"}  # fmt: skip
    if name == "source":
        return _source_attributes(plan)
    layer = next(layer for layer in plan.quality if layer == name)
    return quality_attributes(layer, pair="pair" in plan.settings)


_ALONG_WAVELENGTH: dict[str, dict[str, Any]] = {
    "wavelength": {"standard_name": "radiation_wavelength", "units": "nm", "long_name": "band centre"},
    "fwhm": {"units": "nm", "long_name": "full width at half maximum"},
    "good_wavelengths": {
        "long_name": "whether light reaches the ground and the sensor", "flag_values": [0, 1],
        "flag_meanings": "water_vapour good",
    },
}  # fmt: skip


def _source_attributes(plan: Plan) -> dict[str, Any]:
    line: Any = plan.settings.get("line", {})
    shared = {
        "feather": "the scene that weighs most; RGB is the weighted mean of all scenes that are valid",
        "first": "the first scene that is valid; RGB is its own",
        "nadir": "the valid scene whose centre line is nearest; RGB is its own",
    }
    return {
        "long_name": "number of the scene, from 1; 0 for none",
        "comment": shared.get(line.get("combine"), ""),
        "scenes": [share.facts["name"] for share in plan.scenes],
    }
