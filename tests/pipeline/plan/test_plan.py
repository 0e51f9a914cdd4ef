from dataclasses import replace
from typing import ClassVar

import pytest
from affine import Affine

from spectile.catalog.errors import UsageError
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.plan import Plan
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


def test_settings_that_make_no_plan_are_refused():
    with pytest.raises(UsageError, match="multiple of 512"):
        replace(PLAN, block=700)
    with pytest.raises(UsageError, match="--samples 0"):
        replace(PLAN, samples=0)
    with pytest.raises(UsageError, match="--layers sd"):
        replace(PLAN, layers=("sd",))
    with pytest.raises(UsageError, match="does not overlap"):
        replace(PLAN, window=Window(0, 0, 0, 0))
