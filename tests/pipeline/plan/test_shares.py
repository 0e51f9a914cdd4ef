"""Runs of cells, and which cells rectangles of pixels meet."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Tiling, reflected
from spectile.pipeline.plan.shares import Share, cells, shards_met, tiles_met, to_runs

SHARE = Share({"name": "a.tif", "sha256": "9f"}, ((0, 0, 2), (1, 1, 3)), ((0, 0, 4), (2, 5, 6)))


@given(arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 8))))
def test_cells_come_back_from_their_runs(held: np.ndarray) -> None:
    runs = to_runs(held)
    assert cells(runs) == set(map(tuple, np.argwhere(held).tolist()))
    assert list(runs) == sorted(runs)
    # As few as can be: those of a row are apart.
    assert all(a[0] < b[0] or a[2] < b[1] for a, b in pairwise(runs))


def test_a_share_comes_back_from_json() -> None:
    assert Share.from_json(json.loads(json.dumps(SHARE.to_json()))) == SHARE


@pytest.mark.parametrize(
    "lattice", [{"shards": (1, 3), "tiles": (3, 6)}, {"shards": (2, 3), "tiles": (3, 5)}]
)
def test_a_share_that_leaves_its_lattice_is_refused(lattice: dict[str, tuple[int, int]]) -> None:
    SHARE.check(shards=(2, 3), tiles=(3, 6))
    with pytest.raises(ValueError, match="a scene's share"):
        SHARE.check(**lattice)


@given(st.builds(Window, st.integers(0, 3), st.integers(0, 6), st.integers(1, 3), st.integers(1, 4)))
def test_a_share_touches_a_rectangle_that_holds_one_of_its_tiles(tiles: Window) -> None:
    inside = {(r, c) for r in range(tiles.row, tiles.row_stop) for c in range(tiles.col, tiles.col_stop)}
    assert SHARE.touches(tiles) == bool(inside & cells(SHARE.tiles))


Boxes = list[tuple[int, int, int, int]]
BOXES = st.lists(st.tuples(*[st.integers(-30, 160)] * 4), max_size=4)


def _pixels(boxes: Boxes, shape: tuple[int, int]) -> np.ndarray:
    """Which pixels lie in one of the boxes."""
    held = np.zeros(shape, bool)
    for first_row, last_row, first_col, last_col in boxes:
        held[max(first_row, 0) : max(last_row + 1, 0), max(first_col, 0) : max(last_col + 1, 0)] = True
    return held


@given(BOXES)
def test_the_shards_that_boxes_meet_are_those_that_hold_a_pixel_of_one(
    boxes: Boxes,
) -> None:
    window, shard = Window(10, 20, 70, 90), 32
    found = shards_met(np.array(boxes, np.int64).reshape(-1, 4).T, window, shard)
    held = _pixels(boxes, (200, 200))[window.slices]
    expected = [
        [held[row : row + shard, col : col + shard].any() for col in range(0, window.width, shard)]
        for row in range(0, window.height, shard)
    ]
    np.testing.assert_array_equal(found, expected)


@given(BOXES)
def test_no_tile_that_shows_a_pixel_of_a_box_is_left_out(boxes: Boxes) -> None:
    tiling = Tiling((100, 130), 48, 8)
    found = tiles_met(np.array(boxes, np.int64).reshape(-1, 4).T, tiling)
    held = _pixels(boxes, tiling.shape)
    assert found.shape == tiling.counts
    for row, col in np.ndindex(found.shape):
        shown = (
            reflected(
                index * tiling.core - tiling.halo, index * tiling.core - tiling.halo + tiling.tile, size
            )
            for index, size in zip((row, col), tiling.shape, strict=True)
        )
        if held[np.ix_(*shown)].any():
            assert found[row, col]
    if not held.any():
        assert not found.any()
