"""Reading a scene that is one file: windows of reflectance and validity."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags

from spectile.catalog.choices import NodataRule
from spectile.catalog.errors import BlockError, SceneError
from spectile.catalog.inputs import Raster
from spectile.pipeline.files.opening import (
    first_line,
    gdal_errors,
    is_gdal_error,
    open_raster,
)
from spectile.pipeline.files.remote import RemoteFile, reading
from spectile.pipeline.geometry.clip import Clip
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.tiling import reflected
from spectile.pipeline.scene.radiometry import Radiometry

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
    feeds: tuple[str, ...] = ()
    """Each channel of the model and the band that feeds it, for people."""
    clip: Clip | None = None
    """The polygon outside of which no pixel is valid."""
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


def _at(window: Window) -> rasterio.windows.Window:
    return rasterio.windows.Window(window.col, window.row, window.width, window.height)
