"""Views of a cube: pieces of maps at the level that fits the screen, and spectra of places.

Nothing here depends on the page. The size of a read is limited for any cube: a piece has at most
``LARGEST_SIDE`` pixels a side, an area at most ``LARGEST_AREA`` pixels.
"""

from __future__ import annotations

import csv
import io
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from spectile.catalog.bands import Bands
from spectile.catalog.choices import Layer
from spectile.catalog.colour import Composite, Limits, colour_infrared, picture_gain, srgb_bytes, true_colour
from spectile.catalog.errors import CubeError, UsageError
from spectile.catalog.indices import INDICES
from spectile.pipeline.cube.arrays import open_arrays, readable, reading_metadata
from spectile.pipeline.cube.record import load_plan, read_status
from spectile.pipeline.cube.shards import read_bands
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.pixels import pixels_in
from spectile.pipeline.geometry.placing import to_map, transform_points
from spectile.pipeline.plan.arrays import ArraySpec, block_arrays
from spectile.pipeline.plan.counts import decode
from spectile.pipeline.plan.layers import LAYERS, array_name
from spectile.pipeline.plan.plan import SHARD, Plan
from spectile.pipeline.plan.quality_layers import FLAGS, QUALITY
from spectile.pipeline.product.colour import (
    ONE_SAMPLE,
    is_one_sample,
    read_composite,
    response_of,
    scene_white,
)
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage

LARGEST_SIDE = 1536
"""Rows and columns of a piece at most."""
COARSE_SIDE = 512
"""Rows and columns of the coarsest level at most; of the cube's overviews too."""
LARGEST_AREA = 512 * 512
"""Pixels of the window about an area at most; larger ones are read from a coarser level."""
LARGEST_PASS = 2**34
"""Pixels of a cube at most that has no overviews: all of it is passed over for its coarsest level."""


Array = NDArray[np.float32]
Place = tuple[float, float, float, float]
"""X and y in a cube's CRS, longitude and latitude in degrees, NaN where the CRS has none there."""


@dataclass(frozen=True)
class Subject:
    """What a map shows."""

    title: str
    """What it is called."""
    array: str
    """The array that is read."""
    bands: tuple[int, ...] = ()
    """The bands that are read; none of an array that has none."""
    index: str | None = None
    """The index that is made of them."""
    flags: tuple[tuple[str, int], ...] = ()
    """Meanings and bits, where numbers are sets of flags; a later one hides those before."""

    composite: Composite | None = None
    """How red, green and blue are made of them, where it is a colour picture."""
    note: str = ""
    """What must be known of it."""
    white: float | None = None
    """The reflectance that such a picture shows as white; None where that hangs on what it shows."""

    @property
    def is_colour(self) -> bool:
        """Whether it is a colour picture."""
        return self.composite is not None

    @property
    def marked(self) -> tuple[int, ...]:
        """The bands that stand for it in a chart: of a colour picture the heaviest in red, green and blue."""
        return self.bands if self.composite is None else self.composite.heaviest

    def white_of(self, values: Array) -> float:
        """The reflectance that a colour picture with these values (3, h, w) shows as white."""
        return self.white or 1 / picture_gain(values[np.isfinite(values)])


@dataclass(frozen=True)
class Resolution:
    """The cube at a resolution."""

    factor: int
    """Pixels of the cube along the side of one of its pixels."""
    grid: Grid
    """Its pixels."""
    path: str | None
    """The group that holds its means; None where it is every ``factor``-th pixel, kept in memory."""


@dataclass(frozen=True)
class Spectrum:
    """The spectrum of a place."""

    reflectance: Array
    """(B,), NaN where there is none."""
    layers: Mapping[Layer, Array]
    """(B,) each: ``sd``, ``q05``, ``q95``; of an area ``sd`` over its pixels."""
    pixels: int
    """Pixels of the level that it is the mean of."""
    factor: int
    """The level that it was read from."""

    @property
    def interval(self) -> tuple[Array, Array] | None:
        """Lower and upper bound, (B,) each: the quantiles, else one standard deviation on each side."""
        if {"q05", "q95"} <= self.layers.keys():
            return self.layers["q05"], self.layers["q95"]
        if "sd" in self.layers:
            sd = self.layers["sd"]
            return self.reflectance - sd, self.reflectance + sd
        return None


