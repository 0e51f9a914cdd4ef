"""The cover of each pixel of a simulated landscape: layers of materials, and their height.

The layers are painted bottom up. Their edges are one pixel wide and soft, which mixes materials linearly by
area.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectile.pipeline.simulate.buildings import halls, houses
from spectile.pipeline.simulate.landscape import (
    BARE,
    COMMERCIAL,
    FIELD,
    FOREST,
    MEADOW,
    ORCHARD,
    PARK,
    RESIDENTIAL,
    Array,
    Cells,
    Index,
    Landscape,
    Position,
    coverage,
    octaves,
)
from spectile.pipeline.simulate.trees import MAX_HEIGHT_M, grown


@dataclass
class Cover:
    """Layers of material over a window, bottom first, and the height of the surface."""

    height: Array
    """(h, w) float32, metres above the ground."""
    gain: Array
    """(h, w) float32, small variations of brightness around 1, due to roughness."""
    layers: list[tuple[Array, Index, Array]] = field(default_factory=list)
    """(alpha, material, state) of each layer, (h, w): the share that it covers of the layers below, the
    material's number, and its state in 0 to 1."""

    def paint(self, alpha: Array, material: Index, state: Array, height: Array | float | None = None) -> None:
        """Add a layer. If a height is given, it is set where the layer covers at least half of a pixel."""
        if not alpha.any():
            return
        self.layers.append((alpha, material, state))
        if height is not None:
            np.copyto(self.height, np.float32(1.0) * height, where=alpha >= 0.5)


def _unit(value: Array) -> Array:
    return np.asarray(np.clip(value, 0.0, 1.0))


