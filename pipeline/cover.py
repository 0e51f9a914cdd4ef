"""What lies at each pixel of a simulated landscape: layers of materials, and their height.

The layers are painted bottom up, each with soft edges one pixel wide, which is linear mixing by area.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.landscape import (
    BARE,
    COMMERCIAL,
    FIELD,
    FOREST,
    MEADOW,
    ORCHARD,
    PARK,
    RESIDENTIAL,
    Array,
    Index,
    Landscape,
    Parcels,
    octaves,
)

Position = NDArray[np.float64]

MAX_HEIGHT_M = 14.0
"""Nothing is taller, so that shadows have a known reach."""


@dataclass
class Cover:
    """Layers of material over a window, bottom first, and the height of the surface."""

    height: Array
    """(h, w) float32, metres above the ground."""
    gain: Array
    """(h, w) float32, small variations of brightness about 1 that roughness makes."""
    layers: list[tuple[Array, Index, Array]] = field(default_factory=list)
    """(alpha, material, state) of each layer, (h, w): the share it covers of what lies below it, the
    material's number, and its state in 0 to 1."""

    def paint(self, alpha: Array, material: Index, state: Array, height: Array | float | None = None) -> None:
        """Add a layer; where it covers at least half of a pixel it sets the height, if one is given."""
        if not alpha.any():
            return
        self.layers.append((alpha, material, state))
        if height is not None:
            np.copyto(self.height, np.float32(1.0) * height, where=alpha >= 0.5)


def _edge(inside_m: Array, pixel_size_m: float) -> Array:
    """The share of a pixel that is covered by what reaches ``inside_m`` metres beyond its centre."""
    return np.clip(inside_m * np.float32(1.0 / pixel_size_m) + np.float32(0.5), 0.0, 1.0)


def _unit(value: Array) -> Array:
    return np.clip(value, 0.0, 1.0)


def _fraction(value: Array) -> Array:
    return value - np.floor(value)


@dataclass(frozen=True)
class Boxes:
    """Rectangles, at most one in each cell of a lattice in the landscape's frame, seen from points."""

    a: Array
    """Position along the rectangle's long side from its centre, metres."""
    b: Array
    """Position along its short side, metres."""
    half_a: Array
    """Half its length, metres."""
    half_b: Array
    """Half its width, metres."""
    present: NDArray[np.bool_]
    """Whether there is one."""
    cell: tuple[Index, Index]
    """The lattice cell of each point."""

    @property
    def inside(self) -> Array:
        """Metres inside the rectangle; negative outside."""
        reach = np.minimum(self.half_a - np.abs(self.a), self.half_b - np.abs(self.b))
        return np.where(self.present, reach, np.float32(-99.0))


