"""Scenes with known truth: an RGB image of a simulated landscape and the reflectance at every pixel.

A pixel's value depends only on the settings and its absolute position, so scenes of any size can be made in
blocks. ``docs/simulator.md`` lists what is modelled and what is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window
from scipy.sparse import csr_array

from spectile.catalog.bands import RGB_CAMERA, VNIR48, Bands, resampling_matrix
from spectile.catalog.colour import srgb_bytes
from spectile.catalog.errors import UsageError
from spectile.pipeline.simulate.cover import Cover, Painter
from spectile.pipeline.simulate.landscape import Landscape, pixel_normal
from spectile.pipeline.simulate.materials import FAMILIES, Material, draw_materials
from spectile.pipeline.simulate.trees import MAX_HEIGHT_M

Array = NDArray[np.float32]

REFLECTANCE_SCALE = 1e-4
"""Reflectance per count in files of kind "reflectance"."""

_PIECE = 512
_NOISE_PURPOSE = 20_000

DISPLAY_WHITE = 0.4
"""The reflectance that is white in files of kind "display", before the sRGB curve."""


THROUGH = 0.6
"""Sunlight that reaches foliage in the shadow of other foliage, in units of the foliage's reflectance."""
_FOLIAGE = ("tree", "crop", "grass")


@dataclass(frozen=True)
class Light:
    """The light on a window's pixels, (h, w) float32 each, relative to level sunlit ground."""

    direct: Array
    """Light of the sun."""
    sky: Array
    """Light of the sky."""
    shaded: Array
    """One where an object blocks the sun, zero where none does; a share at the edge."""


