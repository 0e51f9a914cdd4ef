import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectile.catalog.errors import UsageError
from spectile.pipeline.geometry.blend import axis_weights, tile_weights
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Tiling, blocks, reflected

halos = st.integers(0, 9)
tilings = st.builds(
    lambda rows, cols, halo, extra: Tiling((rows, cols), 4 * halo + extra, halo),
    st.integers(1, 150),
    st.integers(1, 150),
    halos,
    st.integers(5, 40),
)


def summed_weights(tiling: Tiling, window: Window) -> np.ndarray:
    total = np.zeros(window.shape, dtype=np.float64)
    for tile in tiling.tiles(window):
        shared = tile.window.intersection(window)
        total[shared.relative_to(window).slices] += tile_weights(tiling, tile, shared)
    return total


@given(tilings)
def test_weights_sum_to_one_everywhere(tiling):
    total = summed_weights(tiling, Window(0, 0, *tiling.shape))
    np.testing.assert_allclose(total, 1.0, atol=2e-7)


@given(tilings, st.data())
def test_the_tiles_of_any_window_cover_it_as_the_whole_lattice_does(tiling, data):
    row = data.draw(st.integers(0, tiling.shape[0] - 1))
    col = data.draw(st.integers(0, tiling.shape[1] - 1))
    height = data.draw(st.integers(1, tiling.shape[0] - row))
    width = data.draw(st.integers(1, tiling.shape[1] - col))
    window = Window(row, col, height, width)
    np.testing.assert_allclose(summed_weights(tiling, window), 1.0, atol=2e-7)
    chosen = list(tiling.tiles(window))
    touching = [t for t in tiling.tiles() if t.window.intersection(window).size]
    assert chosen == touching
    assert tiling.count(window) == len(touching)


@given(tilings, st.sampled_from([np.float32, np.float16]))
def test_weights_are_positive_also_in_half_precision(tiling, dtype):
    for axis in (0, 1):
        for index in range(tiling.counts[axis]):
            weights = axis_weights(tiling, index, axis).astype(dtype)
            assert (weights > 0).all()
            assert (weights <= 1).all()


@pytest.mark.parametrize("width", [1, 255, 256, 257, 256 - 64 + 1, 192, 193, 384, 1000])
def test_every_pixel_is_covered_at_awkward_widths(width):
    tiling = Tiling((40, width))
    np.testing.assert_allclose(summed_weights(tiling, Window(0, 0, 40, width)), 1.0, atol=2e-7)


def test_the_lattice_does_not_move_with_the_scene():
    small, large = Tiling((300, 300)), Tiling((3000, 3000))
    assert small.tile_at(1, 1) == large.tile_at(1, 1)
    assert large.tile_at(1, 2).window == Window(192 - 32, 384 - 32, 256, 256)


def test_a_trailing_partial_tile_is_kept():
    assert Tiling((193, 10)).counts == (2, 1)


def test_a_halo_of_zero_gives_tiles_side_by_side():
    tiling = Tiling((100, 100), 32, 0)
    assert tiling.counts == (4, 4)
    assert (axis_weights(tiling, 1, 0) == 1).all()


def test_a_halo_beyond_half_the_core_is_refused_with_the_remedy():
    with pytest.raises(UsageError, match=r"--halo 64 or less"):
        Tiling((100, 100), 256, 65)


def test_a_tile_stride_off_the_networks_stride_is_refused():
    Tiling((100, 100), 256, 32).check_stride(64)
    with pytest.raises(UsageError, match="multiple of 64"):
        Tiling((100, 100), 256, 16).check_stride(64)


@given(st.integers(-500, 500), st.integers(0, 300), st.integers(1, 60))
def test_reflection_agrees_with_numpy_padding(start, length, size):
    index = reflected(start, start + length, size)
    pad = 3 * (500 + 300)
    line = np.pad(np.arange(size), pad, mode="reflect") if size > 1 else np.zeros(2 * pad + 1, int)
    np.testing.assert_array_equal(index, line[start + pad : start + length + pad])


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(0, 50))
def test_blocks_cover_a_window_once(height, width, size, offset):
    window = Window(offset, 2 * offset, height, width)
    seen = np.zeros((height, width), int)
    for block in blocks(window, size):
        seen[block.window.relative_to(window).slices] += 1
    assert (seen == 1).all()
