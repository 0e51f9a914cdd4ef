import itertools

from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.levels import SMALLEST, levels

ROTATED = Affine.translation(500_000, 4_100_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)


@given(st.integers(1, 9000), st.integers(1, 9000))
def test_each_level_halves_the_one_before_until_it_is_small(rows, cols):
    found = levels((rows, cols), [(0, 0)])
    assert [level.factor for level in found] == [2**number for number in range(len(found))]
    assert max(found[-1].shape) <= SMALLEST or len(found) == 1
    for finer, coarser in itertools.pairwise(found):
        assert max(finer.shape) > SMALLEST
        assert coarser.shape == tuple(-(-size // 2) for size in finer.shape)


def test_a_level_holds_the_shards_over_those_that_are_written():
    cube, half, quarter = levels((2048, 1024), [(0, 1), (3, 0)])
    assert half.shards == ((0, 0), (1, 0))
    assert quarter.shards == ((0, 0),)
    assert set(cube.shards) <= {place for shard in half.shards for place in half.finer(*shard)}


def test_a_level_keeps_its_corner_on_a_rotated_map():
    cube = Grid((1001, 900), ROTATED, "EPSG:32619")
    half = levels(cube.shape, [(0, 0)])[1]
    assert half.key("reflectance") == "overviews/2/reflectance"
    assert half.grid(cube).transform @ (3, 4) == cube.transform @ (6, 8)


def test_levels_end_with_the_first_that_fits_a_shard():
    found = levels((16000, 9001), [(0, 0), (31, 17), (30, 17), (5, 4)])
    assert [level.factor for level in found] == [1, 2, 4, 8, 16, 32]
    assert found[-1].shape == (500, 282)
    assert found[1].shards == ((0, 0), (2, 2), (15, 8))
    assert found[-1].shards == ((0, 0),)
    assert [level.factor for level in levels((512, 512), [])] == [1]