def _fraction(value: NDArray[np.floating[Any]]) -> Array:
    return np.asarray(value - np.floor(value))


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
        self.shore = land.shore(y, x)
        self.houses, self.halls = houses(land, self.u, self.v), halls(land, self.u, self.v)
        p = self.parcels
        self.by_parcel = Cells.of(seed, p.row, p.column)
        i, j = self.by_parcel.i, self.by_parcel.j
        self.kind = self.by_parcel.look_up(land.kind(*np.broadcast_arrays(i, j)))
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
        strips = np.float32(1.0) + np.floor(np.float32(3.2) * self.by_parcel.pick(20))
        strips = np.where((kind == FIELD) | (kind == ORCHARD) | (kind == MEADOW), strips, np.float32(1.0))
        position = parcels.along * strips
        strip = np.floor(position).astype(np.int64)
        self.by_strip = Cells.of(land.seed, parcels.row, parcels.column * 4 + strip)
        which = self.by_strip.pick(21)
        chance = self.by_strip.pick(22)
        lot = self.houses.cells.pick(23)
        garden = np.select(
            [lot < 0.82, lot < 0.88, lot < 0.92],
            [self._choose(family, _fraction(lot * 31)) for family in ("grass", "soil", "court")],
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
        material = np.select(
            [
                kind == FIELD,
                kind == ORCHARD,
                kind == FOREST,
                kind == RESIDENTIAL,
                kind == COMMERCIAL,
                kind == BARE,
            ],
            [field, self._choose("crop", chance), floor, garden, yard, bare],
            self._choose("grass", chance),
        )
        offset = np.float32(0.35) * (self.by_strip.pick(24) - np.float32(0.5))
        cover.paint(np.ones_like(self.coarse), material, self._state(offset, 0.35, 0.3, 0.25))
        # Strips are divided by a narrow margin of grass.
        to_strip = np.abs(position - np.round(position)) * np.float32(124.0) / np.maximum(strips, 1.0)
        between = (np.round(position) > 0) & (np.round(position) < strips)
        margin = np.where(between, coverage(np.float32(0.7) - to_strip, self.px), np.float32(0.0))
        cover.paint(
            margin,
            self._choose("grass", self.by_parcel.pick(25)),
            self._state(0.0, 0.2, 0.3, 0.3),
        )

    def _rows(self, cover: Cover) -> None:
        """Rows of crops with soil between them, vines with height, and the tracks of tractors."""
        kind = self.kind
        across = np.where(self.by_parcel.pick(26) < 0.5, self.parcels.u, self.parcels.v)
        chance = self.by_strip.pick(27)
        period = np.where(kind == ORCHARD, 2.4 + 1.4 * chance, 1.0 + 2.2 * chance).astype(np.float32)
        wave = np.abs(_fraction(across / period) - np.float32(0.5)) * np.float32(2.0)
        fade = _unit(period * np.float32(0.5 / self.px) - np.float32(0.8))
        strength = np.where(kind == ORCHARD, np.float32(0.9), np.float32(0.45) * self.by_strip.pick(28))
        gap = _unit((wave - np.float32(0.45)) * np.float32(4.0)) * strength * fade
        wheel = np.abs(
            np.abs(_fraction(across / np.float32(21.0)) * np.float32(21.0) - np.float32(10.5))
            - np.float32(0.9)
        )
        tram = np.float32(0.55) * coverage(np.float32(0.28) - wheel, self.px)
        rows = (kind == ORCHARD) | (kind == FIELD)
        alpha = np.where(
            rows, np.maximum(gap, np.where(kind == FIELD, tram, np.float32(0.0))), np.float32(0.0)
        )
        cover.paint(alpha, self._choose("soil", self.by_strip.pick(29)), self._state(0.0, 0.3, 0.2, 0.3))
        vine = (kind == ORCHARD) & (gap < 0.3)
        np.copyto(cover.height, np.float32(1.3) * fade, where=vine)

    def _gardens(self, cover: Cover) -> None:
        """Drives and terraces beside houses."""
        box = self.houses
        size = box.cells.pick(30)
        drive = np.minimum(
            np.float32(2.6) + 3 * size - np.abs(np.abs(box.a) - box.half_a),
            np.float32(1.6) + size - np.abs(box.b),
        )
        alpha = np.where(box.present, coverage(drive, self.px), np.float32(0.0))
        cover.paint(alpha, self._choose("paving", _fraction(size * 17)), self._state(0.0, 0.2, 0.2, 0.3))

    def _water(self, cover: Cover) -> None:
        """Rivers and lakes, with a shore."""
        if not (self.shore > -9.0).any():
            return
        beach = coverage(self.shore + np.float32(1.2) + self.patchy, self.px)
        cover.paint(beach, self._choose("soil", np.zeros_like(beach)), self._state(-0.3, 0.2, 0.3, 0.2))
        wet = coverage(self.shore, self.px)
        i, j = (np.floor(axis / 900.0).astype(np.int64) for axis in (self.y, self.x))
        lake = self.land.pick(31, i, j)
        cover.paint(wet, self._choose("water", lake), self._state(0.0, 0.6, 0.1, 0.02), 0.0)
        # Water is smooth: its brightness does not vary like that of ground.
        cover.gain += wet * (np.float32(1.0) + np.float32(0.03) * self.fine - cover.gain)

    def _roads(self, cover: Cover) -> None:
        """Streets with pavements and lines between rows; streets, tracks or margins between columns."""
        land, p = self.land, self.parcels
        main = Cells.of(land.seed, p.row_border, np.zeros_like(p.row_border)).pick(32)
        half_row = np.where(main < 0.7, np.float32(3.0) + 2 * main, np.float32(1.7)).astype(np.float32)
        border = Cells.of(land.seed, p.row, p.column_border).pick(33)
        town = (self.kind == RESIDENTIAL) | (self.kind == COMMERCIAL) | (self.kind == PARK)
        side = np.where(town, np.float32(2.9), np.where(border < 0.4, np.float32(1.6), np.float32(0.8)))
        paved_row, paved_side = main < 0.7, town
        in_row, in_side = half_row - p.row_distance, side - p.column_distance
        verge = np.maximum(in_row, in_side) + np.where(town, np.float32(1.9), np.float32(1.6))
        edging = np.where(town, self._choose("paving", main), self._choose("grass", border))
        dry = np.float32(1.0) - coverage(self.shore, self.px)
        cover.paint(coverage(verge, self.px) * dry, edging, self._state(0.0, 0.2, 0.25, 0.3), 0.0)
        track = np.where(border < 0.4, self._choose("soil", border), self._choose("grass", border))
        material = np.where(paved_side, self._choose("road", border), track)
        state = self._state(0.0, 0.3, 0.25, 0.2)
        cover.paint(coverage(in_side, self.px) * dry, material, state, 0.0)
        material = np.where(paved_row, self._choose("road", main), self._choose("paving", main))
        # Paved roads cross water on bridges; tracks end at it.
        reach = np.where(paved_row, np.float32(1.0), dry)
        cover.paint(coverage(in_row, self.px) * reach, material, state, 0.0)
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
        lane = 2 * p.row_border + (p.row > p.row_border)
        self._cars(
            cover,
            half_row - np.float32(1.4) - p.row_distance,
            _fraction(p.v * np.float32(1.0 / 7.5)) * np.float32(7.5) - np.float32(3.75),
            Cells.of(land.seed, lane, np.floor(self.v / 7.5).astype(np.int64)),
            paved_row & ~crossing & town, 0.35,
        )  # fmt: skip
        self.street = np.maximum(in_row, np.where(town | (border < 0.4), in_side, np.float32(-99.0)))

    def _cars(
        self,
        cover: Cover,
        across: Array,
        along: Array,
        slot: Cells,
        where: NDArray[np.bool_],
        share: float,
    ) -> None:
        chance = slot.pick(34)
        here = where & (chance < share)
        if not here.any():
            return
        inside = np.minimum(np.float32(0.9) - np.abs(across), np.float32(2.15) - np.abs(along))
        body = np.where(here, coverage(inside, self.px), np.float32(0.0))
        paint = _fraction(chance * np.float32(57.0))
        white = _fraction(chance * np.float32(191.0)) < 0.3
        colour = np.where(white, self._choose("marking", paint), self._choose("paint", paint))
        cover.paint(body, colour, self._state(0.3, 0.0, 0.1, 0.2), 1.3)
        glass = np.where(
            here & (np.abs(np.abs(along) - np.float32(0.95)) < 0.35),
            coverage(inside - np.float32(0.2), self.px),
            np.float32(0.0),
        )
        cover.paint(
            glass * np.float32(0.8), self._choose("road", np.zeros_like(paint)), np.zeros_like(paint), 1.45
        )

    def _parking(self, cover: Cover) -> None:
        """Parking bays on the yards of commercial parcels."""
        if not (self.kind == COMMERCIAL).any():
            return
        p = self.parcels
        place = _fraction(p.u * np.float32(1.0 / 16.0)) * np.float32(16.0)
        second = place > 5.2
        along = np.where(second, place - np.float32(7.8), place - np.float32(2.6))
        across = _fraction(p.v * np.float32(1.0 / 2.6)) * np.float32(2.6) - np.float32(1.3)
        slot = Cells.of(
            self.land.seed,
            np.floor(self.u / 16.0).astype(np.int64) * 2 + second,
            np.floor(self.v / 2.6).astype(np.int64),
        )
        yard = (self.kind == COMMERCIAL) & (self.built < -4.0) & (self.street < -4.0) & (self.shore < -4.0)
        bay = yard & (self.by_parcel.pick(35) < 0.8) & (place < 10.4)
        line = np.maximum(
            np.abs(across) - np.float32(1.22), np.float32(0.08) - np.abs(place - np.float32(5.2))
        )
        share = np.float32(min(1.0, 0.16 / self.px)) * _unit(
            line * np.float32(1.0 / self.px) + np.float32(1.0)
        )
        white = np.where(bay, share, np.float32(0.0))
        cover.paint(white, self._choose("marking", np.zeros_like(white)), self._state(-0.2, 0.2, 0.2, 0.2))
        busy = np.float32(0.25) + np.float32(0.6) * self.by_parcel.pick(36)
        chance = slot.pick(37)
        self._cars(cover, across, along, slot, bay & (chance < busy) & (np.abs(along) < 2.5), 1.0)

    def _roofs(self, cover: Cover) -> None:
        """Houses with gabled, hipped or flat roofs; halls with flat ones and plant on top."""
        land, box = self.land, self.houses
        style, pitch = box.cells.pick(38), 0.35 + 0.55 * box.cells.pick(39)
        gable = box.half_b - np.abs(box.b)
        rise = np.where(
            style < 0.62, gable, np.where(style < 0.88, np.minimum(gable, box.half_a - np.abs(box.a)), 0.0)
        )
        height = (3.2 + 2.6 * box.cells.pick(40) + pitch * rise).astype(np.float32)
        chance = box.cells.pick(41)
        flat = (style >= 0.88) | (_fraction(chance * 13) < 0.12)
        roof = np.where(flat, self._choose("roof", chance), self._choose("tile", chance))
        wear = np.float32(0.5) * (box.cells.pick(42) - np.float32(0.5))
        cover.paint(
            coverage(box.inside, self.px), roof, self._state(wear, 0.0, 0.3, 0.35), np.maximum(height, 3.0)
        )
        self._on_roof(cover)
        hall = self.halls
        if not hall.present.any():
            return
        chance, tall = hall.cells.pick(43), 5.0 + 5.0 * hall.cells.pick(44)
        seam = np.float32(0.12) * (_fraction(hall.a * np.float32(1.0 / 6.0)) < 0.12)
        state = self._state(-seam, 0.1, 0.35, 0.25)
        cover.paint(coverage(hall.inside, self.px), self._choose("roof", chance), state, tall)
        i, j = (np.floor(c * np.float32(1.0 / 5.0)).astype(np.int64) for c in (hall.a, hall.b))
        unit_key = (i + 131 * hall.i, j + 137 * hall.j)
        a = _fraction(hall.a * np.float32(0.2)) * np.float32(5.0) - np.float32(2.5)
        b = _fraction(hall.b * np.float32(0.2)) * np.float32(5.0) - np.float32(2.5)
        size = np.float32(0.7) + land.pick(46, *unit_key)
        inside = np.minimum(size - np.abs(a), np.float32(0.9) - np.abs(b))
        there = (hall.inside > 2.5) & (land.pick(45, *unit_key) < 0.13)
        alpha = np.where(there, coverage(inside, self.px), np.float32(0.0))
        cover.paint(
            alpha, self._choose("roof", _fraction(size * 23)), self._state(0.1, 0, 0.2, 0.2), tall + 1.3
        )

    def _on_roof(self, cover: Cover) -> None:
        """A panel or a skylight on one slope of some houses."""
        box = self.houses
        chance = box.cells.pick(47)
        inside = np.minimum(
            np.float32(0.62) * box.half_a - np.abs(box.a),
            np.float32(1.2) - np.abs(box.b - np.float32(0.5) * box.half_b),
        )
        alpha = np.where(box.present & (chance < 0.3), coverage(inside, self.px), np.float32(0.0))
        cover.paint(alpha, self._choose("roof", _fraction(chance * 29)), self._state(0.3, 0.0, 0.1, 0.1))

    def _trees(self, cover: Cover) -> None:
        """Crowns of trees; the taller one shows."""
        crowns = grown(self.land, self.y, self.x, self.fine, self.px)
        stand = np.where(crowns.of_stand, crowns.stand, _fraction(crowns.own * np.float32(41.0)))
        state = _unit(crowns.state + np.float32(0.45) * self.fine + np.float32(0.15) * self.patchy)
        lumps = crowns.height * (np.float32(1.0) + np.float32(0.16) * self.fine)
        lumps = np.minimum(lumps, np.float32(MAX_HEIGHT_M))
        cover.paint(crowns.alpha, self._choose("tree", stand), state, lumps)
