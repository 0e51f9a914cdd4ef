"""Several overlapping scenes as one: a source that reads any window of a flight line's grid.

RGB is resampled and combined before the network. Spectra of different scenes are never averaged: if two
scenes are misregistered by a pixel, that would mix the spectra of neighbouring places on the ground.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.choices import Combine, Frame, NodataRule, Resampling
from spectile.catalog.errors import SceneError
from spectile.catalog.inputs import RGB_SCENE, InputSpec, Raster
from spectile.catalog.stac.scenes import NamedScene
from spectile.pipeline.geometry.clip import Clip
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.tiling import Tiling, reflected
from spectile.pipeline.line.feather import take_footprint
from spectile.pipeline.line.grid import Bounds, choose_grid
from spectile.pipeline.line.members import Member, open_scenes, place_scene
from spectile.pipeline.plan.plan import SHARD
from spectile.pipeline.plan.shares import Share, shards_met, tiles_met, to_runs
from spectile.pipeline.scene.raster import MOST_HANDLES

CELL = 512
"""Rows and columns that are combined at once, fewer if scenes are much finer. Small windows of a rotated
scene read little more than is used, and need little memory."""


@dataclass(frozen=True)
class LineSource:
    """A flight line that can be read by window, as a single scene can."""

    grid: Grid
    """The line's grid."""
    members: tuple[Member, ...]
    """Its scenes, in order."""
    combine: Combine = "feather"
    """How scenes are combined: the first, the most nadir, or a weighted mean."""
    resampling: Resampling = "bilinear"
    """The interpolation between the pixels of a scene."""
    gain: float | None = None
    """Factor on linear display values, fixed for the whole line; None if no scene is a display picture."""
    notices: tuple[str, ...] = ()
    """Notices for the user about how the scenes are interpreted."""
    clip: Clip | None = None
    """The polygon outside of which no pixel is valid."""

    def read(self, window: Window) -> Raster:
        """Reflectance (C, h, w) float32, NaN where not valid, and validity (h, w) bool of a window.

        The window may reach beyond the grid, which is mirrored there. A pixel's value depends on its position
        only.

        Raises
        ------
        BlockError : a file cannot be read there.
        """
        return self.read_with_index(window)[0]

    def read_with_index(self, window: Window) -> tuple[Raster, NDArray[np.uint16]]:
        """Reflectance as in ``read``, and the number of the scene with the largest weight.

        The number is (h, w) uint16, from 1, and 0 where no scene is valid.

        Raises
        ------
        BlockError : a file cannot be read there.
        """
        rows = reflected(window.row, window.row_stop, self.grid.shape[0])
        cols = reflected(window.col, window.col_stop, self.grid.shape[1])
        inner = Window(int(rows.min()), int(cols.min()), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)
        rgb, index = self._combined(inner)
        if inner != window:
            at_rows, at_cols = rows - inner.row, cols - inner.col
            rgb, index = rgb[:, at_rows[:, None], at_cols], index[at_rows[:, None], at_cols]
        return Raster(rgb, index > 0), index

    @property
    def ceiling(self) -> NDArray[np.float32] | None:
        """(C,) reflectance of the largest number of the scenes' data types; None if they differ."""
        first, *rest = (member.source.ceiling for member in self.members)
        same = first is not None and all(other is not None and (other == first).all() for other in rest)
        return first if same else None

    def _combined(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """Values (C, h, w) and the index of a window of the grid."""
        rgb = np.empty((len(self.members[0].source.channels), *window.shape), dtype=np.float32)
        index = np.zeros(window.shape, dtype=np.uint16)
        side = max(16, CELL // max(member.factor for member in self.members))
        for row in range(window.row, window.row_stop, side):
            for col in range(window.col, window.col_stop, side):
                cell = Window(row, col, side, side).intersection(window)
                place = cell.relative_to(window).slices
                self._fill(cell, rgb[(slice(None), *place)], index[place])
        if self.clip is not None:
            outside = ~self.clip.inside(window)
            rgb[:, outside], index[outside] = np.nan, 0
        return rgb, index

    def _fill(self, at: Window, rgb: NDArray[np.float32], index: NDArray[np.uint16]) -> None:
        """Write a cell's RGB and index into the output arrays."""
        mean = np.zeros_like(rgb)
        total, most = np.zeros(at.shape, dtype=np.float32), np.zeros(at.shape, dtype=np.float32)
        for number, member in enumerate(self.members, 1):
            part = member.extent.intersection(at)
            piece = member.read(part, self.combine, self.resampling) if part.size else None
            if piece is None:
                continue
            colours, weight = piece
            place = part.relative_to(at).slices
            ahead = weight > most[place]
            index[place][ahead] = number
            most[place] = np.maximum(most[place], weight)
            total[place] += weight
            # A running mean: where there is only one scene, its values stay the same to the last bit.
            shared = weight / np.where(total[place] > 0, total[place], np.float32(1))
            blended = mean[(slice(None), *place)]
            blended += (shared if self.combine == "feather" else ahead) * (colours - blended)
        rgb[:] = np.where(index > 0, mean, np.float32(np.nan))

    @property
    def feeds(self) -> tuple[str, ...]:
        """Each channel of the model and the band of the scenes that feeds it, for people."""
        first, *others = (member.source.feeds for member in self.members)
        if all(feeds == first for feeds in others):
            return first
        return tuple(f"{member.name}: {', '.join(member.source.feeds)}" for member in self.members)

    def settings(self) -> dict[str, object]:
        """The settings that decide how scenes are combined, as plain JSON values."""
        return {"combine": self.combine, "resampling": self.resampling, "gain": self.gain}

    def shares(
        self, tiling: Tiling, window: Window, *, identified: bool = True, checksum: bool = False
    ) -> tuple[Share, ...]:
        """The shards and tiles of a cube of a window that each scene can change.

        Parameters
        ----------
        identified : hash the files, and include every fact that can change a value.
        checksum : as in ``SceneSource.identity``.
        """
        shares = []
        for member in self.members:
            facts = member.facts(checksum=checksum) if identified else {"name": member.name}
            boxes = member.boxes()
            shards = to_runs(shards_met(boxes, window, SHARD))
            shares.append(Share(facts, shards, to_runs(tiles_met(boxes, tiling))))
        return tuple(shares)

    def memory(self) -> int:
        """Bytes of the scenes' footprints, and of the blocks of the files that are open at a time."""
        blocks = sorted((member.source.memory() for member in self.members), reverse=True)
        return sum(blocks[:MOST_HANDLES]) + sum(
            2 * member.footprint.some.nbytes + (0 if member.distance is None else member.distance.nbytes)
            for member in self.members
        )


def open_line(
    scenes: Sequence[NamedScene],
    spec: InputSpec = RGB_SCENE,
    *,
    grid: Grid | None = None,
    crs: str | None = None,
    resolution: float | None = None,
    frame: Frame = "north-up",
    extent: Bounds | None = None,
    combine: Combine = "feather",
    resampling: Resampling = "bilinear",
    radiometry: Sequence[str] = (),
    nodata_rule: NodataRule = "all",
    sensor: str | None = None,
    bands: Sequence[int | str] | None = None,
    gain: float | None = None,
    measure: bool = True,
    allow_vrt: bool = False,
    allow_private: bool = False,
) -> LineSource:
    """The source of a flight line. Reads masks, and colours only to measure them.

    Parameters
    ----------
    grid : the line's grid if it is fixed already; otherwise the next four choose it, see ``choose_grid``.
    spec, radiometry, nodata_rule, sensor, bands, gain, measure, allow_vrt, allow_private : as in
        ``open_scenes``.

    Raises
    ------
    SceneError, UsageError : as in ``open_scenes``, ``choose_grid`` and ``place_scene``.
    """
    sources, gain = open_scenes(
        scenes, spec, radiometry=radiometry, nodata_rule=nodata_rule, sensor=sensor, bands=bands, gain=gain,
        measure=measure, allow_vrt=allow_vrt, allow_private=allow_private,
    )  # fmt: skip
    footprints = [take_footprint(source) for source in sources]
    for scene, footprint in zip(scenes, footprints, strict=True):
        if not footprint.some.any():
            raise SceneError(
                "the scene has no valid pixel", where=scene.name, remedy="check its nodata value"
            )
    if grid is None:
        placed = [(source.grid, footprint) for source, footprint in zip(sources, footprints, strict=True)]
        grid = choose_grid(placed, crs=crs, resolution=resolution, frame=frame, extent=extent)
    members = tuple(
        place_scene(scene.name, source, footprint, grid)
        for scene, source, footprint in zip(scenes, sources, footprints, strict=True)
    )
    return LineSource(grid, members, combine, resampling, gain, _notices(members, grid))


def _notices(members: Sequence[Member], grid: Grid) -> tuple[str, ...]:
    kinds: dict[str, list[str]] = {}  # by what follows the scene's name
    for notice in (notice for member in members for notice in member.source.notices):
        kinds.setdefault(notice.partition(": ")[2], []).append(notice)
    notices = [
        first if not more else f"{first} (and of {len(more)} more scenes)" for first, *more in kinds.values()
    ]
    cut = [member.name for member in members if not grid.window.contains(member.extent)]
    if cut:
        notices.append(f"cut at the line's extent: {', '.join(cut)}")
    return tuple(notices)
