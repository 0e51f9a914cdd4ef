from dataclasses import dataclass

import numpy as np
import pytest
from affine import Affine

from spectile.catalog.errors import BlockError
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.line import feather
from spectile.pipeline.line.feather import (
    LEAST_WEIGHT,
    Footprint,
    axis_distance,
    edge_distance,
    feather_weight,
    take_footprint,
)


@dataclass(frozen=True)
class Mask:
    """A scene that has nothing but its mask; what is read below ``fails_from`` fails."""

    valid: np.ndarray
    fails_from: int = 10**9

    @property
    def grid(self) -> Grid:
        return Grid(self.valid.shape, Affine.identity(), "")

    def read_valid(self, window: Window) -> np.ndarray:
        if window.row >= self.fails_from:
            raise BlockError("damaged")
        return self.valid[window.slices]


def mask(rows: int, cols: int) -> np.ndarray:
    valid = np.ones((rows, cols), dtype=bool)
    valid[: rows // 2, : cols // 3] = False
    return valid


@pytest.mark.parametrize("cells", [10**6, 40])
def test_cells_say_where_some_and_where_all_pixels_are_valid(monkeypatch, cells):
    monkeypatch.setattr(feather, "FOOTPRINT_CELLS", cells)
    valid = mask(37, 53)
    found = take_footprint(Mask(valid))
    assert found.some.size <= cells
    rows, cols = found.corners()
    for row, col in np.ndindex(found.some.shape):
        cell = valid[int(rows[row]) : int(rows[row + 1]), int(cols[col]) : int(cols[col + 1])]
        assert (found.some[row, col], found.whole[row, col]) == (cell.any(), cell.all())


def test_what_cannot_be_read_counts_as_valid():
    found = take_footprint(Mask(np.zeros((1030, 5), dtype=bool), fails_from=512))
    assert not found.some[:512].any()
    assert found.some[512:].all()


def test_the_outline_holds_every_valid_pixel():
    found = take_footprint(Mask(mask(30, 30)))
    rows, cols = found.outline()
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (0, 30, 0, 30)
    assert not ((rows < 15) & (cols < 10)).any()


def test_the_distance_goes_through_zero_where_valid_pixels_end():
    whole = np.zeros((1, 8), dtype=bool)
    whole[:, 4:] = True
    distance = edge_distance(Footprint((1, 8), 1, whole, whole), (2.0, 2.0))
    assert distance[0].tolist() == [-7, -5, -3, -1, 1, 3, 5, 7]
    assert edge_distance(Footprint((1, 8), 1, whole | True, whole | True), (1, 1)) is None


def test_a_scene_weighs_least_at_its_edges_and_most_in_the_middle():
    valid = np.ones((20, 40), dtype=bool)
    footprint = Footprint(valid.shape, 1, valid, valid)
    rows, cols = np.meshgrid(np.arange(20) + 0.5, np.arange(40) + 0.5, indexing="ij")
    weight = feather_weight(rows, cols, footprint=footprint, distance=None, pixel=(1, 1))
    np.testing.assert_array_equal(weight, weight[::-1, ::-1])
    assert weight.max() == weight[9, 19] == pytest.approx(9.5)
    assert weight.min() == weight[0, 0]
    edge = feather_weight(np.zeros(1), np.zeros(1), footprint=footprint, distance=None, pixel=(1, 1))
    assert edge == LEAST_WEIGHT


def test_the_distance_to_a_centre_line_is_that_to_its_nearest_point():
    rows, cols = np.array([0.0, 3, 9]), np.array([0.0, 4, 0])
    assert axis_distance(rows, cols, ((0, 0), (6, 0))).tolist() == [0, 4, 3]
    assert axis_distance(rows, cols, ((0, 0), (0, 0))).tolist() == [0, 5, 9]
