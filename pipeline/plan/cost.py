"""What a plan costs: tiles, bytes, memory and time, and the block that fits a budget. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil

from spectile.catalog.errors import UsageError
from spectile.catalog.inputs import InputSpec
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import blocks
from spectile.pipeline.plan.arrays import block_arrays, spectral_depths
from spectile.pipeline.plan.plan import SHARD, Plan

LARGEST_BLOCK = 2048
"""Rows and columns of the largest block chosen by itself; larger ones save few tiles and lose much
work when a run is stopped."""
PROCESS_BYTES = 450_000_000
"""Memory of the process without any block: interpreter, libraries, raster cache."""


def input_channels(inputs: Iterable[InputSpec]) -> float:
    """Numbers that a network's inputs hold for each pixel of the cube."""
    return sum(len(spec.bands) / spec.ratio**2 for spec in inputs)


@dataclass(frozen=True)
class Workload:
    """A plan, with what changes the cost of a run but no value of the cube."""

    plan: Plan
    """What is done."""
    channels: float
    """Numbers that are read for each pixel of the cube; see ``input_channels``."""
    predictor_bytes: int = 0
    """Peak memory of the predictor and the open scenes."""
    threads: int = 1
    """Shards that are made at once."""

    def block_bytes(self, block: int, window: Window, *, overlapped: bool = False) -> int:
        """Bytes that a block of a window holds at its peak: what it reads, sums, what is being written.

        Parameters
        ----------
        block : its rows and columns, where the window has as many.
        overlapped : count also what the next block reads, the sums of the last one, which is being written,
            and the tiles kept from one block for the next.
        """
        plan, tiling = self.plan, self.plan.tiling
        height, width = min(block, window.height), min(block, window.width)
        pixels, reach = height * width, tiling.tile + tiling.core
        read = ceil((height + reach) * (width + reach) * (self.channels * 4 * 3 + 2))
        # Blended tiles are summed, each sample by itself; others are counts already.
        counted = tiling.ramp == 0
        own = 2 * (1 + len(plan.layers)) if counted else 4 * plan.samples
        # Includes the evidence for quality layers: colours, flags, differences of tiles.
        deep = plan.bands * own + len(plan.endmembers) * (2 if counted else 4 * plan.samples)
        sums = ceil(pixels * (deep + self.channels * 4 + 9))
        # Arrays are made and written one at a time in strips of a shard's rows: the mean, the counts before
        # and after rounding, and their chunks; with layers also the deviation and the layer itself.
        depth = max(spectral_depths(count)[1] for count in (plan.bands, len(plan.endmembers) or 1))
        strip = min(SHARD, height) * width * depth * (20 if plan.layers else 12)
        if counted:
            # Three calls' counts, a shard for each writing thread, and overviews, a third of the block.
            strip = ceil(((3 + self.threads) * tiling.core**2 + pixels / 3) * deep)
        if not overlapped or window.size == pixels:
            return read + sums + strip
        # Tiles across a border reach no further than this beyond it. One row of them is in memory twice:
        # while the kept tiles of this border are used up, those of the next are stored.
        rows = -(-(height + reach) // tiling.core) + 1
        first = plan.window.row, plan.window.col
        if counted and not any(side % tiling.core for side in (block, *first)):
            rows = 0  # no core lies across a border
        border = rows * tiling.tile * (tiling.tile + 2 * tiling.ramp) * deep
        return 2 * read + 2 * sums + strip + border

    def peak_bytes(self, block: int, *, overlapped: bool) -> int:
        """Memory of the process at its peak, with blocks of so many rows and columns."""
        own = self.block_bytes(block, self.plan.window, overlapped=overlapped)
        return PROCESS_BYTES + self.predictor_bytes + own

    def choose_block(self, budget: int) -> int:
        """The largest block of LARGEST_BLOCK, a half, a quarter, … that keeps a run within ``budget`` bytes.

        Then shards of overviews lie in one block, and can be made while it is in memory.

        If some block fits with overlapped work on neighbouring blocks, it is the largest of those.

        Raises
        ------
        UsageError : not even the smallest block fits.
        """
        for overlapped in (True, False):
            for block in _blocks():
                if self.peak_bytes(block, overlapped=overlapped) <= budget:
                    return block
        least = self.peak_bytes(SHARD, overlapped=False)
        raise UsageError(
            "the memory budget is too small for the smallest block",
            got=f"{budget / 1e9:.2f} GB",
            expected=f"at least {least / 1e9:.2f} GB",
            remedy="raise --memory or lower --samples or --batch",
        )

    def overlaps(self, budget: int) -> bool:
        """Whether ``budget`` bytes let the work on neighbouring blocks overlap; see ``block_bytes``."""
        return self.peak_bytes(self.plan.block, overlapped=True) <= budget

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel of the cube, before compression."""
        return sum(spec.pixel_bytes(self.plan) for spec in block_arrays(self.plan).values())

    def estimate(self, *, overlapped: bool = False, seconds_per_tile: float | None = None) -> Estimate:
        """What the run costs.

        Parameters
        ----------
        overlapped : whether the work on neighbouring blocks overlaps.
        seconds_per_tile : measured time of one tile and one sample, if it is known.
        """
        plan = self.plan
        tiles = sum(plan.tiling.count(block.window) for block in plan.blocks)
        computed = sum(plan.computed_tiles(block) for block in plan.blocks)
        pixels = sum(plan.pixels(block) for block in plan.blocks)
        return Estimate(
            tiles=tiles,
            tiles_masked=tiles - computed,
            blocks=len(plan.blocks),
            blocks_empty=len(list(blocks(plan.window, plan.block))) - len(plan.blocks),
            pixels=pixels,
            redundancy=computed * plan.tiling.mean_size / pixels,
            output_bytes=pixels * self.pixel_bytes,
            peak_memory_bytes=self.peak_bytes(plan.block, overlapped=overlapped),
            overlapped=overlapped,
            threads=self.threads,
            hours=None if seconds_per_tile is None else computed * plan.samples * seconds_per_tile / 3600,
        )


def _blocks() -> Iterator[int]:
    block = LARGEST_BLOCK
    while block >= SHARD:
        yield block
        block //= 2


@dataclass(frozen=True)
class Estimate:
    """What a run costs."""

    tiles: int
    """Tiles of the blocks, those on block borders once for each block."""
    tiles_masked: int
    """How many of them are left out because no scene of a flight line reaches them."""
    blocks: int
    """Blocks written."""
    blocks_empty: int
    """Blocks left out because no scene of a flight line reaches them."""
    pixels: int
    """Pixels of the shards that are written."""
    redundancy: float
    """Pixels that go through the network for each pixel of the cube."""
    output_bytes: int
    """Bytes of the cube before compression."""
    peak_memory_bytes: int
    """Memory of the process at its peak."""
    overlapped: bool
    """Whether the next block is read and the last one written while one is predicted, and tiles that two
    blocks share are kept."""
    threads: int
    """Shards that are compressed and written at once."""
    hours: float | None
    """Time of the network, if it was measured."""
