import numpy as np
import pytest

from spectile.pipeline.geometry.blend import tile_weights
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.product.quality import near_borders, seams

SHAPE = (700, 900)
TILING = Tiling(SHAPE, 128, 16)
WHOLE = Window(0, 0, *SHAPE)


def blended(noise_of) -> np.ndarray:
    out = np.zeros((4, *SHAPE))
    for tile in TILING.tiles():
        shared = tile.window.intersection(WHOLE)
        noise = noise_of(tile)[(slice(None), *shared.relative_to(tile.window).slices)]
        out[(slice(None), *shared.slices)] += noise * tile_weights(TILING, tile, shared)
    return out


def test_a_field_keyed_on_place_shows_no_lattice():
    field = np.random.default_rng(0).normal(size=(4, 1200, 1200))

    def keyed(tile):
        row, col = tile.window.row + 100, tile.window.col + 100
        return field[:, row : row + 128, col : col + 128]

    found = seams(blended(keyed), TILING, WHOLE)
    assert found.sd_ratio == pytest.approx(1.0, abs=0.01)
    assert found.lattice_peak < 2


def test_independent_noise_a_tile_is_found_out_by_both_measures():
    rng = np.random.default_rng(0)
    found = seams(blended(lambda tile: rng.normal(size=(4, 128, 128))), TILING, WHOLE)
    assert found.sd_ratio < 0.9
    assert found.lattice_peak > 20


def test_a_level_of_its_own_in_each_tile_is_found_out():
    rng = np.random.default_rng(0)
    plain = np.random.default_rng(1).normal(size=(4, *SHAPE))
    levels = blended(lambda tile: np.full((4, 128, 128), rng.normal()))
    assert seams(plain + 0 * levels, TILING, WHOLE).lattice_peak < 2
    assert seams(0.05 * plain + levels, TILING, WHOLE).lattice_peak > 5


def test_overlaps_are_where_two_tiles_have_a_share():
    count = np.zeros(SHAPE, int)
    for tile in TILING.tiles():
        count[tile.window.intersection(WHOLE).slices] += 1
    np.testing.assert_array_equal(near_borders(TILING, WHOLE), count > 1)
    part = Window(50, 60, 300, 400)
    np.testing.assert_array_equal(near_borders(TILING, part), (count > 1)[part.slices])
