"""Regions of overviews, by the blocks that they lie in; what they hold is tried in test_overviews."""

import pytest

from spectile.pipeline.cube.regions import inner_regions
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.plan import Plan
from tests.pipeline.fakes import NORTH_UP, UTM


@pytest.mark.parametrize(("block", "numbers"), [(512, [0]), (1024, [1]), (2048, [4, 1]), (4096, [9, 4, 1])])
def test_a_block_holds_the_regions_whose_sources_it_has(block, numbers):
    grid = Grid((3000, 3000), NORTH_UP, UTM)
    plan = Plan(grid, grid.window, Tiling(grid.shape), block, 4)
    first = plan.blocks[0]
    found = inner_regions(plan, first)
    assert [len(level) for level in found] == [number for number in numbers if number]
    inside = set(plan.shards(first))
    for level in found:
        assert all(inside.issuperset(region.sources) for region in level.values())
        inside = set(level)


def test_blocks_at_the_end_hold_what_is_left_of_a_region():
    grid = Grid((1500, 700), NORTH_UP, UTM)
    plan = Plan(grid, grid.window, Tiling(grid.shape), 512, 4)
    # The third row of shards has no fourth beneath it; its two columns are of two blocks.
    assert [len(inner_regions(plan, block)) for block in plan.blocks] == [0] * 6
    narrow = Plan(
        Grid((1500, 500), NORTH_UP, UTM), Grid((1500, 500), NORTH_UP, UTM).window, Tiling((1500, 500)), 512, 4
    )
    assert [len(inner_regions(narrow, block)) for block in narrow.blocks] == [0, 0, 1]