@dataclass(frozen=True)
class Simulator:
    """A scene of known truth."""

    seed: int = 0
    """The seed of layout, materials and noise."""
    shape: tuple[int, int] = (1024, 1024)
    """Rows and columns of the scene; windows may reach beyond."""
    bands: Bands = VNIR48
    """The bands of the truth."""
    response: Bands = RGB_CAMERA
    """The responses of the colour camera, in the order of its channels."""
    materials: str = "train"
    """The set of materials, "train" or "demo"."""
    extra: tuple[Material, ...] = ()
    """Further materials, for instance from a spectral library; their family decides where they lie."""
    pixel_size_m: float = 0.5
    """Ground size of a pixel, metres."""
    sun_azimuth_deg: float = 150.0
    """Azimuth of the sun, clockwise from north."""
    sun_elevation_deg: float = 48.0
    """Elevation of the sun, 15 to 85."""
    noise_sd: float = 0.002
    """Standard deviation of the camera's noise, reflectance; it is independent in every pixel and channel."""
    rotation_deg: float = 0.0
    """Rotation of the grid, counter-clockwise from north-up."""
    crs: str = "EPSG:32633"
    """The coordinate reference system, metric."""
    origin: tuple[float, float] = (500000.0, 5400000.0)
    """Easting and northing of the grid's corner at row 0, column 0."""

    def __post_init__(self) -> None:
        if not 15.0 <= self.sun_elevation_deg <= 85.0:
            raise UsageError(
                "the sun is out of range", got=self.sun_elevation_deg, expected="15 to 85 degrees"
            )
        if min(self.shape) < 1 or self.pixel_size_m <= 0 or self.noise_sd < 0:
            raise UsageError("a scene needs pixels of positive size, and noise that is not negative")

    @property
    def transform(self) -> Affine:
        """The affine from (column, row) to map coordinates, rotation included."""
        corner = Affine.translation(*self.origin) * Affine.rotation(self.rotation_deg)
        return corner * Affine.scale(self.pixel_size_m, -self.pixel_size_m)

    @cached_property
    def endmembers(self) -> tuple[Material, ...]:
        """The scene's materials; ``labels`` numbers them in this order."""
        return draw_materials(self.seed, self.materials) + self.extra

    def truth(self, row: int, col: int, height: int, width: int) -> Array:
        """The (B, height, width) float32 apparent reflectance of a window, free of noise.

        It is the measurement of a perfect sensor relative to a level white surface in full sun: material
        reflectance mixed by area, times the light, which depends on slope, shadow and sky. On level sunlit
        ground it is the mixture's reflectance itself.
        """
        out = np.empty((len(self.bands), height, width), np.float32)
        spectra = self._library[0].astype(np.float32)
        count, through = len(self.bands), self._through.astype(np.float32)
        columns = np.concatenate([spectra, spectra * through], axis=1)
        for part, (h, w), cover, light in self._pieces(row, col, height, width):
            mixed = self._mix(cover, columns)
            for band, share in enumerate(self._diffuse.astype(np.float32)):
                level = light.direct * (np.float32(1.0) - share) + light.sky * share
                out[band, *part] = mixed[:, band].reshape(h, w) * level
                out[band, *part] += mixed[:, count + band].reshape(h, w) * light.shaded
        return out

    def rgb(self, row: int, col: int, height: int, width: int) -> Array:
        """The (3, height, width) float32 image of a window: the response to ``truth``, with noise."""
        spectra, response, channels = self._library[0], self._response.T, len(self.response)
        lights = (1.0 - self._diffuse, self._diffuse, self._through)
        columns = np.concatenate([(spectra * light) @ response for light in lights], axis=1)
        columns = columns.astype(np.float32)
        out = np.empty((channels, height, width), np.float32)
        for part, (h, w), cover, light in self._pieces(row, col, height, width):
            sunlit, skylit, through = self._mix(cover, columns).T.reshape(3, channels, h, w)
            out[:, *part] = sunlit * light.direct + skylit * light.sky + through * light.shaded
        if self.noise_sd:
            rows, cols = np.arange(row, row + height)[:, None], np.arange(col, col + width)[None, :]
            for channel in range(channels):
                key = (self.seed, _NOISE_PURPOSE + channel)
                out[channel] += np.float32(self.noise_sd) * pixel_normal(key, rows, cols)
        return out

    def labels(self, row: int, col: int, height: int, width: int) -> NDArray[np.int16]:
        """The (height, width) int16 number of the material that covers most of each pixel."""
        out = np.empty((height, width), np.int16)
        for part, (h, w), cover, _ in self._pieces(row, col, height, width):
            most, label = np.zeros((h, w), np.float32), np.zeros((h, w), np.int16)
            for share, material, _ in self._shares(cover):
                more = share > most
                label[more] = material[more]
                most = np.maximum(most, share)
            out[part] = label
        return out

    def shares(self, row: int, col: int, height: int, width: int) -> Array:
        """The (M, height, width) float32 share of each pixel that each of ``endmembers`` covers.

        Seen from above; they add up to one.
        """
        out = np.zeros((len(self.endmembers), height, width), np.float32)
        for part, (h, w), cover, _ in self._pieces(row, col, height, width):
            at = np.indices((h, w))
            for share, material, _ in self._shares(cover):
                np.add.at(out[:, *part], (material, *at), share)
        return out

    def write_rgb(
        self,
        path: Path,
        *,
        kind: Literal["reflectance", "float", "display"] = "reflectance",
        block: int = 1024,
        nodata_border: int = 0,
    ) -> None:
        """Write the scene's RGB as a tiled GeoTIFF, block by block in bounded memory.

        Parameters
        ----------
        path : where to write.
        kind : "reflectance" is uint16 in counts of 1e-4 with the scale in the file; "float" is float32
            reflectance; "display" is uint8, sRGB encoded with ``DISPLAY_WHITE`` as white.
        block : rows and columns that are held at a time, a multiple of 256.
        nodata_border : width in pixels of a frame that holds nodata: 0, or NaN in "float".

        Raises
        ------
        UsageError : the kind is unknown, or ``block`` no multiple of 256.
        """
        if block % 256 or block < 256:
            raise UsageError(
                "blocks must be whole tiles of the file", got=block, expected="a multiple of 256"
            )
        if kind not in _ENCODERS:
            raise UsageError("unknown kind of file", got=kind, expected="reflectance, float or display")
        dtype, encode = _ENCODERS[kind]
        nodata = (float("nan") if kind == "float" else 0) if nodata_border else None
        height, width = self.shape
        with rasterio.open(
            path, "w", driver="GTiff", height=height, width=width, count=3, dtype=dtype, nodata=nodata,
            crs=CRS.from_user_input(self.crs), transform=self.transform, tiled=True, blockxsize=256,
            blockysize=256, compress="deflate", predictor=3 if kind == "float" else 2, zlevel=1,
            photometric="RGB", BIGTIFF="IF_SAFER",
        ) as file:  # fmt: skip
            if kind == "reflectance":
                file.scales, file.offsets = (REFLECTANCE_SCALE,) * 3, (0.0,) * 3
            for row in range(0, height, block):
                for col in range(0, width, block):
                    h, w = min(block, height - row), min(block, width - col)
                    data = encode(self.rgb(row, col, h, w))
                    if nodata is not None:
                        inside = _within(row, h, height, nodata_border)[:, None]
                        inside = inside & _within(col, w, width, nodata_border)[None, :]
                        data[:, ~inside] = nodata
                    file.write(data, window=Window(col, row, w, h))

    @cached_property
    def _library(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Spectra of all states (M, B), each material's first row in them, and its number of states."""
        spectra = [material.resampled(self.bands) for material in self.endmembers]
        count = np.array([len(s) for s in spectra])
        return np.concatenate(spectra), np.cumsum(count) - count, count

    @cached_property
    def _response(self) -> NDArray[np.float64]:
        matrix, supported = resampling_matrix(self.bands, self.response)
        if not supported.all():
            raise UsageError("the bands do not reach the camera's responses", got=self.bands.centre_nm[0])
        return matrix

    @cached_property
    def _diffuse(self) -> NDArray[np.float64]:
        """(B,) share of skylight in the light on level ground, clear sky.

        Rayleigh and aerosol optical depths after Gregg & Carder (1990). Half of the light scattered by air
        and 0.8 of the light scattered by aerosol reaches the ground.
        """
        micron = np.asarray(self.bands.centre_nm) / 1000.0
        path = 1.0 / np.sin(np.radians(self.sun_elevation_deg))
        air = np.exp(-0.0088 * micron**-4.05 * path)
        aerosol = np.exp(-0.10 * (micron / 0.55) ** -1.3 * path)
        sky = 0.5 * (1.0 - air) + 0.8 * air * (1.0 - aerosol)
        # Sunlit surroundings also reflect some light into shadows.
        return np.asarray(0.03 + 0.97 * sky / (sky + air * aerosol))

    def _pieces(
        self, row: int, col: int, height: int, width: int
    ) -> Iterator[tuple[tuple[slice, slice], tuple[int, int], Cover, Light]]:
        """The surface of a window in pieces that fit the processor's cache, with the position of each."""
        for top in range(0, height, _PIECE):
            for left in range(0, width, _PIECE):
                h, w = min(_PIECE, height - top), min(_PIECE, width - left)
                part = (slice(top, top + h), slice(left, left + w))
                yield part, (h, w), *self._surface(row + top, col + left, h, w)

    @cached_property
    def _through(self) -> NDArray[np.float64]:
        """(M, B) sunlight on foliage in shadow, relative to full sun.

        Other foliage casts most of the shadow. It transmits and scatters the light that it does not absorb:
        about as much as the foliage itself reflects.
        """
        spectra, offset, count = self._library
        leafy = np.repeat([material.family in _FOLIAGE for material in self.endmembers], count)
        assert len(leafy) == len(spectra) == int(offset[-1] + count[-1])
        return np.asarray((1.0 - self._diffuse) * THROUGH * spectra * leafy[:, None])

    def _surface(self, row: int, col: int, height: int, width: int) -> tuple[Cover, Light]:
        """The cover of a window and the light on it."""
        azimuth = np.radians(self.sun_azimuth_deg + self.rotation_deg)
        sun_row, sun_col = -float(np.cos(azimuth)), float(np.sin(azimuth))
        tangent = float(np.tan(np.radians(self.sun_elevation_deg)))
        reach = MAX_HEIGHT_M / tangent / self.pixel_size_m
        stride = max(1.0, reach / 40.0)
        steps = [
            (
                k * stride * self.pixel_size_m * tangent,
                round(k * stride * sun_row),
                round(k * stride * sun_col),
            )
            for k in range(1, int(np.ceil(reach / stride)) + 1)
        ]
        top, left = 1 - min(0, steps[-1][1]), 1 - min(0, steps[-1][2])
        bottom, right = 1 + max(0, steps[-1][1]), 1 + max(0, steps[-1][2])
        y = (np.arange(row - top, row + height + bottom)[:, None] + np.float64(0.5)) * self.pixel_size_m
        x = (np.arange(col - left, col + width + right)[None, :] + np.float64(0.5)) * self.pixel_size_m
        pools = self._pools
        cover = Painter(Landscape(self.seed), pools, y, x, self.pixel_size_m).cover()

        def shifted(rows: int, cols: int) -> Array:
            return cover.height[top + rows : top + rows + height, left + cols : left + cols + width]

        here = shifted(0, 0)
        limit = np.float32(1.4)
        scale = np.float32(0.5 / self.pixel_size_m)
        slope_row = np.clip((shifted(1, 0) - shifted(-1, 0)) * scale, -limit, limit)
        slope_col = np.clip((shifted(0, 1) - shifted(0, -1)) * scale, -limit, limit)
        facing = np.float32(tangent) - slope_row * np.float32(sun_row) - slope_col * np.float32(sun_col)
        facing = facing / np.sqrt(np.float32(1.0) + slope_row * slope_row + slope_col * slope_col)
        blocked = np.zeros_like(here)
        for drop, rows, cols in steps:
            np.maximum(blocked, shifted(rows, cols) - here - np.float32(drop), out=blocked)
        lit = np.float32(1.0) - np.clip(blocked * np.float32(1.2 / (self.pixel_size_m * tangent)), 0.0, 1.0)
        inner = (slice(top, top + height), slice(left, left + width))
        gain = cover.gain[inner]
        direct = lit * np.clip(facing * np.float32(1.0 / tangent), 0.0, 1.5) * gain
        sky = (np.float32(0.6) + np.float32(0.4) * lit) * gain
        light = Light(direct, sky, (np.float32(1.0) - lit) * gain)
        layers = [(alpha[inner], material[inner], state[inner]) for alpha, material, state in cover.layers]
        return Cover(here, gain, layers), light

    @cached_property
    def _pools(self) -> dict[str, NDArray[np.int64]]:
        families = [material.family for material in self.endmembers]
        return {f: np.flatnonzero(np.array([g == f for g in families])) for f in FAMILIES}

    @staticmethod
    def _shares(cover: Cover) -> list[tuple[Array, NDArray[np.int64], Array]]:
        """The visible share of each layer in each pixel, top first, with its material and state."""
        left = np.ones_like(cover.height)
        shares = []
        for alpha, material, state in reversed(cover.layers):
            shares.append((alpha * left, material, state))
            left = left * (np.float32(1.0) - alpha)
        return shares

    def _mix(self, cover: Cover, columns: Array) -> Array:
        """The (pixels, C) mixture of rows of ``columns`` by area: two states of a material in each layer."""
        _, offset, count = self._library
        total = np.zeros((cover.height.size, columns.shape[1]), np.float32)
        for share, material, state in self._shares(cover):
            where = np.flatnonzero(share)
            if not where.size:
                continue
            number = material.ravel()[where]
            place = state.ravel()[where] * (count[number] - 1).astype(np.float32)
            low = np.minimum(place.astype(np.int64), np.maximum(count[number] - 2, 0))
            part = place - low.astype(np.float32)
            first = offset[number] + low
            second = np.minimum(first + 1, offset[number] + count[number] - 1)
            weight = share.ravel()[where]
            matrix = csr_array(
                (
                    np.stack([weight * (np.float32(1.0) - part), weight * part], axis=1).ravel(),
                    np.stack([first, second], axis=1).ravel(),
                    np.arange(0, 2 * where.size + 1, 2),
                ),
                shape=(where.size, len(columns)),
            )
            total[where] += matrix @ columns
        return total


def _counts(rgb: Array) -> NDArray[np.uint16]:
    # Zero is reserved for nodata.
    counts = np.clip(np.rint(rgb * np.float32(1.0 / REFLECTANCE_SCALE)), 1, 65535)
    return np.asarray(counts.astype(np.uint16))


def _as_float(rgb: Array) -> Array:
    return rgb


def _display(rgb: Array) -> NDArray[np.uint8]:
    """The sRGB encoding (IEC 61966-2-1) of reflectance over ``DISPLAY_WHITE``; zero is for nodata only."""
    return np.maximum(srgb_bytes(rgb / np.float32(DISPLAY_WHITE)), np.uint8(1))


_ENCODERS: dict[str, tuple[str, Callable[[Array], NDArray[Any]]]] = {
    "reflectance": ("uint16", _counts),
    "float": ("float32", _as_float),
    "display": ("uint8", _display),
}


def _within(start: int, size: int, extent: int, border: int) -> NDArray[np.bool_]:
    at = np.arange(start, start + size)
    return (at >= border) & (at < extent - border)
