from dataclasses import dataclass, replace

import numpy as np
import pytest

from spectile.catalog.bands import Bands
from spectile.catalog.inputs import Batch, InputSpec, Raster
from spectile.pipeline.block.mosaic import Kept, Mosaic, extent, mosaic_block, read_inputs
from spectile.pipeline.geometry.blend import tile_weights
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Block, Tiling, blocks, reflected
from tests.pipeline.fakes import Mixing, Positional, made


@dataclass(frozen=True)
class Held:
    """A scene in memory."""

    rgb: np.ndarray
    valid: np.ndarray

    def read(self, window):
        rows = reflected(window.row, window.row_stop, self.valid.shape[0])[:, None]
        cols = reflected(window.col, window.col_stop, self.valid.shape[1])
        rgb = np.where(self.valid, self.rgb, np.nan)
        return Raster(rgb[:, rows, cols].astype(np.float32), self.valid[rows, cols])


def scene(rows=150, cols=210, seed=0) -> Held:
    rng = np.random.default_rng(seed)
    return Held(rng.random((3, rows, cols), np.float32), np.ones((rows, cols), bool))


def whole(held, tiling, predictor=None, *, block=None, samples=1) -> Mosaic:
    window = Window(0, 0, *held.valid.shape)
    size = block or max(window.shape)
    out = np.zeros((samples, 6, *window.shape), np.float32)
    valid = np.zeros(window.shape, bool)
    tiles = skipped = 0
    for each in blocks(window, size):
        part = made(each, source=held, tiling=tiling, predictor=predictor or Positional(), samples=samples)
        out[(slice(None), slice(None), *each.window.slices)] = part.samples
        valid[each.window.slices] = part.valid
        tiles, skipped = tiles + part.tiles, skipped + part.tiles_skipped
    return Mosaic(out, valid, tiles, skipped)


@pytest.mark.parametrize("block", [32, 50, 64, 1000])
@pytest.mark.parametrize("batch", [1, 2, 8])
def test_block_and_batch_change_not_one_bit(block, batch):
    held, tiling = scene(), Tiling((150, 210), 64, 8)
    reference = whole(held, tiling, Positional(leak=0.3), samples=2)
    other = whole(held, tiling, Positional(leak=0.3, batch=batch), block=block, samples=2)
    np.testing.assert_array_equal(other.samples, reference.samples)


def test_a_predictor_of_single_pixels_gives_the_same_through_any_tiling():
    held = scene()
    plain = whole(held, Tiling((150, 210), 256, 0))
    for tiling in (Tiling((150, 210), 64, 8), Tiling((150, 210), 40, 10), Tiling((150, 210), 1000, 32)):
        np.testing.assert_allclose(whole(held, tiling).samples, plain.samples, atol=3e-7)


@pytest.mark.parametrize("shape", [(20, 20), (20, 300), (300, 20), (65, 49), (1, 1)])
def test_scenes_smaller_than_a_tile_are_covered(shape):
    held, tiling = scene(*shape), Tiling(shape, 64, 8)
    expected = next(Positional().predict(Batch.of_colours(held.rgb[None]), range(1)))[0]
    np.testing.assert_allclose(whole(held, tiling).samples[0], expected, atol=3e-7)


def test_a_region_equals_the_same_part_of_the_whole():
    held, tiling = scene(), Tiling((150, 210), 64, 8)
    reference = whole(held, tiling, Positional(leak=0.3))
    region = Window(37, 61, 70, 90)
    part = made(Block(0, 0, region), source=held, tiling=tiling, predictor=Positional(leak=0.3), samples=1)
    np.testing.assert_array_equal(part.samples[0], reference.samples[(0, slice(None), *region.slices)])


@pytest.mark.parametrize("hole", [np.s_[40:60, :], np.s_[0:150, 0:190], np.s_[70:71, 80:81]])
def test_values_under_a_mask_change_not_one_bit_of_a_valid_output(hole):
    held, tiling = scene(), Tiling((150, 210), 64, 8)
    held.valid[hole] = False
    first = whole(held, tiling, Positional(leak=0.3))
    for value in (0.0, 1e9, np.nan):
        changed = replace(held, rgb=held.rgb.copy())
        changed.rgb[:, ~held.valid] = value
        second = whole(changed, tiling, Positional(leak=0.3))
        np.testing.assert_array_equal(second.samples[0][:, held.valid], first.samples[0][:, held.valid])
        np.testing.assert_array_equal(second.valid, held.valid)
    assert np.isfinite(first.samples[0][:, held.valid]).all()


