"""What the ladder's networks are trained on."""

from __future__ import annotations

import numpy as np
import torch

from spectile.model.closed.regressions import Floats
from spectile.model.measure.ladder_training import STILL, PairSource, padded_image, whole


def _scene() -> tuple[Floats, Floats]:
    """(3, 16, 24) input, which is bands 9, 5 and 1 of a (12, 16, 24) cube."""
    cube = np.random.default_rng(0).random((12, 16, 24), dtype=np.float32)
    return cube[[9, 5, 1]], cube


TRAIN = _scene()


def test_crops_keep_input_and_truth_together_whatever_way_they_are_turned() -> None:
    rgb, cube = TRAIN
    batch = PairSource(rgb, cube).batch((0,), count=6, size=8, augmentation=None)
    assert batch.rgb.equal(batch.target[:, [9, 5, 1]])
    turned = PairSource(rgb, cube).batch((0,), count=6, size=8, augmentation=STILL)
    assert turned.rgb.equal(turned.target[:, [9, 5, 1]])
    assert not turned.rgb.equal(batch.rgb)


def test_closed_forms_are_fitted_to_every_pixel_once() -> None:
    rgb, spectra, bands = PairSource(*TRAIN).pixels(0, STILL, crop=8)
    assert rgb.equal(spectra[:, [9, 5, 1]])
    np.testing.assert_array_equal(spectra.T.reshape(TRAIN[1].shape), TRAIN[1])
    assert bool((bands == 1).all())


def test_an_image_is_reflected_to_the_networks_stride_and_only_its_own_pixels_count() -> None:
    rgb, cube = (part[:, :13, :10] for part in TRAIN)
    padded, height, width = padded_image(rgb)
    assert (tuple(padded.shape), height, width) == ((1, 3, 16, 16), 13, 10)
    assert torch.equal(padded[0, :, 13], padded[0, :, 12])
    batch = whole(rgb, cube)
    assert int(batch.valid.sum()) == 13 * 10
    np.testing.assert_array_equal(batch.target[0, :, :13, :10].numpy(), cube)
    assert float(batch.target[0, :, 13:].abs().max()) == 0.0
