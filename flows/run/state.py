"""The state of a run: what is prepared, who observes it, what has been done."""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from spectile.catalog.errors import BlockError
from spectile.flows.run.settings import FuseSettings, LineSettings, SceneSettings
from spectile.pipeline.block.predict import Predictor
from spectile.pipeline.cube.ledger import Marker
from spectile.pipeline.cube.record import (
    Cube,
)
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.line.source import LineSource
from spectile.pipeline.pair.source import Pair
from spectile.pipeline.pair.warp import MirroredSource, WarpedSource
from spectile.pipeline.plan.cost import Estimate
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.scene.source import Scene

LOG = logging.getLogger("spectile")


class Observer(Protocol):
    """Observes the progress of a run."""

    def begin(self, plan: Plan, estimate: Estimate, done: Sequence[Block]) -> None:
        """Told once, before the first block; ``done`` are those of an earlier run."""
        ...

    def tiles(self, count: int) -> None:
        """Told when tiles have been finished or skipped; negative when tiles are recomputed."""
        ...

    def block(self, block: Block, seconds: float) -> None:
        """Told when a block has been written."""
        ...


class Silent:
    """An observer that says nothing."""

    def begin(self, plan: Plan, estimate: Estimate, done: Sequence[Block]) -> None:
        """Nothing."""

    def tiles(self, count: int) -> None:
        """Nothing."""

    def block(self, block: Block, seconds: float) -> None:
        """Nothing."""


class Workers(Protocol):
    """Processes that make the blocks of a run."""

    def process_blocks(
        self, prepared: Prepared, cube: Cube, blocks: Sequence[Block], *, tally: Tally, observer: Observer
    ) -> None:
        """Compute and write blocks; those that cannot be made are noted in the tally."""
        ...

    def close(self) -> None:
        """End them."""
        ...


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start."""

    settings: SceneSettings | LineSettings | FuseSettings
    """What the user set."""
    source: Scene | LineSource | Pair
    """The scene, the flight line, or the pair."""
    predictor: Predictor
    """The network."""
    plan: Plan
    """What will be done."""
    estimate: Estimate
    """What it costs."""
    crew: Workers | None = None
    """The processes that make the blocks; None is this one."""
    pair: bytes | None = None
    """The file of the pair's estimates, which the cube keeps; None of no pair."""

    @property
    def sources(self) -> Mapping[str, Scene | LineSource | WarpedSource | MirroredSource]:
        """The scene by the name of the network's input; the two of a pair by theirs."""
        if isinstance(self.source, Pair):
            return self.source.sources
        return {spec.name: self.source for spec in self.predictor.inputs}

    @property
    def seconds_per_tile(self) -> float | None:
        """Time of one tile and one sample, if it was measured."""
        tiles = (self.estimate.tiles - self.estimate.tiles_masked) * self.plan.samples
        return None if self.estimate.hours is None else self.estimate.hours * 3600 / tiles

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *_: object) -> None:
        if self.crew is not None:
            self.crew.close()


@dataclass(frozen=True)
class Result:
    """What a run did."""

    cube: str
    """The store."""
    quicklook: str | None
    """The picture beside it; None where the cube was not finished."""
    report: str | None
    """The report beside it; None where the cube was not finished, or where it could not be made."""
    item: str
    """The STAC item beside it."""
    blocks_done: int
    """Blocks that are done, those of earlier runs included."""
    blocks_failed: int
    """Blocks that could not be made."""
    failures: tuple[str, ...]
    """Why, a line each."""
    megapixels: float
    """Pixels written by this run, in millions."""
    seconds: float
    """Wall time of this run."""
    tiles: int
    """Tiles that went through the network in this run."""
    tiles_skipped: int
    """Tiles left out in this run because the scene is masked there."""
    tiles_kept: int
    """Tiles that this run had predicted for another block already."""
    redundancy: float
    """Tiles predicted so far, divided by the tiles of the cube's lattice; below 1 if some are masked."""
    peak_memory_bytes: int
    """Most memory that this process, or a worker, has held."""

    @property
    def megapixels_per_second(self) -> float:
        """Speed of this run."""
        return self.megapixels / self.seconds if self.seconds > 0 else 0.0


@dataclass
class Tally:
    """What has been done so far; blocks add to it."""

    done: int = 0
    """Blocks done."""
    tiles: int = 0
    """Tiles predicted."""
    tiles_skipped: int = 0
    """Tiles left out."""
    tiles_kept: int = 0
    """Tiles that had been predicted for another block."""
    pixels: int = 0
    """Pixels written."""
    peak_memory_bytes: int = 0
    """Most memory that a worker has held."""
    failures: list[str] = field(default_factory=list)
    """Why blocks failed, a line each."""

    def add(self, plan: Plan, block: Block, marker: Marker) -> None:
        """Count a block that is done."""
        self.done += 1
        self.tiles += marker.tiles
        self.tiles_skipped += marker.tiles_skipped
        self.tiles_kept += marker.tiles_kept
        self.pixels += plan.pixels(block)

    def fail(self, block: Block, why: object) -> None:
        """Note a block that is given up."""
        LOG.error("block %s failed: %s", block.name, why)
        self.failures.append(f"block {block.name}: {why}")


@dataclass(frozen=True)
class Told:
    """Adds what a run of blocks did to a tally, and tells an observer."""

    plan: Plan
    tally: Tally
    observer: Observer

    def tiles(self, count: int) -> None:
        """Forward it."""
        self.observer.tiles(count)

    def done(self, block: Block, marker: Marker, seconds: float) -> None:
        """Count a block."""
        self.tally.add(self.plan, block, marker)
        self.observer.block(block, seconds)

    def failed(self, block: Block, error: BlockError) -> None:
        """Note a block."""
        self.tally.fail(block, error)


def peak_memory_bytes() -> int:
    """The most memory that this process has held."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # On Linux it also counts the program that started the process, which may be larger.
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
