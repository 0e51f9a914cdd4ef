"""The scenes of a flight line: opened, placed on the line's grid, and read by window of the line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.choices import Combine, NodataRule, Resampling
from spectile.catalog.errors import SceneError, UsageError
from spectile.catalog.inputs import RGB_SCENE, InputSpec
from spectile.catalog.stac.scenes import NamedScene
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.placing import Placement
from spectile.pipeline.line.feather import (
    Footprint,
    axis_distance,
    edge_distance,
    feather_weight,
    take_footprint,
)
from spectile.pipeline.scene.placed import centres, read_placed
from spectile.pipeline.scene.radiometry import common_gain, parse_radiometry
from spectile.pipeline.scene.raster import SceneSource
from spectile.pipeline.scene.source import Scene, open_source

MOST_SCENES = 65534
"""Most scenes that the source index can number."""


@dataclass(frozen=True)
class Member:
    """One scene of a line, placed on its grid."""

    name: str
    """Its name in the line."""
    source: Scene
    """The source that reads it."""
    footprint: Footprint
    """Its valid area."""
    placement: Placement
    """Its position on the line's grid."""
    distance: NDArray[np.float32] | None
    """Distance of the footprint's cells to the edge, in pixels of the line; None if all of it is valid."""
    axis: tuple[tuple[float, float], tuple[float, float]]
    """Ends of its centre line, (row, column) on the line; the same point twice for a square."""
    factor: int
    """Pixels of the scene along a side that are averaged before resampling, for a much coarser line."""
    extent: Window
    """The pixels of the line that it can cover; may reach beyond the grid."""

    def boxes(self) -> NDArray[np.int64]:
        """(4, N) first and last row, first and last column on the line of each cell with valid pixels."""
        return _boxes(self.footprint, self.placement)

    def weight(
        self, rows: NDArray[np.float64], cols: NDArray[np.float64], at: Window, combine: Combine
    ) -> NDArray[np.float32]:
        """Weights of the pixels of a window of the line, (h, w) float32 above zero.

        For ``combine`` ``first`` or ``nadir`` only the order of the weights matters.

        Parameters
        ----------
        rows, cols : (h, w) float64, positions of the pixels on the scene.
        """
        if combine == "first":
            return np.ones(rows.shape, dtype=np.float32)
        if combine == "nadir":
            return (1 / (1 + axis_distance(*centres(at), self.axis))).astype(np.float32)
        return feather_weight(
            rows, cols, footprint=self.footprint, distance=self.distance, pixel=self.placement.pixel
        )

    def read(
        self, at: Window, combine: Combine, resampling: Resampling
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Values (C, h, w) and weight (h, w), float32, on a window of the line; None if it does not reach it.

        Both are zero where the scene is not valid.

        Raises
        ------
        BlockError : the file cannot be read there.
        """
        placed = read_placed(self.source, self.placement, at, resampling=resampling, factor=self.factor)
        if placed is None:
            return None
        rgb, shown, rows, cols = placed
        return rgb, np.where(shown, self.weight(rows, cols, at, combine), np.float32(0))

    def facts(self, *, checksum: bool) -> dict[str, object]:
        """The identity of the scene and of its pixels, as plain JSON values.

        Parameters
        ----------
        checksum : as in ``SceneSource.identity``.
        """
        source = self.source
        return {
            "name": self.name,
            **source.identity(checksum=checksum),
            "channels": list(source.channels),
            **source.mask_facts,
            "radiometry": source.radiometry.to_json(),
        }


def place_scene(name: str, source: Scene, footprint: Footprint, grid: Grid) -> Member:
    """A scene on a line's grid.

    Raises
    ------
    SceneError : no part of it lies on the grid.
    """
    placement = Placement(grid, source.grid)
    # A cell must not divide a group of pixels that is averaged into one.
    factor = max(1, math.floor(1 / max(placement.pixel) + 1e-6))
    if footprint.step % factor:
        footprint = take_footprint(source, multiple=factor)
    first, last, start, stop = _boxes(footprint, placement)
    met = (first <= last) & (start <= stop)
    if met.any():
        row, col = int(first[met].min()), int(start[met].min())
        extent = Window(row, col, int(last[met].max()) + 1 - row, int(stop[met].max()) + 1 - col)
    if not met.any() or not extent.intersection(grid.window).size:
        raise SceneError(
            "the scene does not overlap the line's extent",
            where=name,
            expected="pixels within " + ",".join(f"{value:.10g}" for value in grid.bounds),
            remedy="leave it out, or start a new line with a larger --extent",
        )
    distance = edge_distance(footprint, placement.pixel)
    return Member(name, source, footprint, placement, distance, _axis(footprint, placement), factor, extent)


def _boxes(footprint: Footprint, placement: Placement) -> NDArray[np.int64]:
    """``Member.boxes``: the pixels whose centres can lie in each cell; empty if last < first."""
    rows, cols = footprint.corners()
    at = placement.to_line(*np.meshgrid(rows, cols, indexing="ij"))
    # A pixel's centre on the edge of a cell must count in spite of rounding errors.
    slack = 1e-6 if placement.same_crs else 1e-2
    ends = []
    for points in at:
        corners = (points[:-1, :-1], points[1:, :-1], points[:-1, 1:], points[1:, 1:])
        low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
        ends += [np.ceil(low[footprint.some] - 0.5 - slack), np.floor(high[footprint.some] - 0.5 + slack)]
    boxes = np.stack(ends)
    return boxes[:, np.isfinite(boxes).all(axis=0)].astype(np.int64)


def _axis(footprint: Footprint, placement: Placement) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ends of the centre line of the smallest rectangle around the valid area, for ``Member.axis``.

    It ends half a width before the rectangle's ends, so for a square it is the centre.
    """
    from odc.geo.geom import multipoint

    rows, cols = placement.to_line(*footprint.outline())
    points = [
        (float(row), float(col)) for row, col in zip(rows, cols, strict=True) if math.isfinite(row + col)
    ]
    ring = np.array(multipoint(points, crs=None).geom.minimum_rotated_rectangle.exterior.coords)
    middle, sides = (ring[0] + ring[2]) / 2, (ring[1] - ring[0], ring[2] - ring[1])
    short, long = sorted(sides, key=lambda side: float(np.hypot(*side)))
    half = long / 2 * (1 - np.hypot(*short) / np.hypot(*long))
    (row, col), (row_end, col_end) = (middle - half).tolist(), (middle + half).tolist()
    return (row, col), (row_end, col_end)


def open_scenes(
    scenes: Sequence[NamedScene],
    spec: InputSpec = RGB_SCENE,
    *,
    radiometry: Sequence[str] = (),
    nodata_rule: NodataRule = "all",
    sensor: str | None = None,
    bands: Sequence[int | str] | None = None,
    gain: float | None = None,
    measure: bool = True,
    allow_vrt: bool = False,
    allow_private: bool = False,
) -> tuple[list[Scene], float | None]:
    """The sources of a line's scenes, and the common gain of the display pictures among them.

    Parameters
    ----------
    radiometry : ``KIND`` for all scenes, ``NAME=KIND`` for one.
    gain : the line's gain if it is fixed already; otherwise it is measured on all display pictures together.
    spec, sensor, bands, measure, allow_vrt, allow_private : as in ``open_source``.

    Raises
    ------
    SceneError : as in ``open_source``; or display pictures together with scenes in reflectance.
    UsageError : a radiometry for an unknown scene.
    """
    if len(scenes) > MOST_SCENES:
        raise UsageError("too many scenes", got=len(scenes), expected=f"{MOST_SCENES} at most")
    common, own = _declared(radiometry, {scene.name for scene in scenes})
    sources = [
        open_source(
            scene.place, spec, radiometry=own.get(scene.name, common), nodata_rule=nodata_rule,
            sensor=sensor, bands=bands, measure=measure, allow_vrt=allow_vrt, listed=scene.listed,
            allow_private=allow_private,
        )
        for scene in scenes
    ]  # fmt: skip
    # Only single files can be display pictures.
    display = {
        i: source
        for i, source in enumerate(sources)
        if isinstance(source, SceneSource) and source.radiometry.kind == "display"
    }
    for i in display:
        if len(display) < len(sources) and scenes[i].name not in own:
            raise SceneError(
                "display pictures and scenes in reflectance cannot be combined as they are",
                where=scenes[i].name,
                remedy=f"declare each, e.g. --radiometry {scenes[i].name}=display:GAIN",
            )
    ungained = [i for i in display if not _has_gain(own.get(scenes[i].name, common))]
    if ungained and measure and gain is None:
        gain = common_gain([(*display[i].survey(), display[i].radiometry) for i in ungained])
    for i in ungained:
        sources[i] = replace(display[i], radiometry=replace(display[i].radiometry, gain=gain))
    return sources, gain


def _declared(options: Sequence[str], names: set[str]) -> tuple[str | None, dict[str, str]]:
    common, own = None, {}
    for option in options:
        name, mark, kind = option.rpartition("=")
        parse_radiometry(kind)  # refuses unknown kinds before a file is opened
        if not mark:
            if common is not None:
                raise UsageError("two radiometries for all scenes", got=f"--radiometry {common}, {kind}")
            common = kind
        elif name in names:
            own[name] = kind
        else:
            raise UsageError(
                "no such scene", got=f"--radiometry {option}", expected=", ".join(sorted(names)[:5])
            )
    return common, own


def _has_gain(option: str | None) -> bool:
    return option is not None and bool(parse_radiometry(option)[1])
