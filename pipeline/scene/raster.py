"""Reading a scene: windows of reflectance and validity, for runs and as lazy xarray objects for notebooks.

Both use ``SceneSource.read``, so a notebook shows exactly what the network gets.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags

from spectile.catalog.choices import NodataRule
from spectile.catalog.errors import BlockError, SceneError, UsageError
from spectile.catalog.inputs import Raster
from spectile.catalog.redaction import redact_url
from spectile.catalog.urls import Location, locate
from spectile.pipeline.geometry.clip import Clip
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.places import check_place
from spectile.pipeline.geometry.tiling import Tile, Tiling, reflected
from spectile.pipeline.scene.addresses import resolve
from spectile.pipeline.scene.opening import (
    block_bytes,
    check_listed,
    first_line,
    gdal_errors,
    grid_of,
    is_gdal_error,
    open_raster,
)
from spectile.pipeline.scene.radiometry import Radiometry, declare, display_gain
from spectile.pipeline.scene.remote import RemoteFile, ask, reading

if TYPE_CHECKING:
    import xarray as xr

SURVEY_PIXELS = 1024
"""Most rows and columns of the one decimated read from which scene-wide values are measured."""
MOST_HANDLES = 32
"""Most files that a thread keeps open: a flight line may have more scenes than a process may open files."""
_DESCRIPTIONS = (".aux.xml", ".ovr", ".tfw", ".jgw", ".pgw", ".j2w", ".wld", ".tab")


class _Name:
    """The key of a source among the handles of a thread."""


class _Handles(threading.local):
    """The open files of this thread, the most recently used last."""

    def __init__(self) -> None:
        self._held: OrderedDict[weakref.ref[_Name], rasterio.DatasetReader] = OrderedDict()

    def of(self, name: _Name, path: str, *, allow_vrt: bool) -> rasterio.DatasetReader:
        """The handle of a source, opened if needed."""
        key = weakref.ref(name)
        if key not in self._held:
            opened = open_raster(path, allow_vrt=allow_vrt)
            for other in [each for each in self._held if each() is None]:
                self._held.pop(other).close()
            while len(self._held) >= MOST_HANDLES:
                self._held.popitem(last=False)[1].close()
            self._held[key] = opened
        self._held.move_to_end(key)
        return self._held[key]


# A handle shared by threads returns wrong pixels and then crashes, so each thread has its own.
_HANDLES = _Handles()


@dataclass(frozen=True)
class SceneSource:
    """A scene that can be read by window. Cheap to send to workers; each thread opens its own handle."""

    path: str
    """The file or its URL; do not show signed URLs."""
    grid: Grid
    """The grid of its pixels."""
    channels: tuple[int, ...]
    """1-based bands of the file, in the order in which they are read."""
    radiometry: Radiometry
    """What its numbers mean."""
    mask: Literal["alpha", "dataset", "nodata", "none"]
    """What marks invalid pixels: an alpha band (and a nodata value), a mask, a nodata value, or nothing."""
    nodata: tuple[float | None, ...] = ()
    """The nodata value of each channel."""
    nodata_rule: NodataRule = "all"
    """Whether a pixel is invalid when all or when any of its channels hold nodata."""
    notices: tuple[str, ...] = ()
    """Notices for the user about how the file is interpreted."""
    remote: RemoteFile | None = None
    """The object that was opened, if the scene is read by URL."""
    alpha: int | None = None
    """1-based band with alpha, or None."""
    block_bytes: int = 0
    """Decoded bytes of the file's largest block; GDAL decodes whole blocks."""
    allow_vrt: bool = False
    """Whether a VRT is accepted."""
    clip: Clip | None = None
    """What of it is shown; pixels outside are not valid."""
    _name: _Name = field(default_factory=_Name, compare=False, repr=False)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_name"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _name=_Name())

    def _dataset(self) -> rasterio.DatasetReader:
        return _HANDLES.of(self._name, self.path, allow_vrt=self.allow_vrt)

    def read(self, window: Window) -> Raster:
        """Reflectance (C, h, w) float32 and validity (h, w) bool of a window.

        The window may reach beyond the scene, which is mirrored there. The reflectance of invalid pixels is
        NaN.

        Raises
        ------
        BlockError : the file cannot be read there.
        SpectileError : the object at the URL was replaced.
        """
        rows = reflected(window.row, window.row_stop, self.grid.shape[0])
        cols = reflected(window.col, window.col_stop, self.grid.shape[1])
        held = Window(int(rows.min()), int(cols.min()), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)
        with self._readable(held):
            numbers, valid = self._read_numbers(held)
        if self.remote:
            self.remote.check_unchanged()
        if self.clip is not None:
            valid &= self.clip.inside(held)
        values = self.radiometry.to_reflectance(numbers)
        values[:, ~valid] = np.nan
        if held != window:
            at_rows, at_cols = rows - held.row, cols - held.col
            values, valid = values[:, at_rows[:, None], at_cols], valid[at_rows[:, None], at_cols]
        return Raster(values, valid)

    @property
    def ceiling(self) -> NDArray[np.float32] | None:
        """(C,) reflectance of the largest number of the channels' data type; None for floats."""
        dtype = np.dtype(self._dataset().dtypes[self.channels[0] - 1])
        if np.issubdtype(dtype, np.floating) or min(self.radiometry.scale) <= 0:
            return None
        return self.radiometry.to_reflectance(np.full(len(self.channels), np.iinfo(dtype).max, dtype=dtype))

    def read_valid(self, window: Window) -> NDArray[np.bool_]:
        """Validity (h, w) bool of a window inside the scene, as in ``read``; reads colours only if needed.

        Raises
        ------
        BlockError : the file cannot be read there.
        """
        dataset = self._dataset()
        integers = not np.issubdtype(np.dtype(dataset.dtypes[self.channels[0] - 1]), np.floating)
        with self._readable(window):
            if integers and self.mask == "none":
                return np.ones(window.shape, dtype=bool)
            if integers and (self.mask == "dataset" or (self.mask == "alpha" and not self._has_nodata)):
                with reading(self.path):
                    return self._shown(dataset, _at(window), window.shape)
            return self._read_numbers(window)[1]

    @contextmanager
    def _readable(self, held: Window) -> Iterator[None]:
        try:
            yield
        except Exception as err:
            if not is_gdal_error(err):
                raise
            raise BlockError(
                "the scene cannot be read here",
                where=f"{self.path} rows {held.row}–{held.row_stop - 1}, "
                f"columns {held.col}–{held.col_stop - 1}",
                got=first_line(err),
                remedy="restore the file, then run again with --resume",
            ) from err

    def memory(self) -> int:
        """Bytes that reading takes in addition to the result: a decoded block, also in GDAL's cache."""
        return 2 * self.block_bytes

    @property
    def mask_facts(self) -> dict[str, object]:
        """What decides which pixels are valid, as plain JSON; part of it may be in files beside the scene."""
        values = [None if value is None else str(value) for value in self.nodata]
        return {"mask": self.mask, "alpha": self.alpha, "nodata": self.nodata_rule, "nodata_values": values}

    def check_ends(self) -> None:
        """Read the first and the last pixel, so that a broken file is found before planning.

        Raises
        ------
        SceneError : neither can be read.
        """
        rows, cols = self.grid.shape
        try:
            with self._readable(Window(0, 0, 1, 1)):
                self._read_numbers(Window(0, 0, 1, 1))
        except BlockError as err:
            last = Window(rows - 1, cols - 1, 1, 1)
            with suppress(BlockError), self._readable(last):
                self._read_numbers(last)
                return
            raise SceneError(
                "the scene cannot be read", where=self.path, got=first_line(err.__cause__ or err)
            ) from err

    def _read_numbers(
        self,
        window: Window | None,
        out_shape: tuple[int, int] | None = None,
        *,
        bare: rasterio.DatasetReader | None = None,
    ) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        dataset = bare or self._dataset()
        at = window and _at(window)
        shape = out_shape or (window or self.grid.window).shape
        with reading(self.path):
            numbers = dataset.read(list(self.channels), window=at, out_shape=(len(self.channels), *shape))
            masked_beside = self.mask == "dataset" and MaskFlags.per_dataset not in dataset.mask_flag_enums[0]
            return numbers, self._valid(numbers, self._dataset() if masked_beside else dataset, at, shape)

    def _valid(
        self,
        numbers: NDArray[np.generic],
        dataset: rasterio.DatasetReader,
        at: rasterio.windows.Window | None,
        shape: tuple[int, int],
    ) -> NDArray[np.bool_]:
        valid = np.ones(shape, dtype=bool)
        if np.issubdtype(numbers.dtype, np.floating):
            valid &= np.isfinite(numbers).all(axis=0)
        if self.mask in ("alpha", "dataset"):
            valid &= self._shown(dataset, at, shape)
        if self.mask in ("alpha", "nodata"):
            empty = [
                numbers[i] == value
                for i, value in enumerate(self.nodata)
                if value is not None and not np.isnan(value)
            ]
            if empty:
                combine = np.logical_and if self.nodata_rule == "all" else np.logical_or
                valid &= ~combine.reduce(empty)
        return valid

    def _shown(
        self, dataset: rasterio.DatasetReader, at: rasterio.windows.Window | None, shape: tuple[int, int]
    ) -> NDArray[np.bool_]:
        # GDAL uses alpha as the mask only in files of two or four bands.
        if self.alpha is not None:
            return np.asarray(dataset.read(self.alpha, window=at, out_shape=shape) > 0)
        return np.asarray(dataset.dataset_mask(window=at, out_shape=shape) > 0)

    @property
    def _has_nodata(self) -> bool:
        return any(value is not None for value in self.nodata)

    def survey(self) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Stored numbers (C, h, w) and validity (h, w) of one decimated read of the whole file.

        It depends on the file only (overviews beside it are ignored), so every run measures the same values.
        """
        with open_raster(self.path, alone=True, allow_vrt=self.allow_vrt) as bare:
            return self._survey(bare)

    def _survey(self, bare: rasterio.DatasetReader) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        step = max(1, -(-max(self.grid.shape) // SURVEY_PIXELS))
        rows, cols = (-(-size // step) for size in self.grid.shape)
        try:
            return self._read_numbers(None, (rows, cols), bare=bare)
        except Exception as err:
            if not is_gdal_error(err):
                raise
            damage = first_line(err)
        # Damage in one place must not prevent the rest: leave this strip out.
        strips = []
        for row in range(0, self.grid.shape[0], 64 * step):
            held = Window(row, 0, min(64 * step, self.grid.shape[0] - row), self.grid.shape[1])
            with suppress(BlockError), self._readable(held):
                strips.append(self._read_numbers(held, (-(-held.height // step), cols), bare=bare))
        if not strips:
            raise SceneError("the scene cannot be read", where=self.path, got=damage)
        numbers, valid = zip(*strips, strict=True)
        return np.concatenate(numbers, axis=1), np.concatenate(valid)

    def tags(self) -> dict[str, str]:
        """The file's metadata that may hold its acquisition time; empty if it can no longer be opened.

        For a scene by URL only its own tags: other domains make GDAL look for files beside it.
        """
        with suppress(SceneError), gdal_errors(self.path, "its metadata cannot be read"):
            dataset = self._dataset()
            with reading(self.path):
                if self.remote is not None:
                    return dict(dataset.tags())
                return {**dataset.tags(), **dataset.tags(ns="EXIF"), **dataset.tags(ns="IMAGERY")}
        return {}

    def identity(self, *, checksum: bool = False) -> dict[str, object]:
        """The identity of this scene as plain JSON: its sha256, or URL, ETag and size.

        Parameters
        ----------
        checksum : read a scene by URL completely for its sha256, instead of using URL, ETag and size.

        Raises
        ------
        SceneError : the server gives no ETag, or the scene cannot be read.
        """
        if self.remote is None or checksum:
            return {"sha256": self.fingerprint()}
        if self.remote.etag is None:
            raise SceneError(
                "the server gives no ETag to identify the scene", where=self.path, remedy="use --checksum"
            )
        return {"url": str(self.remote.location), "etag": self.remote.etag, "size": self.remote.size}

    def fingerprint(self) -> str:
        """The sha256 of all files with pixels or masks of the scene, hexadecimal.

        Overviews and metadata are left out, because GIS programs write them beside a scene when they show it.
        No window is read from overviews. Metadata that change values are recorded separately (radiometry,
        nodata values, the place on the map).
        """
        digest = hashlib.sha256()
        if self.remote:
            digest.update(self.remote.digest())
            return digest.hexdigest()
        for name in sorted(self._dataset().files):
            if Path(name).is_file() and not name.lower().endswith(_DESCRIPTIONS):
                with Path(name).open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()


def open_source(
    path: str | Path,
    *,
    radiometry: str | None = None,
    nodata_rule: NodataRule = "all",
    channels: tuple[int, int, int] | None = None,
    measure: bool = True,
    memory: int | None = None,
    allow_vrt: bool = False,
    listed: bool = False,
    allow_private: bool = False,
) -> SceneSource:
    """The source of an RGB raster, with everything that reading needs.

    Parameters
    ----------
    radiometry : ``reflectance``, ``display``, ``display:GAIN``, ``display/PEAK``, ``display/PEAK:GAIN`` or
        ``dn:OFFSET,SCALE``; by default the file's own metadata decide.
    nodata_rule : whether all or any of the channels must hold the nodata value.
    channels : 1-based bands of red, green and blue; by default the file's colour interpretation.
    measure : read the scene once, decimated, to check its range and to measure the display gain.
        Without it only the first and the last pixel are read, and a display source cannot be read yet.
    allow_vrt : as in ``open_raster``.
    listed : a catalogue named it: it must be GeoTIFF or JPEG 2000, and not on a private address.
    allow_private : as in ``resolve``.
    memory : bytes that reading may take in addition to the result; by default the limit for any file.

    Raises
    ------
    SceneError : missing, not a raster, no CRS or geotransform, wrong bands, or undeclared radiometry.
    UsageError : unknown nodata rule.
    """
    if nodata_rule not in get_args(NodataRule):
        raise UsageError("unknown nodata rule", got=nodata_rule, expected="all or any")
    name = str(path)
    where = locate(path)
    remote = None
    if isinstance(where, Location):
        final = resolve(where, listed=listed, allow_private=allow_private)
        remote, name = ask(final), name if final == where else final.url
    elif listed:
        check_listed(where)
    # rasterio reports faults in a mask's directory late, as a bare GDAL error.
    told = gdal_errors(name, "the scene's metadata cannot be read", "run again")
    with told, reading(name), open_raster(name, allow_vrt=allow_vrt) as dataset:
        grid = grid_of(dataset, name)
        elsewhere = check_place(grid, redact_url(name))
        rgb = _channels(dataset, name, channels)
        mask = _mask(dataset, rgb)
        declared, notice = declare(
            radiometry,
            where=redact_url(name),
            dtype=dataset.dtypes[rgb[0] - 1],
            offsets=_of(dataset.offsets, rgb),
            scales=_of(dataset.scales, rgb),
        )
        nodata = tuple(dataset.nodatavals[band - 1] for band in rgb)
        alpha = _alpha(dataset) if mask == "alpha" else None
        block = block_bytes(dataset)
    source = SceneSource(
        name, grid, rgb, declared, mask, nodata, nodata_rule,
        tuple(said for said in (notice, elsewhere) if said), remote, alpha, block, allow_vrt,
    )  # fmt: skip
    if memory is not None and source.memory() > memory:
        raise SceneError(
            "the file's blocks do not fit the memory", where=name, got=f"{source.memory() / 1e9:.2f} GB",
            expected=f"up to {memory / 1e9:.2f} GB",
            remedy="raise --memory, or write the file anew with tiles, e.g. rio convert --co TILED=YES",
        )  # fmt: skip
    source.check_ends()
    return _measured(source, declared_by_user=radiometry is not None) if measure else source


def _measured(source: SceneSource, *, declared_by_user: bool) -> SceneSource:
    numbers, valid = source.survey()
    if not valid.any():
        raise SceneError("the scene has no valid pixel", where=source.path, remedy="check its nodata value")
    radiometry = source.radiometry
    if radiometry.kind == "display" and radiometry.gain is None:
        return replace(source, radiometry=replace(radiometry, gain=display_gain(numbers, valid, radiometry)))
    bare = radiometry.kind == "reflectance" and set(radiometry.scale) == {1.0} and not any(radiometry.offset)
    bare_floats = bare and np.issubdtype(numbers.dtype, np.floating)
    if bare_floats and not declared_by_user:
        top = float(numbers[:, valid].max())
        if top > 1.5:
            raise SceneError(
                "the file does not say what its numbers mean",
                where=source.path,
                got=f"floats up to {top:g} without a scale",
                expected="reflectance up to 1.5",
                remedy="use --radiometry dn:OFFSET,SCALE for reflectance = (DN − OFFSET)·SCALE, "
                f"display/{255 if top <= 255 else 65535} for a picture made for the eye, "
                "or reflectance where they are",
            )
    return source


def _channels(
    dataset: rasterio.DatasetReader, name: str, asked: tuple[int, int, int] | None
) -> tuple[int, int, int]:
    colours = {colour: band for band, colour in enumerate(dataset.colorinterp, 1)}
    wanted = [colours.get(c) for c in (ColorInterp.red, ColorInterp.green, ColorInterp.blue)]
    if asked:
        if not all(1 <= band <= dataset.count for band in asked):
            raise SceneError("no such band", where=name, got=f"--rgb {','.join(map(str, asked))}",
                             expected=f"bands 1 to {dataset.count}")  # fmt: skip
        wanted = list(asked)
    elif not all(wanted):
        if dataset.count - (ColorInterp.alpha in colours) != 3:
            raise SceneError(
                "wrong number of bands",
                where=name,
                got=dataset.count,
                expected="red, green and blue (and alpha)",
                remedy="name them with --rgb R,G,B" if dataset.count >= 3 else "give an RGB scene",
            )
        wanted = [band for band in range(1, dataset.count + 1) if band != colours.get(ColorInterp.alpha)]
    types = {dataset.dtypes[band - 1] for band in wanted if band}
    if len(types) > 1 or "complex" in next(iter(types)):
        raise SceneError(
            "the channels differ in type or are complex", where=name, got=", ".join(sorted(types))
        )
    red, green, blue = (int(band) for band in wanted if band)
    return red, green, blue


def _mask(
    dataset: rasterio.DatasetReader, rgb: tuple[int, ...]
) -> Literal["alpha", "dataset", "nodata", "none"]:
    flags = {flag for band in rgb for flag in dataset.mask_flag_enums[band - 1]}
    if _alpha(dataset) is not None:
        return "alpha"
    if MaskFlags.per_dataset in flags and MaskFlags.nodata not in flags:
        return "dataset"
    return "nodata" if any(dataset.nodatavals[band - 1] is not None for band in rgb) else "none"


def _alpha(dataset: rasterio.DatasetReader) -> int | None:
    """The 1-based band that holds alpha."""
    colours = dataset.colorinterp
    return colours.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in colours else None


def _at(window: Window) -> rasterio.windows.Window:
    return rasterio.windows.Window(window.col, window.row, window.width, window.height)


def _of(values: tuple[float, ...], channels: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(float(values[band - 1]) for band in channels)


def open_scene(
    path: str | Path,
    *,
    radiometry: str | None = None,
    nodata_rule: NodataRule = "all",
    channels: tuple[int, int, int] | None = None,
    chunk: int = 1024,
) -> xr.DataArray:
    """The scene as a lazy, dask-chunked DataArray ``(band, y, x)``, float32 reflectance with its CRS.

    Invalid pixels are NaN. ``attrs["source"]`` names the file and its radiometry. The full geotransform is
    always there, x and y coordinates if the grid is axis-aligned.

    Raises
    ------
    SceneError : as in ``open_source``.
    """
    import dask.array as da
    import rioxarray  # noqa: F401  (adds the .rio accessor)
    import xarray as xr

    source = open_source(path, radiometry=radiometry, nodata_rule=nodata_rule, channels=channels)
    rows, cols = source.grid.shape

    def block(block_info: dict[object, dict[str, list[tuple[int, int]]]]) -> NDArray[np.float32]:
        (_, _), (row, row_stop), (col, col_stop) = block_info[None]["array-location"]
        return source.read(Window(row, col, row_stop - row, col_stop - col))[0]

    chunks = ((3,), _chunks(rows, chunk), _chunks(cols, chunk))
    # Without meta, map_blocks would call the reader on an empty window to find its type.
    data = da.map_blocks(  # type: ignore[no-untyped-call]
        block, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    scene = xr.DataArray(
        data,
        dims=("band", "y", "x"),
        coords={"band": ["red", "green", "blue"], **axis_coordinates(source.grid)},
        name="rgb",
        attrs={"units": "1", "long_name": "reflectance", "source": redact_url(source.path),
               "radiometry": source.radiometry.kind},
    )  # fmt: skip
    placed: xr.DataArray = scene.rio.write_crs(source.grid.crs_wkt)
    placed = placed.rio.write_transform(source.grid.transform)
    return placed


def tiles(scene: xr.DataArray, *, tile: int = 256, halo: int = 32) -> Iterator[tuple[Tile, xr.DataArray]]:
    """The overlapping chunks of a scene, each with its tile: lazy selections of ``(band, y, x)``.

    They are the same windows that the network gets, mirrored at the scene's border.

    Raises
    ------
    UsageError : the halo is too large for the tile.
    """
    rows, cols = scene.sizes["y"], scene.sizes["x"]
    for each in Tiling((rows, cols), tile, halo).tiles():
        window = each.window
        if Window(0, 0, rows, cols).contains(window):
            yield each, scene.isel(y=window.slices[0], x=window.slices[1])
        else:
            at_rows = reflected(window.row, window.row_stop, rows)
            at_cols = reflected(window.col, window.col_stop, cols)
            yield each, scene.isel(y=at_rows, x=at_cols)


def axis_coordinates(grid: Grid) -> dict[str, NDArray[np.float64]]:
    """Pixel-centre coordinates y (rows,) and x (columns,) of an axis-aligned grid; empty if rotated."""
    if not grid.is_axis_aligned:
        return {}
    rows, cols = grid.shape
    t = grid.transform
    centres = [np.arange(size, dtype=np.float64) + 0.5 for size in (rows, cols)]
    return {"y": t.f + t.e * centres[0], "x": t.c + t.a * centres[1]}


def _chunks(size: int, chunk: int) -> tuple[int, ...]:
    return tuple(min(chunk, size - start) for start in range(0, size, chunk))
