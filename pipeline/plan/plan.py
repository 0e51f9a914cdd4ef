"""What a run will do, before it does it: tiles, blocks, settings and their digest. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from spectile.catalog.choices import Layer, QualityLayer
from spectile.catalog.errors import UsageError
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.levels import Level, levels
from spectile.pipeline.geometry.tiling import Block, Tiling, blocks
from spectile.pipeline.plan.layers import choose_layers
from spectile.pipeline.plan.quality_layers import choose_quality
from spectile.pipeline.plan.shares import Share, cells

CHUNK = 256
"""Rows and columns of a chunk of the cube."""
SHARD = 512
"""Rows and columns of a shard, the file that is written whole. Blocks are multiples of it."""
MOST_BANDS = 1024
"""Most bands of a cube; a shard of them has half a GB before compression."""
MOST_SHARDS = 2**20
"""Most shards of an array, 275 gigapixels; plans list them."""
LONGEST_SIDE = 10_000_000
"""Most rows or columns of a cube; its coordinates list them."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides a cube's values."""

    grid: Grid
    """The whole scene's grid; the lattice and the noise are anchored to it."""
    window: Window
    """The pixels of the scene that the cube holds."""
    tiling: Tiling
    """The lattice of tiles."""
    block: int
    """Rows and columns of a block. Changes the time a run takes, never a value."""
    bands: int
    """Number of bands of the cube."""
    samples: int = 1
    """Number of samples drawn at each pixel; the cube holds their mean."""
    layers: tuple[Layer, ...] = ()
    """Layers beside the mean, as ``choose_layers`` orders them."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Everything else that can change a value, as plain JSON values: scene, radiometry, model."""
    scenes: tuple[Share, ...] = ()
    """The scenes of a flight line, in order, and where each has a share; none for a single scene."""
    quality: tuple[QualityLayer, ...] = ()
    """Its quality layers, as ``choose_quality`` orders them."""
    clip: Share | None = None
    """The polygon that it is cut by, and what it meets; None where it is not cut."""

    def __post_init__(self) -> None:
        if self.window.size == 0 or not self.grid.window.contains(self.window):
            raise UsageError(
                "the region does not overlap the scene",
                expected="bounds within " + ",".join(f"{value:.10g}" for value in self.grid.bounds),
                remedy="give --region XMIN,YMIN,XMAX,YMAX in the scene's CRS",
            )
        shards = -(-self.window.height // SHARD) * -(-self.window.width // SHARD)
        if shards > MOST_SHARDS or max(self.window.shape) > LONGEST_SIDE:
            raise UsageError(
                "the region is too large for one cube", got="{} × {} px".format(*self.window.shape),
                expected=f"sides of up to {LONGEST_SIDE} px, and {MOST_SHARDS} squares of {SHARD} px",
                remedy="cut it with --region",
            )  # fmt: skip
        if not 1 <= self.bands <= MOST_BANDS:
            raise UsageError("too many bands for a cube", got=self.bands, expected=f"1 to {MOST_BANDS}")
        if self.block < SHARD or self.block % SHARD:
            raise UsageError(
                "a block must be whole shards", got=f"--block {self.block}", expected=f"a multiple of {SHARD}"
            )
        if self.samples < 1:
            raise UsageError("at least one sample is needed", got=f"--samples {self.samples}")
        if choose_layers(self.layers, self.samples) != self.layers:
            raise UsageError("layers twice or in another order", got=", ".join(self.layers))
        if choose_quality(self.quality, pair="pair" in self.settings) != self.quality:
            raise UsageError("unknown quality layers", got=", ".join(map(str, self.quality)))
        for share in self._shares:
            share.check(shards=(-(-self.window.height // SHARD), -(-self.window.width // SHARD)),
                        tiles=self.tiling.counts)  # fmt: skip
        if self._shares and not self._written_shards:
            raise UsageError(
                "no scene of the line has a valid pixel in the region" if self.scenes
                else "the polygon does not meet the region"
            )  # fmt: skip

    @property
    def blocks(self) -> list[Block]:
        """The blocks, row by row; of a flight line, and of what is clipped, those that hold data."""
        return [block for block in blocks(self.window, self.block) if self.shards(block)]

    def shards(self, block: Block) -> list[tuple[int, int]]:
        """(row, column) of the shards of a block that are written; see ``blocks``."""
        at = block.window.relative_to(self.window)
        rows = range(at.row // SHARD, -(-at.row_stop // SHARD))
        cols = range(at.col // SHARD, -(-at.col_stop // SHARD))
        return [(r, c) for r in rows for c in cols if not self._shares or (r, c) in self._written_shards]

    def pixels(self, block: Block) -> int:
        """The number of pixels of a block's shards."""
        at = block.window.relative_to(self.window)
        squares = (Window(row * SHARD, col * SHARD, SHARD, SHARD) for row, col in self.shards(block))
        return sum(square.intersection(at).size for square in squares)

    def computed_tiles(self, block: Block) -> int:
        """The number of tiles of a block that go through the network, as far as the plan knows."""
        span = self.tiling.span(block.window)
        if not self._shares:
            return span.size
        rows, cols = range(span.row, span.row_stop), range(span.col, span.col_stop)
        return sum((row, col) in self._reached_tiles for row in rows for col in cols)

    def lattice_tiles(self, blocks: Iterable[Block]) -> int:
        """The number of tiles that blocks need, those that they share once, as far as the plan knows."""
        spans = (self.tiling.span(block.window) for block in blocks)
        tiles = {
            (row, col)
            for span in spans
            for row in range(span.row, span.row_stop)
            for col in range(span.col, span.col_stop)
        }
        return len(tiles & self._reached_tiles if self._shares else tiles)

    @property
    def _shares(self) -> tuple[Share, ...]:
        """Whatever limits where the cube holds data."""
        return self.scenes if self.clip is None else (*self.scenes, self.clip)

    @cached_property
    def _written_shards(self) -> set[tuple[int, int]]:
        return self._held([cells(share.shards) for share in self.scenes],
                          None if self.clip is None else cells(self.clip.shards))  # fmt: skip

    @cached_property
    def _reached_tiles(self) -> set[tuple[int, int]]:
        return self._held([cells(share.tiles) for share in self.scenes],
                          None if self.clip is None else cells(self.clip.tiles))  # fmt: skip

    @staticmethod
    def _held(scenes: list[set[tuple[int, int]]], clip: set[tuple[int, int]] | None) -> set[tuple[int, int]]:
        """Cells that a scene reaches, if there are several, and that lie in the polygon, if there is one."""
        if not scenes:
            return clip or set()
        held = set().union(*scenes)
        return held if clip is None else held & clip

    @cached_property
    def levels(self) -> list[Level]:
        """The cube and its overviews, the finest first."""
        return levels(self.window.shape, (place for block in self.blocks for place in self.shards(block)))

    @property
    def cube_grid(self) -> Grid:
        """The grid of the cube."""
        return self.grid[self.window]

    def to_json(self) -> dict[str, object]:
        """The plan as plain values; ``block`` is left out, since it changes no value."""
        return {
            "scene": {
                "shape": list(self.grid.shape),
                "transform": list(self.grid.transform)[:6],
                "crs": self.grid.crs_wkt,
            },
            "window": [self.window.row, self.window.col, self.window.height, self.window.width],
            "tile": self.tiling.tile,
            "halo": self.tiling.halo,
            **({} if self.tiling.blend is None else {"blend": self.tiling.blend}),
            **({} if self.tiling.step is None else {"step": self.tiling.step}),
            "bands": self.bands,
            "samples": self.samples,
            "layers": list(self.layers),
            **({"quality": list(self.quality)} if self.quality else {}),
            "settings": dict(self.settings),
            **({"scenes": [share.to_json() for share in self.scenes]} if self.scenes else {}),
            **({"clip": self.clip.to_json()} if self.clip is not None else {}),
        }

    @cached_property
    def digest(self) -> str:
        """The sha256 of everything that can change a value of the cube."""
        return _sha256(self.to_json())

    def digest_of(self, block: Block) -> str:
        """The sha256 of everything that can change a value of a block.

        Of a flight line's scenes only those count that lie in one of the block's tiles: a scene added
        elsewhere does not change the block.
        """
        if not self.scenes:
            return self.digest
        if block not in self._digests:
            tiles = self.tiling.span(block.window)
            touching = [
                [number, dict(share.facts)]
                for number, share in enumerate(self.scenes, 1)
                if share.touches(tiles)
            ]
            self._digests[block] = _sha256({**self._without_scenes, "scenes": touching})
        return self._digests[block]

    @cached_property
    def _digests(self) -> dict[Block, str]:
        """Results are kept: the ledger is read again and again."""
        return {}

    @cached_property
    def _without_scenes(self) -> dict[str, object]:
        return replace(self, scenes=()).to_json()


def _sha256(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