def _boxes(
    land: Landscape,
    u: Position,
    v: Position,
    *,
    purpose: int,
    size: tuple[float, float],
    half: tuple[tuple[float, float], tuple[float, float]],
    kind: int,
    share: float,
) -> Boxes:
    """Buildings of parcels of one ``kind``: in a ``share`` of the cells of ``size`` metres, off the roads."""
    i, j = np.floor(u / size[0]).astype(np.int64), np.floor(v / size[1]).astype(np.int64)
    i0, j0 = int(i.min()), int(j.min())
    ci, cj = np.meshgrid(np.arange(i0, int(i.max()) + 1), np.arange(j0, int(j.max()) + 1), indexing="ij")
    flat = (i - i0) * ci.shape[1] + (j - j0)

    def pick(n: int) -> Array:
        return land.pick(purpose + n, ci, cj)

    half_a = half[0][0] + (half[0][1] - half[0][0]) * pick(0)
    half_b = half[1][0] + (half[1][1] - half[1][0]) * pick(1)
    turned = pick(2) < 0.5
    reach_u, reach_v = np.where(turned, half_a, half_b), np.where(turned, half_b, half_a)
    centre_u = (ci + 0.5) * size[0] + (pick(3) - 0.5) * np.maximum(size[0] - 2.3 * reach_u, 0.0)
    centre_v = (cj + 0.5) * size[1] + (pick(4) - 0.5) * np.maximum(size[1] - 2.3 * reach_v, 0.0)
    parcels = land.parcels(centre_u, centre_v)
    clear = (parcels.row_distance > reach_u + 8.0) & (parcels.column_distance > reach_v + 7.0)
    here = clear & (land.kind(parcels.row, parcels.column) == kind) & (pick(5) < share)
    here &= land.shore(*land.unframe(centre_u, centre_v)) < -(np.maximum(reach_u, reach_v) + 6.0)
    du = (u - centre_u.ravel()[flat]).astype(np.float32)
    dv = (v - centre_v.ravel()[flat]).astype(np.float32)
    tilt = (np.float32(0.16) * (pick(6) - np.float32(0.5))).ravel()[flat]
    du, dv = du + tilt * dv, dv - tilt * du
    along = turned.ravel()[flat]
    return Boxes(
        np.where(along, du, dv),
        np.where(along, dv, du),
        half_a.ravel()[flat],
        half_b.ravel()[flat],
        here.ravel()[flat],
        (i, j),
    )


def _houses(land: Landscape, u: Position, v: Position) -> Boxes:
    return _boxes(
        land,
        u,
        v,
        purpose=100,
        size=(24.0, 19.0),
        half=((4.5, 7.5), (3.5, 5.0)),
        kind=RESIDENTIAL,
        share=0.88,
    )


def _halls(land: Landscape, u: Position, v: Position) -> Boxes:
    return _boxes(
        land,
        u,
        v,
        purpose=120,
        size=(48.0, 58.0),
        half=((12.0, 21.0), (8.0, 15.0)),
        kind=COMMERCIAL,
        share=0.8,
    )


