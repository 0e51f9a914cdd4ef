"""A scene of several files: bands of one place, maybe of several resolutions, read as one raster."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from spectile.catalog.choices import NodataRule
from spectile.catalog.errors import SceneError
from spectile.catalog.inputs import Raster
from spectile.pipeline.geometry.clip import Clip
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.placing import Placement
from spectile.pipeline.geometry.tiling import reflected
from spectile.pipeline.scene.bands import Chosen, FileBand
from spectile.pipeline.scene.file import open_file
from spectile.pipeline.scene.parts import Part
from spectile.pipeline.scene.placed import read_placed
from spectile.pipeline.scene.radiometry import Radiometry
from spectile.pipeline.scene.raster import SceneSource

CELL = 512
"""Rows and columns that are resampled at once: it takes some 100 bytes a pixel beside the result."""


@dataclass(frozen=True)
class StackSource:
    """Bands of several files that can be read by window, as one file can.

    A pixel is valid where it is valid in every file. Coarser files are resampled bilinearly to the finest
    grid.
    """

    path: str
    """The folder or the item."""
    grid: Grid
    """The finest grid of its files."""
    files: tuple[SceneSource, ...]
    """Its files."""
    places: tuple[tuple[int, ...], ...]
    """The channels that each file fills."""
    channels: tuple[int, ...]
    """The numbers of its bands in the scene, in the order of the model's channels."""
    feeds: tuple[str, ...] = ()
    """Each channel of the model and the band that feeds it, for people."""
    notices: tuple[str, ...] = ()
    """Notices for the user."""
    known_tags: tuple[tuple[str, str], ...] = ()
    """What is known beside the files of when it was taken."""
    clip: Clip | None = None
    """The polygon outside of which no pixel is valid."""

    def read(self, window: Window) -> Raster:
        """Reflectance (C, h, w) float32, NaN where not valid, and validity (h, w) bool of a window.

        The window may reach beyond the scene, which is mirrored there.

        Raises
        ------
        BlockError : a file cannot be read there.
        """
        rows = reflected(window.row, window.row_stop, self.grid.shape[0])
        cols = reflected(window.col, window.col_stop, self.grid.shape[1])
        held = Window(int(rows.min()), int(cols.min()), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)
        values = np.empty((len(self.channels), *held.shape), dtype=np.float32)
        valid = np.ones(held.shape, dtype=bool)
        for file, places, placement in zip(self.files, self.places, self._placements, strict=True):
            if placement is None:
                part = file.read(held)
                values[list(places)] = part.values
                valid &= part.valid
                continue
            for cell in _cells(held):
                at = cell.relative_to(held).slices
                placed = read_placed(file, placement, cell, resampling="bilinear")
                if placed is None:
                    valid[at] = False
                    continue
                for place, channel in zip(places, placed.values, strict=True):
                    values[(place, *at)] = channel
                valid[at] &= placed.valid
        if self.clip is not None:
            valid &= self.clip.inside(held)
        values[:, ~valid] = np.nan
        if held != window:
            at_rows, at_cols = rows - held.row, cols - held.col
            values, valid = values[:, at_rows[:, None], at_cols], valid[at_rows[:, None], at_cols]
        return Raster(values, valid)

    def read_valid(self, window: Window) -> NDArray[np.bool_]:
        """Validity (h, w) bool of a window inside the scene, as in ``read``.

        Raises
        ------
        BlockError : a file cannot be read there.
        """
        return self.read(window).valid

    @cached_property
    def _placements(self) -> tuple[Placement | None, ...]:
        """Each file's place on the grid; None of files that are on it."""
        return tuple(
            None if _same(file.grid, self.grid) else Placement(self.grid, file.grid) for file in self.files
        )

    def _by_channel(self, values: Sequence[Sequence[float | None]]) -> tuple[float | None, ...]:
        """Values of the files' channels in the order of the model's."""
        known = {
            place: value
            for places, own in zip(self.places, values, strict=True)
            for place, value in zip(places, own, strict=True)
        }
        return tuple(known[at] for at in range(len(self.channels)))

    @property
    def ceiling(self) -> NDArray[np.float32] | None:
        """(C,) reflectance of the largest number of each channel's data type; None for floats."""
        of_files = [file.ceiling for file in self.files]
        known = [each.tolist() for each in of_files if each is not None]
        return np.array(self._by_channel(known), np.float32) if len(known) == len(self.files) else None

    @property
    def radiometry(self) -> Radiometry:
        """What its numbers mean."""
        kinds = {file.radiometry.kind for file in self.files}
        offset = self._by_channel([file.radiometry.offset for file in self.files])
        scale = self._by_channel([file.radiometry.scale for file in self.files])
        return Radiometry(
            kinds.pop() if len(kinds) == 1 else "reflectance",
            tuple(value or 0.0 for value in offset),
            tuple(value or 0.0 for value in scale),
        )

    @property
    def mask_facts(self) -> dict[str, object]:
        """What decides which pixels are valid, as plain JSON."""
        of_files = [file.mask_facts for file in self.files]
        nodata = self._by_channel([file.nodata or (None,) * len(file.channels) for file in self.files])
        return {
            "mask": [facts["mask"] for facts in of_files], "alpha": [facts["alpha"] for facts in of_files],
            "nodata": of_files[0]["nodata"],
            "nodata_values": [None if value is None else str(value) for value in nodata],
        }  # fmt: skip

    def memory(self) -> int:
        """Bytes that reading takes in addition to the result: a decoded block of each file, and a cell."""
        return sum(file.memory() for file in self.files) + CELL * CELL * 100

    def check_ends(self) -> None:
        """Read the first and the last pixel of each file.

        Raises
        ------
        SceneError : neither can be read.
        """
        for file in self.files:
            file.check_ends()

    def tags(self) -> dict[str, str]:
        """Metadata that may hold when it was taken."""
        return {**self.files[0].tags(), **dict(self.known_tags)}

    def identity(self, *, checksum: bool = False) -> dict[str, object]:
        """The identity of the scene as plain JSON: the sha256 of its files' sha256, or what each URL says.

        Parameters
        ----------
        checksum : as in ``SceneSource.identity``.

        Raises
        ------
        SceneError : a server gives no ETag, or a file cannot be read.
        """
        of_files = [file.identity(checksum=checksum) for file in self.files]
        if any("sha256" not in each for each in of_files):
            return {"files": of_files}
        text = "".join(str(each["sha256"]) for each in of_files)
        return {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def open_stack(
    path: str,
    parts: Sequence[Part],
    chosen: Chosen,
    *,
    tags: Mapping[str, str],
    notices: Sequence[str],
    radiometry: str | None,
    nodata_rule: NodataRule,
    allow_private: bool,
) -> StackSource:
    """The source of the bands that are chosen of a scene of several files; no pixel is read.

    Raises
    ------
    SceneError : a file cannot be used, as in ``open_file``, or lies in another CRS.
    """
    by_number = {part.band.number: part for part in parts}
    wanted = [by_number[band.number] for band in chosen.bands]
    files, places = [], []
    for place in dict.fromkeys(part.place for part in wanted):
        at = tuple(i for i, part in enumerate(wanted) if part.place == place)
        own = [wanted[i] for i in at]
        files.append(
            open_file(
                place,
                partial(_own_bands, own, path),
                pictures=False,
                stated=[part.stated for part in own],
                radiometry=radiometry,
                nodata_rule=nodata_rule,
                listed=True,
                allow_private=allow_private,
            )
        )
        places.append(at)
    finest = min(files, key=lambda file: abs(file.grid.transform.determinant)).grid
    crs = CRS.from_wkt(finest.crs_wkt)
    for file in files:
        if CRS.from_wkt(file.grid.crs_wkt) != crs:
            raise SceneError(
                "the files of the scene are in several CRSs", where=path, got=Path(file.path).name
            )
    said = dict.fromkeys([*notices, *chosen.notices, *(line for file in files for line in file.notices)])
    return StackSource(
        path, finest, tuple(files), tuple(places), tuple(part.band.number for part in wanted), chosen.feeds,
        tuple(said), tuple(tags.items()),
    )  # fmt: skip


def _own_bands(own: Sequence[Part], where: str, bands: Sequence[FileBand]) -> Chosen:
    """The bands of a file that parts of a scene are."""
    count = len([band for band in bands if not band.alpha])
    if len(own) == 1 and own[0].index == 1 and count != 1:
        raise SceneError(
            "a file of the scene has several bands", where=where, got=f"{Path(own[0].place).name}: {count}",
            expected="1",
        )  # fmt: skip
    return Chosen(tuple(replace(part.band, number=part.index) for part in own), (), ())


def _same(one: Grid, other: Grid) -> bool:
    return one.shape == other.shape and one.transform.almost_equals(other.transform, precision=1e-9)


def _cells(window: Window) -> list[Window]:
    return [
        Window(row, col, CELL, CELL).intersection(window)
        for row in range(window.row, window.row_stop, CELL)
        for col in range(window.col, window.col_stop, CELL)
    ]
