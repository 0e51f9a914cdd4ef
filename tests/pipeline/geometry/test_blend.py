import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spectile.pipeline.geometry.blend import axis_weights, tile_weights
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Tiling


@given(st.integers(40, 200), st.integers(40, 200), st.sampled_from([0, 2, 8, 16]))
def test_the_weights_of_all_tiles_add_up_to_one_everywhere(rows, cols, halo):
    tiling = Tiling((rows, cols), 64, halo)
    total = np.zeros((rows, cols), np.float32)
    for tile in tiling.tiles(Window(0, 0, rows, cols)):
        inside = tile.window.intersection(Window(0, 0, rows, cols))
        total[inside.slices] += tile_weights(tiling, tile, inside)
    np.testing.assert_allclose(total, 1, atol=1e-6)  # two float32 that are rounded by themselves


def test_a_ramp_is_the_mirror_of_its_neighbours():
    tiling = Tiling((200, 200), 64, 8)
    left, right = axis_weights(tiling, 0, 1), axis_weights(tiling, 1, 1)
    np.testing.assert_allclose(left[-16:] + right[:16], 1, atol=1e-6)
    assert (left[:-16] == 1).all(), "there is no neighbour at the border"
