"""Crops through several cameras and tone curves; without them batches are what they always were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spectile.catalog.bands import (
    RGB_CAMERA,
    SENSORS,
    VNIR48,
    Bands,
    MeasuredBands,
    NearestBands,
    resampling_matrix,
)
from spectile.model.data.crops import Augmentation, Batch, CameraResponse, CropSource, TrainingScene

KEY = (0, 1, 7)
STILL = Augmentation(
    nominal=0.0, centre_nm=0.0, width_factor=(1.0, 1.0), illumination=(1.0, 1.0), texture=0.0,
    input_gain=0.0, channel_gain=0.0, sensor_noise=0.0, masked=0.0,
)  # fmt: skip


def _scene(seed: int, bands: Bands) -> TrainingScene:
    rng = np.random.default_rng(seed)
    cube = (rng.integers(0, 4096, (len(bands), 40, 40)) / 4096).astype(np.float32)
    valid = np.ones((40, 40), bool)
    valid[:3] = False
    return TrainingScene(f"s{seed}", cube, bands, valid, 1.0 + seed)


FILL = np.array([0.1, 0.2, 0.3], np.float32)
SOURCE = CropSource(
    [_scene(0, VNIR48), _scene(1, Bands.evenly_spaced(400.0, 1000.0, 61))], VNIR48, RGB_CAMERA, FILL
)


def _batch(augmentation: Augmentation | None, key: tuple[int, ...] = KEY, count: int = 6) -> Batch:
    return SOURCE.batch(key, count=count, size=32, augmentation=augmentation)


def test_default_batches_stay_what_they_were() -> None:
    # Measured before responses and tone curves came; another draw anywhere moves both sums by far more.
    batch = _batch(Augmentation())
    assert batch.rgb.double().sum().item() == pytest.approx(9672.062117516994, rel=1e-7)
    assert batch.target.double().sum().item() == pytest.approx(145342.6746308026, rel=1e-7)


def _responses() -> tuple[CameraResponse, ...]:
    nm = np.arange(400.0, 701.0)
    square = MeasuredBands.from_curves(nm, [np.abs(nm - centre) < 20 for centre in (620, 540, 460)])
    single = NearestBands((640.0, 550.0, 460.0), (1.0, 1.0, 1.0))
    return (CameraResponse(RGB_CAMERA, 0.5), CameraResponse(square), CameraResponse(single, 2.0))


def test_crops_draw_their_response_by_weight() -> None:
    responses = _responses()
    batch = _batch(replace(STILL, responses=responses), count=60)
    counts = [0, 0, 0]
    for crop in range(60):
        if not batch.bands[crop].all():  # the other scene's own bands are not in the batch
            continue
        cube = _original(batch, crop).flatten(1)
        seen = [torch.tensor(resampling_matrix(VNIR48, each.bands)[0]).float() @ cube for each in responses]
        valid = batch.valid[crop].flatten() > 0
        errors = [float((one - batch.rgb[crop].flatten(1)).abs()[:, valid].max()) for one in seen]
        counts[int(np.argmin(errors))] += 1
    assert sum(counts) > 5
    assert counts[2] > counts[0]


def _original(batch: Batch, crop: int) -> torch.Tensor:
    """The crop in the scene's own bands; the target is those bands resampled to themselves."""
    matrix = torch.tensor(resampling_matrix(VNIR48, VNIR48)[0]).float()
    return torch.linalg.solve(matrix, batch.target[crop].flatten(1)).reshape(48, 32, 32)


def test_batches_with_every_option_are_functions_of_their_key() -> None:
    augmentation = Augmentation(nominal=0.2, gamma=0.2, responses=_responses())
    first, again, other = (_batch(augmentation, key) for key in (KEY, KEY, (0, 1, 8)))
    assert torch.equal(first.rgb, again.rgb)
    assert torch.equal(first.target, again.target)
    assert not torch.equal(first.rgb, other.rgb)


def test_the_expected_response_is_left_alone_where_nothing_is_varied() -> None:
    augmentation = replace(STILL, nominal=1.0, responses=_responses(), gamma=0.5)
    plain = _batch(replace(STILL, nominal=1.0))
    assert torch.equal(_batch(augmentation).rgb, plain.rgb)


def test_gamma_bends_the_input_alone() -> None:
    plain, bent = _batch(STILL, count=1), _batch(replace(STILL, gamma=0.3), count=1)
    assert torch.equal(plain.target, bent.target)
    valid = plain.valid[0] > 0
    before, after = plain.rgb[0][:, valid].double(), bent.rgb[0][:, valid].double()
    gamma = (after.log() / before.log()).flatten()
    assert abs(float(gamma.median()) - 1.0) > 0.01
    assert torch.allclose(gamma, gamma.median(), rtol=1e-4)


def test_a_response_that_moves_beyond_the_scene_stays_where_it_was() -> None:
    scene = _scene(0, Bands.evenly_spaced(475.0, 900.0, 61))
    source = CropSource([scene], VNIR48, SENSORS["worldview3"])
    varied = replace(STILL, centre_nm=60.0)
    for number in range(12):
        batch = source.batch((number,), count=2, size=16, augmentation=varied)
        assert batch.rgb[(batch.valid > 0)[:, None].expand_as(batch.rgb)].min() > 0
