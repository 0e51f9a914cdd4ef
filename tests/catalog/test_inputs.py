"""Inputs of a model: what they hold, and how a batch of them is made."""

import numpy as np
import pytest

from spectile.catalog.bands import RGB_CAMERA, Bands
from spectile.catalog.errors import UsageError
from spectile.catalog.inputs import Batch, InputSpec, Raster, even_batch

COARSE = InputSpec("coarse", Bands.evenly_spaced(400, 900, 5), (0.1, 0.2, 0.3, 0.4, 0.5), ratio=4)


def test_masked_pixels_hold_the_fill_of_their_channel_and_others_stay():
    raster = Raster(np.full((5, 2, 3), np.nan, np.float32), np.zeros((2, 3), bool))
    raster.values[:, 0, 1], raster.valid[0, 1] = 0.9, True
    filled = COARSE.filled(raster)
    np.testing.assert_array_equal(filled.values[:, 0, 1], np.full(5, 0.9, np.float32))
    np.testing.assert_array_equal(filled.values[:, 1, 2], np.float32([0.1, 0.2, 0.3, 0.4, 0.5]))
    stacked = COARSE.filled(Raster(raster.values[None], raster.valid[None]))
    np.testing.assert_array_equal(stacked.values[0], filled.values)


def test_an_input_whose_fill_or_ratio_cannot_be_is_refused():
    with pytest.raises(UsageError, match=r"rgb needs one fill value a channel \(got 2, expected 3\)"):
        InputSpec("rgb", RGB_CAMERA, (0.1, 0.2))
    with pytest.raises(UsageError, match="ratio"):
        InputSpec("rgb", RGB_CAMERA, (0.1, 0.2, 0.3), ratio=0)


def test_an_even_batch_has_every_input_at_its_own_resolution():
    rgb = InputSpec("rgb", RGB_CAMERA, (0.1, 0.2, 0.3))
    batch = even_batch((rgb, COARSE), 2, 64)
    assert len(batch) == batch.size == 2
    assert {name: raster.values.shape for name, raster in batch.rasters.items()} == {
        "rgb": (2, 3, 64, 64), "coarse": (2, 5, 16, 16),
    }  # fmt: skip
    assert batch.rasters["coarse"].values[1, 4].max() == np.float32(0.5)


def test_a_batch_of_colours_is_valid_and_at_the_origin_unless_told_otherwise():
    batch = Batch.of_colours(np.zeros((3, 3, 8, 8), np.float32))
    assert batch.rasters["rgb"].valid.all()
    assert batch.origins.tolist() == [[0, 0]] * 3