class Painter:
    """Paints the cover of one window of a landscape."""

    def __init__(
        self,
        land: Landscape,
        pools: Mapping[str, Index],
        y: Position,
        x: Position,
        pixel_size_m: float,
    ) -> None:
        self.land, self.pools, self.y, self.x, self.px = land, pools, y, x, pixel_size_m
        seed = land.seed
        self.coarse = octaves((seed, 200), y, x, 70.0, count=4)
        self.fine = octaves((seed, 201), y, x, 5.0, count=4)
        self.patchy = octaves((seed, 202), y, x, 17.0, count=3)
        self.u, self.v = land.frame(y, x)
        self.parcels = land.parcels(self.u, self.v)
        self.kind = self._by_parcel(land.kind)
        self.shore = land.shore(y, x)
        self.houses, self.halls = _houses(land, self.u, self.v), _halls(land, self.u, self.v)
        self.built = np.maximum(self.houses.inside, self.halls.inside)

    def cover(self) -> Cover:
        """The cover of the window."""
        shape = self.coarse.shape
        gain = 1.0 + np.float32(0.07) * self.coarse + np.float32(0.16) * self.fine
        cover = Cover(np.zeros(shape, np.float32), gain.astype(np.float32))
        self._ground(cover)
        self._rows(cover)
        self._gardens(cover)
        self._water(cover)
        self._roads(cover)
        self._parking(cover)
        self._roofs(cover)
        self._trees(cover)
        return cover

    def _by_parcel(self, attribute: Callable[[Index, Index], NDArray[np.int8]]) -> NDArray[np.int8]:
        """An attribute of parcels at every pixel, computed once a parcel."""
        row, column = self.parcels.row, self.parcels.column
        i0, j0 = int(row.min()), int(column.min())
        i, j = np.meshgrid(
            np.arange(i0, int(row.max()) + 1), np.arange(j0, int(column.max()) + 1), indexing="ij"
        )
        return attribute(i, j)[row - i0, column - j0]

    def _choose(self, family: str, chance: Array) -> Index:
        pool = self.pools[family]
        return pool[(chance * np.float32(pool.size)).astype(np.int64)]

    def _state(self, offset: Array | float, coarse: float, patchy: float, fine: float) -> Array:
        return _unit(
            np.float32(0.5)
            + offset
            + np.float32(coarse) * self.coarse
            + np.float32(patchy) * self.patchy
            + np.float32(fine) * self.fine
        )

    def _ground(self, cover: Cover) -> None:
        """Fields in strips, meadows, forest floor, gardens, yards."""
        land, parcels, kind = self.land, self.parcels, self.kind
        strips = np.float32(1.0) + np.floor(np.float32(3.2) * land.pick(20, parcels.row, parcels.column))
        strips = np.where((kind == FIELD) | (kind == ORCHARD) | (kind == MEADOW), strips, np.float32(1.0))
        position = parcels.along * strips
        self.strip = np.floor(position).astype(np.int64)
        self.strip_key = (parcels.row, parcels.column * 4 + self.strip)
        which = land.pick(21, *self.strip_key)
        chance = land.pick(22, *self.strip_key)
        lot = land.pick(23, *self.houses.cell)
        garden = np.select(
            [lot < 0.8, lot < 0.9],
            [self._choose("grass", _fraction(lot * 31)), self._choose("soil", _fraction(lot * 31))],
            self._choose("paving", _fraction(lot * 31)),
        )
        field = np.select(
            [which < 0.52, which < 0.72],
            [self._choose("crop", chance), self._choose("straw", chance)],
            self._choose("soil", chance),
        )
        floor = self._choose("straw", chance)
        yard = np.where(which < 0.7, self._choose("road", chance), self._choose("paving", chance))
        bare = np.where(which < 0.6, self._choose("soil", chance), self._choose("paving", chance))
        grass = self._choose("grass", chance)
        material = np.select(
            [kind == FIELD, kind == ORCHARD, (kind == MEADOW) | (kind == PARK), kind == FOREST, kind == RESIDENTIAL,
             kind == COMMERCIAL, kind == BARE],
            [field, self._choose("crop", chance), grass, floor, garden, yard, bare],
        )  # fmt: skip
        offset = np.float32(0.35) * (land.pick(24, *self.strip_key) - np.float32(0.5))
        cover.paint(np.ones_like(self.coarse), material, self._state(offset, 0.35, 0.3, 0.25))
        # Strips are divided by a narrow margin of grass.
        to_strip = np.abs(position - np.round(position)) * np.float32(124.0) / np.maximum(strips, 1.0)
        between = (np.round(position) > 0) & (np.round(position) < strips)
        margin = np.where(between, _edge(np.float32(0.7) - to_strip, self.px), np.float32(0.0))
        cover.paint(
            margin,
            self._choose("grass", land.pick(25, parcels.row, parcels.column)),
            self._state(0.0, 0.2, 0.3, 0.3),
        )

    def _rows(self, cover: Cover) -> None:
        """Rows of crops with soil between them, vines with height, and the tracks of tractors."""
        land, kind = self.land, self.kind
        across = np.where(
            land.pick(26, self.parcels.row, self.parcels.column) < 0.5, self.parcels.u, self.parcels.v
        )
        chance = land.pick(27, *self.strip_key)
        period = np.where(kind == ORCHARD, 2.4 + 1.4 * chance, 1.0 + 2.2 * chance).astype(np.float32)
        wave = np.abs(_fraction(across / period) - np.float32(0.5)) * np.float32(2.0)
        fade = _unit(period * np.float32(0.5 / self.px) - np.float32(0.8))
        strength = np.where(
            kind == ORCHARD, np.float32(0.9), np.float32(0.45) * land.pick(28, *self.strip_key)
        )
        gap = _unit((wave - np.float32(0.45)) * np.float32(4.0)) * strength * fade
        wheel = np.abs(
            np.abs(_fraction(across / np.float32(21.0)) * np.float32(21.0) - np.float32(10.5))
            - np.float32(0.9)
        )
        tram = np.float32(0.55) * _edge(np.float32(0.28) - wheel, self.px)
        rows = (kind == ORCHARD) | (kind == FIELD)
        alpha = np.where(
            rows, np.maximum(gap, np.where(kind == FIELD, tram, np.float32(0.0))), np.float32(0.0)
        )
        cover.paint(
            alpha, self._choose("soil", land.pick(29, *self.strip_key)), self._state(0.0, 0.3, 0.2, 0.3)
        )
        vine = (kind == ORCHARD) & (gap < 0.3)
        np.copyto(cover.height, np.float32(1.3) * fade, where=vine)

    def _gardens(self, cover: Cover) -> None:
        """Drives and terraces beside houses."""
        box, land = self.houses, self.land
        size = land.pick(30, *box.cell)
        drive = np.minimum(
            np.float32(2.6) + 3 * size - np.abs(np.abs(box.a) - box.half_a),
            np.float32(1.6) + size - np.abs(box.b),
        )
        alpha = np.where(box.present, _edge(drive, self.px), np.float32(0.0))
        cover.paint(alpha, self._choose("paving", _fraction(size * 17)), self._state(0.0, 0.2, 0.2, 0.3))

    def _water(self, cover: Cover) -> None:
        """Rivers and lakes, with a shore."""
        seed = self.land.seed
        one = np.full(self.shore.shape, np.float32(seed % 97 / 97.0), np.float32)
        beach = _edge(self.shore + np.float32(2.5) + np.float32(2.0) * self.patchy, self.px)
        cover.paint(beach, self._choose("soil", one), self._state(-0.3, 0.2, 0.3, 0.2))
        wet = _edge(self.shore, self.px)
        lake = self.land.pick(
            31,
            np.floor(self.y / 900.0).astype(np.int64) + 0 * self.shore.astype(np.int64),
            np.floor(self.x / 900.0).astype(np.int64) + 0 * self.shore.astype(np.int64),
        )
        cover.paint(wet, self._choose("water", lake), self._state(0.0, 0.6, 0.1, 0.02), 0.0)
        # Water is smooth: its brightness does not vary as that of ground does.
        cover.gain += wet * (np.float32(1.0) + np.float32(0.03) * self.fine - cover.gain)

    def _roads(self, cover: Cover) -> None:
        """Streets with pavements and lines between rows; streets, tracks or margins between columns."""
        land, p = self.land, self.parcels
        main = land.pick(32, p.row_border, 0 * p.row_border)
        half_row = np.where(main < 0.7, np.float32(3.0) + 2 * main, np.float32(1.7)).astype(np.float32)
        border = land.pick(33, p.row, p.column_border)
        town = (self.kind == RESIDENTIAL) | (self.kind == COMMERCIAL) | (self.kind == PARK)
        side = np.where(town, np.float32(2.9), np.where(border < 0.4, np.float32(1.6), np.float32(0.8)))
        paved_row, paved_side = main < 0.7, town
        in_row, in_side = half_row - p.row_distance, side - p.column_distance
        verge = np.maximum(in_row, in_side) + np.where(town, np.float32(1.9), np.float32(1.6))
        edging = np.where(town, self._choose("paving", main), self._choose("grass", border))
        dry = np.float32(1.0) - _edge(self.shore, self.px)
        cover.paint(_edge(verge, self.px) * dry, edging, self._state(0.0, 0.2, 0.25, 0.3), 0.0)
        track = np.where(border < 0.4, self._choose("soil", border), self._choose("grass", border))
        material = np.where(paved_side, self._choose("road", border), track)
        state = self._state(0.0, 0.3, 0.25, 0.2)
        cover.paint(_edge(in_side, self.px) * dry, material, state, 0.0)
        material = np.where(paved_row, self._choose("road", main), self._choose("paving", main))
        # Paved roads cross water on bridges; tracks end at it.
        cover.paint(_edge(in_row, self.px) * np.where(paved_row, np.float32(1.0), dry), material, state, 0.0)
        dash = _fraction(p.v * np.float32(1.0 / 9.0)) < 0.45
        line = np.maximum(
            np.where(dash, np.float32(0.09) - p.row_distance, np.float32(-9.0)),
            np.float32(0.08) - np.abs(in_row - np.float32(0.35)),
        )
        crossing = p.column_distance < side + 1.0
        share = np.float32(min(1.0, 0.18 / self.px)) * _unit(
            line * np.float32(1.0 / self.px) + np.float32(1.0)
        )
        lines = np.where(paved_row & ~crossing & (main < 0.55), share, np.float32(0.0))
        cover.paint(lines, self._choose("marking", main), self._state(0.0, 0.2, 0.2, 0.2))
        self._cars(
            cover,
            half_row - np.float32(1.4) - p.row_distance,
            _fraction(p.v * np.float32(1.0 / 7.5)) * np.float32(7.5) - np.float32(3.75),
            (p.row_border * 2 + (p.row > p.row_border), np.floor(self.v / 7.5).astype(np.int64)),
            paved_row & ~crossing & town, 0.35,
        )  # fmt: skip
        self.street = np.maximum(in_row, np.where(town | (border < 0.4), in_side, np.float32(-99.0)))

    def _cars(
        self,
        cover: Cover,
        across: Array,
        along: Array,
        slot: tuple[Index, Index],
        where: NDArray[np.bool_],
        share: float,
    ) -> None:
        chance = self.land.pick(34, *slot)
        here = where & (chance < share)
        inside = np.minimum(np.float32(0.9) - np.abs(across), np.float32(2.15) - np.abs(along))
        body = np.where(here, _edge(inside, self.px), np.float32(0.0))
        paint = _fraction(chance * np.float32(57.0))
        white = _fraction(chance * np.float32(191.0)) < 0.3
        colour = np.where(white, self._choose("marking", paint), self._choose("paint", paint))
        cover.paint(body, colour, self._state(0.3, 0.0, 0.1, 0.2), 1.3)
        glass = np.where(
            here & (np.abs(np.abs(along) - np.float32(0.95)) < 0.35),
            _edge(inside - np.float32(0.2), self.px),
            np.float32(0.0),
        )
        cover.paint(
            glass * np.float32(0.8), self._choose("road", np.zeros_like(paint)), np.zeros_like(paint), 1.45
        )

    def _parking(self, cover: Cover) -> None:
        """Parking bays on the yards of commercial parcels."""
        p = self.parcels
        place = _fraction(p.u * np.float32(1.0 / 16.0)) * np.float32(16.0)
        second = place > 5.2
        along = np.where(second, place - np.float32(7.8), place - np.float32(2.6))
        across = _fraction(p.v * np.float32(1.0 / 2.6)) * np.float32(2.6) - np.float32(1.3)
        slot = (
            np.floor(self.u / 16.0).astype(np.int64) * 2 + second,
            np.floor(self.v / 2.6).astype(np.int64),
        )
        yard = (self.kind == COMMERCIAL) & (self.built < -4.0) & (self.street < -4.0) & (self.shore < -4.0)
        yard &= self.land.pick(35, p.row, p.column) < 0.8
        bay = yard & (place < 10.4)
        line = np.maximum(
            np.abs(across) - np.float32(1.22), np.float32(0.08) - np.abs(place - np.float32(5.2))
        )
        share = np.float32(min(1.0, 0.16 / self.px)) * _unit(
            line * np.float32(1.0 / self.px) + np.float32(1.0)
        )
        white = np.where(bay, share, np.float32(0.0))
        cover.paint(white, self._choose("marking", np.zeros_like(white)), self._state(-0.2, 0.2, 0.2, 0.2))
        busy = np.float32(0.25) + np.float32(0.6) * self.land.pick(36, p.row, p.column)
        chance = self.land.pick(37, *slot)
        self._cars(cover, across, along, slot, bay & (chance < busy) & (np.abs(along) < 2.5), 1.0)

    def _roofs(self, cover: Cover) -> None:
        """Houses with gabled, hipped or flat roofs; halls with flat ones and plant on top."""
        land, box = self.land, self.houses
        style, pitch = land.pick(38, *box.cell), 0.35 + 0.55 * land.pick(39, *box.cell)
        gable = box.half_b - np.abs(box.b)
        rise = np.where(
            style < 0.62, gable, np.where(style < 0.88, np.minimum(gable, box.half_a - np.abs(box.a)), 0.0)
        )
        height = (3.2 + 2.6 * land.pick(40, *box.cell) + pitch * rise).astype(np.float32)
        chance = land.pick(41, *box.cell)
        flat = (style >= 0.88) | (_fraction(chance * 13) < 0.12)
        roof = np.where(flat, self._choose("roof", chance), self._choose("tile", chance))
        wear = np.float32(0.5) * (land.pick(42, *box.cell) - np.float32(0.5))
        cover.paint(
            _edge(box.inside, self.px), roof, self._state(wear, 0.0, 0.3, 0.35), np.maximum(height, 3.0)
        )
        self._on_roof(cover)
        hall = self.halls
        chance, tall = land.pick(43, *hall.cell), 5.0 + 5.0 * land.pick(44, *hall.cell)
        seam = np.float32(0.12) * (_fraction(hall.a * np.float32(1.0 / 6.0)) < 0.12)
        state = self._state(wear * 0 - seam, 0.1, 0.35, 0.25)
        cover.paint(_edge(hall.inside, self.px), self._choose("roof", chance), state, tall)
        i, j = (np.floor(c * np.float32(1.0 / 5.0)).astype(np.int64) for c in (hall.a, hall.b))
        unit_key = (i + 131 * hall.cell[0], j + 137 * hall.cell[1])
        a = _fraction(hall.a * np.float32(0.2)) * np.float32(5.0) - np.float32(2.5)
        b = _fraction(hall.b * np.float32(0.2)) * np.float32(5.0) - np.float32(2.5)
        size = np.float32(0.7) + land.pick(46, *unit_key)
        inside = np.minimum(size - np.abs(a), np.float32(0.9) - np.abs(b))
        there = (hall.inside > 2.5) & (land.pick(45, *unit_key) < 0.13)
        alpha = np.where(there, _edge(inside, self.px), np.float32(0.0))
        cover.paint(
            alpha, self._choose("roof", _fraction(size * 23)), self._state(0.1, 0, 0.2, 0.2), tall + 1.3
        )

    def _on_roof(self, cover: Cover) -> None:
        """A panel or a skylight on one slope of some houses."""
        box = self.houses
        chance = self.land.pick(47, *box.cell)
        inside = np.minimum(
            np.float32(0.62) * box.half_a - np.abs(box.a),
            np.float32(1.2) - np.abs(box.b - np.float32(0.5) * box.half_b),
        )
        alpha = np.where(box.present & (chance < 0.3), _edge(inside, self.px), np.float32(0.0))
        cover.paint(alpha, self._choose("roof", _fraction(chance * 29)), self._state(0.3, 0.0, 0.1, 0.1))

    def _trees(self, cover: Cover) -> None:
        """Crowns on a jittered lattice, kept off roads, buildings and water; the taller one shows."""
        size = 6.4
        i, j = np.floor(self.y / size).astype(np.int64)[:, 0], np.floor(self.x / size).astype(np.int64)[0]
        i0, j0 = int(i[0]) - 1, int(j[0]) - 1
        ti, tj = np.meshgrid(np.arange(i0, int(i[-1]) + 2), np.arange(j0, int(j[-1]) + 2), indexing="ij")
        ty, tx, radius, tall, species, state = self._tree_table(ti, tj, size)
        if not (radius > 0).any():
            return
        best = np.zeros_like(self.coarse)
        alpha, kind, age = np.zeros_like(best), np.zeros(best.shape, np.int64), np.zeros_like(best)
        rough = np.float32(1.0) + np.float32(0.55) * self.fine
        yi, xj = i - i0, j - j0
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                cell = np.ix_(yi + di, xj + dj)
                r = radius[cell]
                dy = (self.y - ty[cell]).astype(np.float32)
                dx = (self.x - tx[cell]).astype(np.float32)
                d2 = (dy * dy + dx * dx) * rough
                r2 = np.maximum(r * r, np.float32(1e-6))
                dome = np.sqrt(np.maximum(np.float32(1.0) - d2 / r2, 0.0))
                z = tall[cell] * (np.float32(0.45) + np.float32(0.55) * dome) * (r > 0)
                share = np.where(r > 0, _edge(r - np.sqrt(d2), self.px), np.float32(0.0))
                top = (share > 0) & (z * share > best)
                best = np.where(top, z * share, best)
                alpha = np.maximum(alpha, share)
                kind = np.where(top, species[cell], kind)
                age = np.where(top, state[cell], age)
        crown = _unit(age + np.float32(0.45) * self.fine + np.float32(0.15) * self.patchy)
        lumps = best * (np.float32(1.0) + np.float32(0.16) * self.fine)
        cover.paint(alpha, kind, crown, np.minimum(lumps, np.float32(MAX_HEIGHT_M)))

    def _tree_table(
        self, ti: Index, tj: Index, size: float
    ) -> tuple[Position, Position, Array, Array, Index, Array]:
        land = self.land
        ty = (ti + 0.2 + 0.6 * land.pick(50, ti, tj)) * size
        tx = (tj + 0.2 + 0.6 * land.pick(51, ti, tj)) * size
        u, v = land.frame(ty, tx)
        p = land.parcels(u, v)
        kind = land.kind(p.row, p.column)
        chance = land.pick(52, ti, tj)
        grove = octaves((land.seed, 203), ty, tx, 45.0, count=2)
        share = np.array([0.0, 0.02, 0.97, 0.20, 0.07, 0.30, 0.03, 0.0], np.float32)[kind]
        share = np.where((kind == PARK) | (kind == MEADOW), share * (1.0 + 2.2 * grove), share)
        # Hedges stand along some borders between columns outside towns.
        rural = (kind == FIELD) | (kind == MEADOW) | (kind == ORCHARD)
        hedge = rural & (p.column_distance < 4.0) & (land.pick(33, p.row, p.column_border) > 0.7)
        share = np.where(hedge, np.float32(0.8), share)
        wood = kind == FOREST
        radius = (1.5 + 2.4 * land.pick(53, ti, tj)) * np.where(wood, 1.25, 1.0) * np.where(hedge, 0.8, 1.0)
        radius = radius.astype(np.float32)
        built = np.maximum(_houses(land, u, v).inside, _halls(land, u, v).inside)
        clear = (p.row_distance > radius + 4.0) & (hedge | (p.column_distance > radius + 3.0))
        clear &= (built < -radius) & (land.shore(ty, tx) < -radius)
        radius = np.where(clear & (chance < share), radius, np.float32(0.0))
        tall = np.minimum(2.5 + 2.1 * radius + 2.0 * land.pick(54, ti, tj), MAX_HEIGHT_M).astype(np.float32)
        stand = land.pick(55, p.row, p.column)
        own = land.pick(56, ti, tj)
        # A wood is mostly of one species; elsewhere every tree is its own.
        species = self._choose("tree", np.where(wood & (own < 0.7), stand, _fraction(own * 41)))
        state = np.float32(0.2) + np.float32(0.6) * land.pick(57, ti, tj)
        return ty, tx, radius, tall, species, state


__all__ = ["MAX_HEIGHT_M", "Cover", "Painter", "Parcels"]
