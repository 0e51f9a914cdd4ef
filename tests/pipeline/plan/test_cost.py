"""What a plan costs."""

from dataclasses import replace

import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from spectile.catalog.bands import Bands
from spectile.catalog.errors import UsageError
from spectile.catalog.inputs import InputSpec
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.cost import LARGEST_BLOCK, Workload, input_channels
from spectile.pipeline.plan.plan import SHARD, Plan

GRID = Grid((5000, 4000), Affine(0.5, 0, 0, 0, -0.5, 0), "EPSG:32619")


PLAN = Plan(GRID, GRID.window, Tiling(GRID.shape), 2048, 48, 1, (), {"model": {"seed": 0}})


def test_the_estimate_counts_tiles_blocks_and_bytes():
    estimate = Workload(PLAN, 3, 10**8).estimate(seconds_per_tile=0.5)
    tiles = sum(len(list(PLAN.tiling.tiles(block.window))) for block in PLAN.blocks)
    assert estimate.tiles == tiles
    assert estimate.blocks == 6
    assert estimate.redundancy == pytest.approx(tiles * 256**2 / (5000 * 4000))
    assert estimate.output_bytes == 5000 * 4000 * (48 * 2 + 1)
    assert estimate.hours == pytest.approx(tiles * 0.5 / 3600)


def test_the_estimate_counts_the_layers():
    plain = replace(PLAN, samples=4)
    ours = [replace(plain, layers=layers) for layers in ((), ("sd",), ("sd", "q05", "q95"))]
    none, one, three = (Workload(plan, 3).estimate() for plan in ours)
    layer = 5000 * 4000 * 48 * 2
    assert [each.output_bytes - none.output_bytes for each in (one, three)] == [layer, 3 * layer]
    # They are made one after another, from a deviation that stands beside the mean.
    strip = 512 * 2048 * 48 * 4
    assert one.peak_memory_bytes - none.peak_memory_bytes == 2 * strip
    assert three.peak_memory_bytes == one.peak_memory_bytes


@given(st.integers(2, 32), st.integers(1, 12), st.booleans())
def test_the_chosen_block_fits_the_budget_and_the_next_would_not(samples, gigabytes, spread):
    budget = gigabytes * 10**9
    draft = Workload(replace(PLAN, samples=samples, layers=("sd",) if spread else ()), 3)
    if draft.peak_bytes(SHARD, overlapped=False) > budget:
        with pytest.raises(UsageError, match="--memory"):
            draft.choose_block(budget)
        return
    block = draft.choose_block(budget)
    assert block in (512, 1024, 2048)
    chosen = replace(draft, plan=replace(draft.plan, block=block))
    overlapped = chosen.overlaps(budget)
    estimate = chosen.estimate(overlapped=overlapped)
    assert estimate.peak_memory_bytes <= budget
    if block < LARGEST_BLOCK:
        assert draft.peak_bytes(2 * block, overlapped=overlapped) > budget
    if not overlapped:
        assert draft.peak_bytes(SHARD, overlapped=True) > budget


def test_the_memory_counts_the_channels_of_all_inputs():
    colour = InputSpec("rgb", Bands.evenly_spaced(450, 650, 3), (0.2,) * 3)
    coarse = InputSpec("hyperspectral", Bands.evenly_spaced(400, 900, 32), (0.2,) * 32, ratio=4)
    assert input_channels([colour]) == 3
    assert input_channels([colour, coarse]) == 5
    three, five = (Workload(PLAN, channels).block_bytes(512, PLAN.window) for channels in (3, 5))
    reach = 512 + PLAN.tiling.tile + PLAN.tiling.core
    assert five - three == 2 * (reach**2 * 12 + 512**2 * 4)
