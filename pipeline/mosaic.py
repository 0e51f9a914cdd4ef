"""One block of a cube: its tiles, what the network makes of them, and their blended sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from catalog.calibration import Calibration
from pipeline.blend import tile_weights
from pipeline.grid import Window
from pipeline.predict import Predictor
from pipeline.tiling import Block, Tile, Tiling


class Source(Protocol):
    """What a block needs of a scene."""

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Reflectance (3, h, w) float32 and validity (h, w) bool of a window, mirrored outside."""
        ...


@dataclass(frozen=True)
class Mosaic:
    """The blended samples of one block."""

    samples: NDArray[np.float32]
    """(K, B, h, w) float32, reflectance. Where not valid the values mean nothing."""
    valid: NDArray[np.bool_]
    """(h, w) bool, where the scene is valid."""
    tiles: int
    """Tiles that went through the network."""
    tiles_skipped: int
    """Tiles left out because the scene is masked all over them."""
    calibration: Calibration | None = None
    """What the samples' spread is worth; the predictor's."""


def mosaic_block(
    block: Block,
    *,
    source: Source,
    tiling: Tiling,
    predictor: Predictor,
    samples: int,
    on_tiles: Callable[[int], None] = lambda done: None,
) -> Mosaic:
    """The blended block. Tiles are summed in the lattice's order, whatever the block or the batch.

    A tile that is masked all over is left out. Every tile that touches a valid pixel holds one, so the
    weights of a valid pixel add up to one without being renormalised.

    Parameters
    ----------
    on_tiles : told how many tiles have been finished since the last call.
    """
    shape = block.window.shape
    extent = _extent(tiling, block.window)
    rgb, valid = source.read(extent)
    rgb = np.where(valid, rgb, predictor.fill[:, None, None])
    summed = np.zeros((samples, len(predictor.bands), *shape), dtype=np.float32)
    tiles = list(tiling.tiles(block.window))
    wanted = [tile for tile in tiles if valid[tile.window.relative_to(extent).slices].any()]
    on_tiles(len(tiles) - len(wanted))
    for batch in _batched(wanted, predictor.batch):
        cuts = [tile.window.relative_to(extent).slices for tile in batch]
        predictions = predictor.predict(
            np.stack([rgb[(slice(None), *cut)] for cut in cuts]),
            np.stack([valid[cut] for cut in cuts]),
            np.array([(tile.window.row, tile.window.col) for tile in batch], dtype=np.int64),
            range(samples),
        )
        for sample, spectra in enumerate(predictions):
            for tile, spectrum in zip(batch, spectra, strict=True):
                shared = tile.window.intersection(block.window)
                inside = spectrum[(slice(None), *shared.relative_to(tile.window).slices)]
                target = summed[(sample, slice(None), *shared.relative_to(block.window).slices)]
                target += inside * tile_weights(tiling, tile, shared)
        on_tiles(len(batch))
    inner = valid[block.window.relative_to(extent).slices].copy()
    return Mosaic(summed, inner, len(wanted), len(tiles) - len(wanted), predictor.calibration)


def _extent(tiling: Tiling, window: Window) -> Window:
    tiles = [tile.window for tile in tiling.tiles(window)]
    return tiles[0].union(tiles[-1])


def _batched(tiles: list[Tile], size: int) -> Iterator[list[Tile]]:
    rest = iter(tiles)
    while batch := list(islice(rest, size)):
        yield batch
