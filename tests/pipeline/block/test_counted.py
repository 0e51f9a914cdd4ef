"""Blocks of tiles that need no blending."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from spectile.catalog.calibration import Calibration
from spectile.catalog.counts import NODATA
from spectile.catalog.errors import BlockError
from spectile.pipeline.block.counted import count_block
from spectile.pipeline.block.mosaic import Kept, extent, mosaic_block, read_inputs
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Block, Tiling, blocks
from tests.pipeline.block.test_mosaic import Held, scene
from tests.pipeline.fakes import Positional

SHAPE = (150, 210)
TILING = Tiling(SHAPE, 64, 8, 0, 8)
LAYERS = ("sd", "q05", "q95")
FITTED = Calibration(4, (2.0,) * 6, (-3.0,) * 6, (1.0,) * 6)
NAMES = ("reflectance", "reflectance_sd", "reflectance_q05", "reflectance_q95")


@dataclass
class Local(Positional):
    """A pixel depends on itself alone, as far as the halo of TILING goes."""

    reach: int | None = 8
    calibration: Calibration | None = FITTED


def one(held: Held, block: Block, tiling=TILING, predictor=None, **options):
    predictor = predictor or Local()
    reading = read_inputs({"rgb": held}, predictor.inputs, extent(tiling, block.window))
    asked = {"samples": 4, "layers": LAYERS, **options}
    return count_block(block, reading=reading, tiling=tiling, predictor=predictor, **asked)


def everything(block):
    return slice(0, block.window.height), slice(0, block.window.width)


def whole(held: Held, size=1000, predictor=None, kept=None, window=None, **options):
    window = window or Window(0, 0, *held.valid.shape)
    out = {name: np.zeros((6, *window.shape), np.uint16) for name in NAMES}
    made = list(blocks(window, size))
    tiles = 0
    for block, then in zip(made, [*made[1:], None], strict=True):
        part = one(held, block, predictor=predictor, kept=kept, then=then and then.window, **options)
        tiles += part.tiles
        for name, counts in part.counts(LAYERS, everything(block)):
            out[name][(slice(None), *block.window.relative_to(window).slices)] = counts
    return out, tiles


def same(one, other):
    for name in NAMES:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("size", [32, 50, 64, 96])
@pytest.mark.parametrize("keep", [False, True])
def test_block_batch_and_kept_tiles_change_not_one_count(size, keep):
    held = scene()
    held.valid[30:70, 100:] = False
    reference, least = whole(held)
    other, tiles = whole(held, size, Local(batch=1), Kept() if keep else None)
    same(reference, other)
    # Blocks of 96 px are whole cores.
    assert keep or (tiles == least if size == 96 else tiles > least)


def test_kept_tiles_are_predicted_once():
    held = scene()
    _, alone = whole(held, 32)
    _, kept = whole(held, 32, kept=Kept())
    assert kept < alone


def test_the_counts_are_those_of_blended_tiles():
    held = scene()
    held.valid[60:64] = False
    block, predictor = Block(0, 0, Window(0, 0, *SHAPE)), Local()
    reading = read_inputs({"rgb": held}, predictor.inputs, extent(TILING, block.window))
    blended = mosaic_block(
        block, reading=reading, tiling=replace(TILING, blend=None), predictor=predictor, samples=4
    )
    counted = dict(one(held, block).counts(LAYERS, everything(block)))
    for name, counts in blended.counts(LAYERS, everything(block)):
        assert np.abs(counted[name].astype(int) - counts).max() <= 1, name
        assert (counts[:, ~held.valid] == NODATA).all()
        np.testing.assert_array_equal(counted[name] == NODATA, counts == NODATA)


def test_a_region_equals_the_same_part_of_the_whole():
    held = scene()
    reference, _ = whole(held)
    region = Window(37, 61, 70, 90)
    part, _ = whole(held, 48, window=region)
    same({name: counts[(slice(None), *region.slices)] for name, counts in reference.items()}, part)


@pytest.mark.parametrize("shape", [(20, 20), (20, 300), (65, 49), (1, 1)])
def test_scenes_smaller_than_a_tile_are_covered_by_tiles_cut_to_them(shape):
    held, tiling = scene(*shape), Tiling(shape, 64, 8, 0, 8)
    sides = {tile.window.shape for tile in tiling.tiles()}
    assert max(side for sides in sides for side in sides) <= 64
    assert all(height % 8 == 0 and width % 8 == 0 for height, width in sides)
    block = Block(0, 0, Window(0, 0, *shape))
    made = one(held, block, tiling, layers=())
    ((_, counts),) = made.counts((), everything(block))
    assert (counts < NODATA).all()
    assert tiling.mean_size * np.prod(tiling.counts) == sum(tile.window.size for tile in tiling.tiles())


def test_tiles_with_nothing_valid_in_their_cores_are_skipped_and_counted():
    held, told = scene(300, 300), []
    held.valid[:, 96:] = False
    block = Block(0, 0, Window(0, 0, 300, 300))
    made = one(held, block, Tiling((300, 300), 64, 8, 0, 8), on_tiles=told.append)
    assert (made.tiles, made.tiles_skipped) == (7 * 2, 7 * 5)
    assert sum(told) == 49
    for _, counts in made.counts(LAYERS, everything(block)):
        assert (counts[:, :, 96:] == NODATA).all()
        assert (counts[:, :, :96] < NODATA).all()


def test_what_is_not_finite_is_refused_with_its_tile():
    class Broken(Local):
        def predict(self, batch, samples):
            for spectra in super().predict(batch, samples):
                spectra[:, 2, 20, 20] = np.where(batch.origins[:, 0] > 0, np.nan, 0.2)
                yield spectra

    block = Block(0, 0, Window(0, 0, *SHAPE))
    with pytest.raises(BlockError, match=r"tile r0001c0000: the prediction is not finite"):
        one(scene(), block, predictor=Broken())
