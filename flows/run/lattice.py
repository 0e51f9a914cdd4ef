"""The lattice of tiles that suits a model: see docs/decisions/0014-tiles-without-blending.md."""

from __future__ import annotations

import logging

from spectile.flows.run.settings import FuseSettings, FusionNetwork, Settings
from spectile.pipeline.block.predict import Predictor
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.plan import SHARD

LOG = logging.getLogger("spectile")

TILE, HALO = 256, 32
"""Pixels of a tile and of its halo where a model sees whole tiles."""
COMPARED = 8
"""Pixels on each side of a border that tiles share, where their disagreement is to be measured."""


def lattice(settings: Settings, predictor: Predictor, shape: tuple[int, int]) -> Tiling:
    """The lattice of tiles of a scene of so many rows and columns.

    Where it is known how far the network looks, the halo is that far, cores are as large as shards, and
    nothing is blended. Of a pair, sides are rounded up to whole pixels of the HSI.

    Raises
    ------
    UsageError : tile and halo do not fit each other.
    """
    stride, reach = predictor.stride, predictor.reach
    shared = COMPARED if "overlap_disagreement" in (settings.layers or ()) else 0
    needed = HALO if reach is None else _multiple(reach + shared, stride)
    halo = needed if settings.halo is None else settings.halo
    tile = settings.tile or (TILE if reach is None else _multiple(SHARD, stride) + 2 * halo)
    if isinstance(settings, FuseSettings | FusionNetwork):
        asked = tile, halo
        halo = _multiple(halo if reach is None else max(halo, needed), stride)
        tile = _multiple(max(tile, 4 * halo), stride)
        if (tile, halo) != asked:
            LOG.info("tiles of %d px with a halo of %d px: whole pixels of the HSI", tile, halo)
    if reach is None:
        return Tiling(shape, tile, halo)
    # With a smaller halo than the network looks, tiles disagree, and are blended wherever they overlap.
    return Tiling(shape, tile, halo, halo - reach if halo >= reach else None, stride)


def _multiple(size: int, of: int) -> int:
    """The least multiple that is not smaller."""
    return -(-size // of) * of
