from dataclasses import replace
from typing import ClassVar

import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from spectile.catalog.bands import Bands
from spectile.catalog.errors import UsageError
from spectile.catalog.inputs import InputSpec
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.cost import LARGEST_BLOCK, Workload, input_channels
from spectile.pipeline.plan.plan import SHARD, Plan
from spectile.pipeline.plan.shares import Share

GRID = Grid((5000, 4000), Affine(0.5, 0, 0, 0, -0.5, 0), "EPSG:32619")
PLAN = Plan(GRID, GRID.window, Tiling(GRID.shape), 2048, 48, 1, (), {"model": {"seed": 0}})


def test_the_digest_follows_every_value_but_the_block():
    assert replace(PLAN, block=512).digest == PLAN.digest
    others = [
        replace(PLAN, samples=2),
        replace(PLAN, samples=2, layers=("sd",)),
        replace(PLAN, samples=4),
        replace(PLAN, samples=4, layers=("sd", "q05")),
        replace(PLAN, window=Window(0, 0, 512, 512)),
        replace(PLAN, tiling=Tiling(GRID.shape, 256, 16)),
        replace(PLAN, settings={"model": {"seed": 1}}),
        replace(PLAN, grid=replace(GRID, crs_wkt="EPSG:32620")),
        replace(PLAN, bands=47),
    ]
    assert len({plan.digest for plan in [PLAN, *others]}) == 10


class Asked(Share):
    """A scene that counts how often it is asked what it touches."""

    times: ClassVar[list[int]] = [0]

    def touches(self, tiles: Window) -> bool:
        self.times[0] += 1
        return super().touches(tiles)


def test_the_digest_of_a_block_is_made_once():
    shares = tuple(Asked({"name": str(number)}, ((0, 0, 8), (1, 0, 8)), ((0, 0, 9),)) for number in range(3))
    plan = replace(PLAN, block=512, scenes=shares)
    Asked.times[0] = 0
    digests = [[plan.digest_of(block) for block in plan.blocks] for _ in range(4)]
    assert Asked.times[0] == 3 * len(plan.blocks)
    assert digests[1:] == digests[:-1]
    assert digests[0] == [replace(plan, block=512).digest_of(block) for block in plan.blocks]
    assert len(set(digests[0])) == 2  # some blocks lie beyond the tiles of all scenes


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
    assert block % SHARD == 0
    chosen = replace(draft, plan=replace(draft.plan, block=block))
    overlapped = chosen.overlaps(budget)
    estimate = chosen.estimate(overlapped=overlapped)
    assert estimate.peak_memory_bytes <= budget
    if block < LARGEST_BLOCK:
        assert draft.peak_bytes(block + SHARD, overlapped=overlapped) > budget
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


def test_settings_that_make_no_plan_are_refused():
    with pytest.raises(UsageError, match="multiple of 512"):
        replace(PLAN, block=700)
    with pytest.raises(UsageError, match="--samples 0"):
        replace(PLAN, samples=0)
    with pytest.raises(UsageError, match="--layers sd"):
        replace(PLAN, layers=("sd",))
    with pytest.raises(UsageError, match="does not overlap"):
        replace(PLAN, window=Window(0, 0, 0, 0))
