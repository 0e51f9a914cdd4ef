"""The stand-in for a network: the colour, interpolated over the wavelengths."""

from __future__ import annotations

import numpy as np

from spectile.catalog.bands import RGB_CAMERA, Bands
from spectile.catalog.inputs import Batch
from spectile.pipeline.block.predict import BandsRepeat

RED, GREEN, BLUE = RGB_CAMERA.centre_nm


def _predict(predictor: BandsRepeat, rgb: np.ndarray) -> list[np.ndarray]:
    return list(predictor.predict(Batch.of_colours(rgb), range(3)))


def test_the_spectrum_goes_through_the_colours_and_is_level_beyond_them() -> None:
    between = (BLUE + GREEN) / 2
    bands = Bands((380.0, BLUE, between, GREEN, RED, 1000.0), (10.0,) * 6)
    rgb = np.random.default_rng(0).random((2, 3, 4, 5)).astype(np.float32)
    first, *others = _predict(BandsRepeat(bands), rgb)
    red, green, blue = rgb.swapaxes(0, 1)
    expected = np.stack([blue, blue, (blue + green) / 2, green, red, red], axis=1)
    assert first.dtype == np.float32
    np.testing.assert_allclose(first, expected, atol=1e-6)
    assert all(np.array_equal(first, other) for other in others), "it draws nothing"


def test_each_pixel_is_predicted_by_itself() -> None:
    rgb = np.random.default_rng(0).random((1, 3, 6, 7)).astype(np.float32)
    whole, *_ = _predict(BandsRepeat(), rgb)
    part, *_ = _predict(BandsRepeat(), rgb[:, :, 2:5, 3:])
    np.testing.assert_allclose(part, whole[:, :, 2:5, 3:], atol=1e-6)


def test_its_memory_holds_a_batch_of_spectra() -> None:
    spectra, *_ = _predict(BandsRepeat(batch=2), np.zeros((2, 3, 16, 16), np.float32))
    assert BandsRepeat(batch=2).memory(16) >= spectra.nbytes
    assert BandsRepeat(batch=4).memory(16) == 2 * BandsRepeat(batch=2).memory(16)