def test_tiles_that_are_masked_all_over_are_skipped_and_counted():
    held, tiling = scene(300, 300), Tiling((300, 300), 64, 8)
    held.valid[:, 100:] = False
    told = []
    mosaic = made(
        Block(0, 0, Window(0, 0, 300, 300)), source=held, tiling=tiling, predictor=Positional(), samples=1,
        on_tiles=told.append,
    )  # fmt: skip
    assert mosaic.tiles == 7 * 3
    assert mosaic.tiles + mosaic.tiles_skipped == 49 == sum(told)
    expected = next(Positional().predict(Batch.of_colours(held.rgb[None]), range(1)))[0]
    np.testing.assert_allclose(mosaic.samples[0][:, held.valid], expected[:, held.valid], atol=3e-7)


def test_samples_are_drawn_from_their_own_index():
    held, tiling = scene(), Tiling((150, 210), 64, 8)
    three = whole(held, tiling, samples=3)
    np.testing.assert_array_equal(three.samples[:1], whole(held, tiling).samples)
    assert np.abs(three.samples[1] - three.samples[0]).max() > 1e-3


@pytest.mark.parametrize("overlapped", [False, True])
@pytest.mark.parametrize(("block", "batch"), [(1000, 3), (50, 1), (64, 8)])
def test_shares_are_the_blended_mean_of_the_samples_whatever_the_block_and_batch(block, batch, overlapped):
    held, tiling, samples = scene(), Tiling((150, 210), 64, 8), 3
    predictor = Mixing(leak=0.3, batch=batch)
    found, kept = np.zeros((3, 150, 210), np.float32), Kept() if overlapped else None
    order = list(blocks(Window(0, 0, 150, 210), block))
    for each, then in zip(order, [*order[1:], None], strict=True):
        part = made(each, source=held, tiling=tiling, predictor=predictor, samples=samples, kept=kept,
                    then=then and then.window)  # fmt: skip
        assert (part.samples.shape[1], part.shares) == (9, 3)
        found[(slice(None), *each.window.slices)] = part.samples[:, 6:].mean(axis=0)
    # One tile after the other, blended as spectra are, each sample by itself.
    expected, plain = np.zeros_like(found), Mixing(leak=0.3)
    for tile in tiling.tiles(Window(0, 0, 150, 210)):
        raster = held.read(tile.window)
        origins = np.array([[tile.window.row, tile.window.col]])
        batch_of_one = Batch.of_colours(raster.values[None], origins=origins)
        mean = np.mean([one[0, 6:] for one in plain.predict(batch_of_one, range(samples))], axis=0)
        inside = tile.window.intersection(Window(0, 0, 150, 210))
        cut = (slice(None), *inside.relative_to(tile.window).slices)
        expected[(slice(None), *inside.slices)] += mean[cut] * tile_weights(tiling, tile, inside)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    whole_block = made(Block(0, 0, Window(0, 0, 150, 210)), source=held, tiling=tiling,
                       predictor=Mixing(leak=0.3), samples=samples)  # fmt: skip
    np.testing.assert_array_equal(found, whole_block.samples[:, 6:].mean(axis=0))


@dataclass
class Ramp:
    """An endless raster whose values are its own rows and columns; a row is masked."""

    masked_row: int

    def read(self, window):
        rows = np.arange(window.row, window.row_stop, dtype=np.float32)[:, None]
        cols = np.arange(window.col, window.col_stop, dtype=np.float32)
        values = np.stack([rows + 0 * cols, cols + 0 * rows])
        return Raster(values, np.broadcast_to(rows != self.masked_row, window.shape).copy())


TWO = Bands((500.0, 600.0), (10.0, 10.0))


@dataclass
class Both:
    """A predictor of two inputs, the second four times as coarse: it gives the coarse rows and columns."""

    stride: int = 4
    batch: int = 2
    bands: Bands = TWO
    calibration: None = None
    settings: tuple = ()
    inputs: tuple = (
        InputSpec("fine", TWO, (0.0, 0.0)),
        InputSpec("coarse", TWO, (-1.0, -1.0), ratio=4),
    )

    def predict(self, batch, samples):
        for _ in samples:
            yield batch.rasters["coarse"].values.repeat(4, axis=2).repeat(4, axis=3)

    def memory(self, tile):
        return 0


@pytest.mark.parametrize("block", [32, 1000])
def test_a_coarser_input_is_read_where_the_finer_one_is(block):
    shape = (96, 128)
    tiling = Tiling(shape, 64, 8)
    sources = {"fine": Ramp(-1), "coarse": Ramp(20)}
    for each in blocks(Window(0, 0, *shape), block):
        reading = read_inputs(sources, Both.inputs, extent(tiling, each.window))
        part = mosaic_block(each, reading=reading, tiling=tiling, predictor=Both(), samples=1)
        rows = np.arange(each.window.row, each.window.row_stop)[:, None] // 4
        cols = np.arange(each.window.col, each.window.col_stop) // 4
        masked = rows == 20
        np.testing.assert_array_equal(part.valid, np.broadcast_to(~masked, each.window.shape))
        expected = np.where(masked, -1, np.stack(np.broadcast_arrays(rows, cols)))
        np.testing.assert_allclose(part.samples[0], expected, atol=1e-4)