@dataclass
class View:
    """A cube that is shown. Several threads may read it."""

    storage: Storage
    """Where it is."""
    grid: Grid
    """Its pixels."""
    bands: Bands
    """Its bands."""
    complete: bool
    """Whether its run is finished."""
    facts: dict[str, Any]
    """What it says of itself."""
    levels: tuple[Resolution, ...]
    """From fine to coarse, the first being the cube itself; the last has ``COARSE_SIDE`` a side at most."""
    arrays: Mapping[str, ArraySpec]
    """The arrays that its plan has, by name; others are not looked at."""
    pictures: Mapping[str, Subject]
    """Its colour pictures, by key."""
    group: Any = field(repr=False)
    """The store, opened by zarr."""
    _kept: dict[tuple[str, int], Future[NDArray[Any]]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that say how sure it is."""
        return tuple(layer for layer in LAYERS if array_name(layer) in self.arrays)

    @cached_property
    def subjects(self) -> dict[str, str]:
        """What maps can show, by key: the title. Of ``band``, ``sd`` there is one for each wavelength."""
        titles = {
            key: subject.title
            for key, subject in self.pictures.items()
            if subject.composite and subject.composite.covered
        }
        titles["band"] = "Single band"
        for name, index in INDICES.items():
            taken = self._bands_at(index.wavelength_nm)
            if taken and len(set(taken)) == len(taken):  # too wide bands do not tell two of its own apart
                titles[name] = f"{name.upper().replace('_', ' ')}, {index.title}"
        if "sd" in self.layers:
            titles["sd"] = "Uncertainty (sd) of a band"
        for name in QUALITY:
            if name in self.arrays:
                described = str(self.group[name].attrs.get("long_name", name))[:200]
                titles[name] = described[:1].upper() + described[1:]
        return titles

    def subject(self, key: str, wavelength_nm: float) -> Subject:
        """What a key of ``subjects`` means, at a wavelength if it takes one.

        Raises
        ------
        UsageError : there is no such subject.
        """
        if key not in self.subjects:
            raise UsageError("the cube cannot show this", got=key, expected=", ".join(self.subjects))
        band = self.bands.nearest(wavelength_nm)
        centre = self.bands.centre_nm[band]
        if key == "band":
            return Subject(f"Reflectance at {centre:.0f} nm", "reflectance", (band,))
        if key == "sd":
            return Subject(f"Standard deviation at {centre:.0f} nm", array_name("sd"), (band,))
        if key in QUALITY:
            return Subject(self.subjects[key], key, flags=tuple(FLAGS.items()) if key == "quality" else ())
        if key in self.pictures:
            return self.pictures[key]
        title = self.subjects[key].partition(",")[0]
        return Subject(title, "reflectance", self._bands_at(INDICES[key].wavelength_nm), key)

    def _bands_at(self, wavelengths_nm: Sequence[float]) -> tuple[int, ...]:
        """The bands at wavelengths; none where one of them is missing."""
        try:
            return tuple(self.bands.at(nm) for nm in wavelengths_nm)
        except UsageError:
            return ()

    def level_for(self, window: Window, side: int) -> Resolution:
        """The coarsest level that fills a screen: ``side`` pixels along the longer side of a window.

        One whose pixels are up to 1.4 times as large as the screen's will do. Where the piece would be larger
        than ``LARGEST_SIDE``, the next coarser one.
        """
        longest = max(window.shape)
        fine = [level for level in self.levels if longest / level.factor <= LARGEST_SIDE]
        sharp = [level for level in fine if longest / level.factor >= side / 1.4]
        return sharp[-1] if sharp else (fine or self.levels[-1:])[0]

    def read(self, subject: Subject, level: Resolution, window: Window | None = None) -> Array:
        """What a map shows, (3, h, w) of colours, else (1, h, w), NaN where there is nothing.

        Arrays that hold no reflectance are read as they are. Of a subject with flags they become the number
        of the last one that is set, from 1; 0 where none is.

        Parameters
        ----------
        window : of the level's own pixels, inside its grid; None is all of them.
        """
        at = (window or level.grid.window).slices
        if subject.composite is not None:
            return read_composite(
                lambda bands, part: self._counts(Subject("", subject.array, bands), level, part),
                subject.composite, at,
            )  # fmt: skip
        counts = self._counts(subject, level, at)
        if subject.flags:
            return _last_flag(counts, subject.flags)[None]
        if self.arrays[subject.array].values != "reflectance":
            return counts.astype(np.float32)[None]
        values = decode(counts)
        if not subject.bands:
            return values[None]
        return values if subject.index is None else INDICES[subject.index].of(*values)[None]

    def _counts(self, subject: Subject, level: Resolution, at: tuple[slice, slice]) -> NDArray[Any]:
        with readable(self.storage):
            return self._stored(subject, level, at)

    def _stored(self, subject: Subject, level: Resolution, at: tuple[slice, slice]) -> NDArray[Any]:
        if level.path is None:
            if not subject.bands:
                return self._decimated(subject.array, 0, level.factor)[at]
            depth = self.group[subject.array].chunks[0]
            return np.stack(
                [
                    self._decimated(subject.array, band // depth, level.factor)[(band % depth, *at)]
                    for band in subject.bands
                ]
            )
        array, bands = self._array(level, subject.array), subject.bands
        if not bands:
            return np.asarray(array[at])
        return read_bands(array, bands, at)

    def _array(self, level: Resolution, name: str) -> Any:
        return self.group[f"{level.path}/{name}".lstrip("/")]

    def _decimated(self, name: str, part: int, factor: int) -> NDArray[Any]:
        """Every ``factor``-th row and column of the cube, of the bands that share a chunk; read once.

        Whoever asks first reads; others wait for that array alone.
        """
        with self._lock:
            known = self._kept.get((name, part))
            future = known or self._kept.setdefault((name, part), Future())
        if known is None:
            try:
                future.set_result(self._read_decimated(name, part, factor))
            except BaseException as err:
                with self._lock:
                    del self._kept[name, part]  # the next one tries again
                future.set_exception(err)
        return future.result()

    def _read_decimated(self, name: str, part: int, factor: int) -> NDArray[Any]:
        array = self.group[name]
        deep = () if array.ndim == 2 else (slice(part * array.chunks[0], (part + 1) * array.chunks[0]),)
        strips = []
        # A row of shards at a time, so that memory does not grow with the cube.
        for start in range(0, self.grid.shape[0], SHARD):
            rows = slice(start + -start % factor, min(start + SHARD, self.grid.shape[0]), factor)
            strips.append(array[(*deep, rows, slice(None, None, factor))])
        return np.concatenate(strips, axis=-2)

    def spectrum(self, row: int, col: int) -> Spectrum:
        """The spectrum of a pixel of the cube.

        Raises
        ------
        UsageError : there is no pixel or no spectrum.
        """
        rows, cols = self.grid.shape
        if not (0 <= row < rows and 0 <= col < cols):
            raise UsageError("outside the cube", got=f"row {row}, column {col}")
        with readable(self.storage):
            spectra = {
                name: decode(self.group[name][:, row, col])
                for name in ("reflectance", *map(array_name, self.layers))
            }
        reflectance = spectra.pop("reflectance")
        if np.isnan(reflectance).all():
            raise UsageError("no spectrum here", remedy="the scene is masked or not finished in this place")
        layers = {layer: spectra[array_name(layer)] for layer in self.layers}
        return Spectrum(reflectance, layers, 1, 1)

    def area(self, ring: Sequence[tuple[float, float]]) -> Spectrum:
        """The mean spectrum of the pixels in a polygon and their standard deviation (one degree less).

        It is read from the finest level at which the window about it has ``LARGEST_AREA`` pixels at most.

        Parameters
        ----------
        ring : its corners as (row, column) of the cube, from the upper left corner of the first pixel.

        Raises
        ------
        UsageError : it is no polygon, or holds no pixel that has a spectrum.
        """
        if len(ring) < 3:
            raise UsageError("a polygon has three corners or more", got=len(ring))
        rows, cols = np.asarray(ring, dtype=np.float64).T
        polygon = shapely.Polygon(np.column_stack(to_map(self.grid, rows, cols)))
        high, wide = np.ptp(rows.clip(0, self.grid.shape[0])), np.ptp(cols.clip(0, self.grid.shape[1]))
        fitting = [level for level in self.levels if high * wide <= LARGEST_AREA * level.factor**2]
        level = (fitting or self.levels[-1:])[0]
        window, inside = pixels_in(level.grid, polygon)
        mean, sd = np.full((2, len(self.bands)), np.nan, dtype=np.float32)
        count = 0
        depth = self.group["reflectance"].chunks[0]
        for start in range(0, len(self.bands), depth):
            bands = tuple(range(start, min(start + depth, len(self.bands))))
            inside_polygon = self._counts(Subject("", "reflectance", bands), level, window.slices)[:, inside]
            for band, counts in zip(bands, inside_polygon, strict=True):
                values = decode(counts, np.float64)
                values = values[np.isfinite(values)]
                count = max(count, values.size)
                if values.size:
                    mean[band] = values.mean()
                    sd[band] = values.std(ddof=1) if values.size > 1 else np.nan
        if not count:
            raise UsageError(
                "no spectrum in this polygon", remedy="the scene is masked or not finished there"
            )
        return Spectrum(mean, {"sd": sd}, count, level.factor)

    def place(self, row: float, col: float) -> Place:
        """Where a point of the grid is, given by row and column from the corner of the first pixel."""
        x, y = to_map(self.grid, np.array([row], np.float64), np.array([col], np.float64))
        try:
            lon, lat = transform_points(x, y, self.grid.crs_wkt, "OGC:CRS84")
        except RuntimeError:  # pyproj's errors are of this class
            lon = lat = np.array([np.nan])
        return float(x[0]), float(y[0]), float(lon[0]), float(lat[0])

    @cached_property
    def pixel_m(self) -> tuple[float, float]:
        """(height, width) of a pixel in metres, along the grid's own axes, in the middle of the cube."""
        crs, transform = CRS.from_wkt(self.grid.crs_wkt), self.grid.transform
        across = down = 1.0
        if crs.is_projected:
            across = down = float(crs.linear_units_factor[1])
        elif crs.is_geographic:
            down = 111_320.0  # a degree of latitude
            middle = self.grid.shape[1] / 2, self.grid.shape[0] / 2
            across = down * max(float(np.cos(np.radians((transform @ middle)[1]))), 1e-6)
        return (
            float(np.hypot(transform.b * across, transform.e * down)),
            float(np.hypot(transform.a * across, transform.d * down)),
        )


def open_view(place: str | Storage) -> View:
    """The cube at a path or URL, finished or not, to show.

    Overviews are used where it is finished and has them; else its coarsest level is every n-th pixel.

    Raises
    ------
    CubeError : there is no cube, or it is damaged.
    StoreError : the store cannot be read.
    """
    storage = open_storage(place) if isinstance(place, str) else place
    facts, plan = read_status(storage), load_plan(storage)
    grid, complete = plan.cube_grid, facts["status"] == "complete"
    levels_there = plan.levels if complete else plan.levels[:1]
    group = open_arrays(storage, plan, consolidated=complete, levels=levels_there)
    with reading_metadata(storage):
        bands = Bands.from_arrays(group["wavelength"][:], group["fwhm"][:])
        CRS.from_wkt(grid.crs_wkt)
        levels = _levels(group, grid, complete)
        pictures = _pictures(plan, bands)
    return View(storage, grid, bands, complete, facts, levels, block_arrays(plan), pictures, group)


def _pictures(plan: Plan, bands: Bands) -> dict[str, Subject]:
    colours, infrared = true_colour(bands, response_of(plan.settings)), colour_infrared(bands)
    note = ONE_SAMPLE if is_one_sample(plan) else ""
    return {
        "true": Subject(
            "True colour", "reflectance", colours.bands, composite=colours, white=scene_white(plan)
        ),
        "infrared": Subject("Colour infrared", "reflectance", infrared.bands, composite=infrared, note=note),
    }


def _levels(group: Any, grid: Grid, complete: bool) -> tuple[Resolution, ...]:
    """The cube and the overviews that it names, and the coarse levels that are missing."""
    multiscales = group.attrs.get("multiscales") if complete else None
    layout = multiscales.get("layout") if isinstance(multiscales, dict) else None
    named = layout if isinstance(layout, list) else []
    assets = [str(entry.get("asset")) for entry in named if isinstance(entry, dict)]
    factors = [int(match[1]) for asset in assets if (match := re.fullmatch(r"overviews/(\d+)", asset))]
    levels = [Resolution(1, grid, "")]
    for factor in sorted(factors):
        levels.append(Resolution(factor, _coarser(grid, factor), f"overviews/{factor}"))
    if max(levels[-1].grid.shape) > COARSE_SIDE:
        rows, cols = grid.shape
        if rows * cols > LARGEST_PASS:
            raise CubeError(
                "the cube is too large to be shown without overviews", where=str(group.store),
                got=f"{rows:,} × {cols:,} px", expected=f"{LARGEST_PASS:,} px at most",
                remedy="finish its run, which makes them",
            )  # fmt: skip
        factor = -(-max(grid.shape) // COARSE_SIDE)
        levels.append(Resolution(factor, _coarser(grid, factor), None))
    return tuple(levels)


def _coarser(grid: Grid, factor: int) -> Grid:
    rows, cols = grid.shape
    covering = -(-rows // factor), -(-cols // factor)
    return Grid(covering, grid.transform @ Affine.scale(factor), grid.crs_wkt)


def _last_flag(counts: NDArray[Any], flags: tuple[tuple[str, int], ...]) -> Array:
    numbers = np.zeros(counts.shape, dtype=np.float32)
    for number, (meaning, bit) in enumerate(flags, 1):
        numbers[counts & bit > 0] = np.nan if meaning == "nodata" else number
    return numbers


def picture(values: Array, limits: Limits, palette: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """RGBA (h, w), a byte each from the lowest on, of what ``read`` returned; transparent where nothing is.

    Parameters
    ----------
    values : (3, h, w), shown as linear light in sRGB, or (1, h, w), shown by the palette.
    limits : what the darkest and the brightest, or the first and the last colour, stand for.
    palette : (N, 3).
    """
    low, high = limits
    level = (np.nan_to_num(values, nan=low) - np.float32(low)) / np.float32(high - low)
    np.clip(level, 0, 1, out=level)
    if len(values) == 3:
        colour = srgb_bytes(level).transpose(1, 2, 0)
    else:
        colour = palette[np.minimum(level[0] * len(palette), len(palette) - 1).astype(np.intp)]
    rgba = np.empty((*values.shape[1:], 4), dtype=np.uint8)
    rgba[..., :3] = colour
    rgba[..., 3] = np.where(np.isfinite(values).all(axis=0), 255, 0)
    return rgba.view("<u4")[..., 0]


def to_csv(spectra: Iterable[tuple[str, Place, Spectrum]], bands: Bands) -> str:
    """Named spectra as a table with a row for each band, as CSV with a header.

    ``pixels`` and ``level`` say of how many pixels of which level a spectrum is the mean; ``sd`` is that of
    the samples where there is one pixel, else that of the pixels. What is not known is left empty.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        [
            "name",
            "x",
            "y",
            "lon",
            "lat",
            "pixels",
            "level",
            "wavelength_nm",
            "fwhm_nm",
            "reflectance",
            *LAYERS,
        ]
    )
    for name, (x, y, lon, lat), spectrum in spectra:
        known = [f"{x:.10g}", f"{y:.10g}", _number(lon, 7), _number(lat, 7), spectrum.pixels, spectrum.factor]
        columns = [spectrum.reflectance, *(spectrum.layers.get(layer) for layer in LAYERS)]
        for band, (centre, width) in enumerate(zip(bands.centre_nm, bands.fwhm_nm, strict=True)):
            values = ["" if column is None else _number(float(column[band]), 6) for column in columns]
            table.writerow([name, *known, f"{centre:g}", f"{width:g}", *values])
    return text.getvalue()


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else ""
