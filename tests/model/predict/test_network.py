"""The network as the pipeline sees it, on the shipped weights."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.catalog.choices import Layer
from spectile.catalog.errors import NetworkError, UsageError
from spectile.catalog.inputs import Batch
from spectile.model import checkpoint
from spectile.model.predict.network import NetworkPredictor
from spectile.model.predict.predictor import load_predictor
from tests.model.predict.tiles import batch_of, predict, scene_of


def test_the_default_takes_at_least_four_steps_and_says_everything(predictor: NetworkPredictor) -> None:
    settings = predictor.settings
    assert int(str(settings["steps"])) >= 4
    assert settings["digest"] == checkpoint.load("vnir48").digest
    assert {"name", "digest", "steps", "sampler", "seed", "dtype", "device", "guidance"} <= settings.keys()
    json.dumps(settings)
    assert predictor.bands == VNIR48
    assert [(each.name, each.bands, each.ratio) for each in predictor.inputs] == [("rgb", RGB_CAMERA, 1)]
    assert 192 % predictor.stride == 0


def test_predictions_have_the_promised_shape_type_and_range(predictor: NetworkPredictor) -> None:
    cube = predict(predictor, scene_of(), [(0, 0), (16, 32)])
    assert cube.shape == (2, 48, 64, 64)
    assert cube.dtype == np.float32
    assert np.isfinite(cube).all()
    assert cube.min() >= 0.0
    assert cube.max() <= 1.6


def test_calls_at_once_count_what_calls_in_turn_do(predictor: NetworkPredictor) -> None:
    # As on an accelerator, which takes two at a time.
    batches = [batch_of(scene_of(), [(0, at), (32, at)], 64) for at in (0, 16, 48)]
    cut = slice(8, 56), slice(8, 56)
    layers: tuple[Layer, ...] = ("sd",)
    in_turn = [predictor.count(batch, 2, layers, cut) for batch in batches]
    with ThreadPoolExecutor(2) as pool:
        at_once = list(pool.map(lambda batch: predictor.count(batch, 2, layers, cut), batches * 2))
    for (counts, finite), (expected, known) in zip(at_once, in_turn * 2, strict=True):
        assert np.array_equal(finite, known)
        assert all(np.array_equal(counts[part], expected[part]) for part in ("mean", "sd"))


def test_beyond_its_reach_nothing_changes_by_a_stored_count(predictor: NetworkPredictor) -> None:
    reach, edge = predictor.reach, 40
    assert reach is not None
    scene = scene_of()[:, :32, :128]
    mirrored = scene.copy()
    mirrored[..., :edge] = scene[..., 2 * edge : edge : -1]
    known, found = (predict(predictor, each, [(0, 0)], 128)[0] for each in (scene, mirrored))
    rms = np.sqrt(np.square(found - known).mean(axis=(0, 1)))[edge:] / 1e-4
    assert rms[: reach // 2].max() > 1
    assert rms[reach:].max() < 1


def test_a_tile_does_not_depend_on_its_company(predictor: NetworkPredictor) -> None:
    scene = scene_of()
    together = predict(predictor, scene, [(0, 0), (32, 64), (96, 8)])
    alone = predict(predictor, scene, [(32, 64)])
    assert np.abs(together[1] - alone[0]).max() < 1e-5


def test_overlapping_tiles_agree_away_from_their_edges(predictor: NetworkPredictor) -> None:
    scene = scene_of()
    left, right = predict(predictor, scene, [(0, 0), (0, 32)], size=128)
    shared = np.abs(left[:, 48:80, 80:96] - right[:, 48:80, 48:64])
    assert shared.mean() < 2e-3


@pytest.mark.parametrize("layers", [(), ("sd", "q05", "q95")])
def test_counts_are_those_of_the_samples(predictor: NetworkPredictor, layers: tuple[Layer, ...]) -> None:
    batch, samples = batch_of(scene_of(), [(0, 0), (16, 32)], 32), 4 if layers else 1
    cut = slice(4, 20), slice(8, 32)
    counts, finite = predictor.count(batch, samples, layers, cut)
    assert finite.tolist() == [True, True]
    assert list(counts) == ["mean", *layers]
    drawn = np.stack([*predictor.predict(batch, range(samples))])[..., 4:20, 8:32]
    assert np.abs(counts["mean"] - drawn.mean(0) * 1e4).max() < 0.51
    calibration = predictor.calibration
    if layers and calibration is not None:
        sd = drawn.std(0, ddof=1) * np.array(calibration.spread)[:, None, None]
        assert np.abs(counts["sd"] - sd * 1e4).max() < 0.6
    assert all(array.dtype == np.uint16 and array.shape == (2, 48, 16, 24) for array in counts.values())


def test_a_tile_that_is_not_finite_is_told(
    predictor: NetworkPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(scene_of(), [(0, 0), (16, 32)], 32)
    sample = predictor._sample

    def broken(tiles: list[torch.Tensor], *arguments: Any) -> torch.Tensor:
        cube = sample(tiles, *arguments)
        cube[torch.from_numpy(arguments[0].numpy()[:, 0] > 0), 3, 9, 9] = torch.nan
        return cube

    monkeypatch.setattr(predictor, "_sample", broken)
    _, finite = predictor.count(batch, 1, (), (slice(None), slice(None)))
    assert finite.tolist() == [True, False]


def test_samples_differ_and_repeat(predictor: NetworkPredictor) -> None:
    rgb = scene_of(32)[None]
    first, second = predictor.predict(Batch.of_colours(rgb), range(2))
    (again,) = predictor.predict(Batch.of_colours(rgb), range(1, 2))
    assert not np.array_equal(first, second)
    assert np.array_equal(second, again)


def test_the_seed_changes_the_sample() -> None:
    scene = scene_of(32)
    cubes = [predict(load_predictor("vnir48", seed=s, device="cpu"), scene, [(0, 0)], 32) for s in (0, 1)]
    assert not np.array_equal(*cubes)


def test_one_step_is_the_mean_and_free_of_noise() -> None:
    scene = scene_of(32)
    cubes = [
        predict(load_predictor("vnir48", seed=s, steps=1, device="cpu"), scene, [(0, 0)], 32) for s in (0, 1)
    ]
    assert np.array_equal(*cubes)


def test_tiles_that_do_not_fit_the_network_are_refused(predictor: NetworkPredictor) -> None:
    with pytest.raises(UsageError, match="multiples of 8"):
        predict(predictor, scene_of(), [(0, 0)], size=60)


def test_memory_grows_with_the_tile_and_the_batch(predictor: NetworkPredictor) -> None:
    assert predictor.memory(512) > predictor.memory(256) > 100 * 2**20
    assert load_predictor("vnir48", device="cpu", batch=8).memory(256) > predictor.memory(256)


def test_one_step_says_that_it_is_the_posterior_mean() -> None:
    sampled = load_predictor("vnir48", dtype="float32")
    assert sampled.settings["estimate"] == "sample"
    mean = sampled.with_steps(1)
    assert mean.settings["estimate"] == "posterior mean"
    rgb = np.full((1, 3, 64, 64), 0.2, np.float32)
    first, second = mean.predict(Batch.of_colours(rgb), range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), MemoryError),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), MemoryError),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), NetworkError),
        (torch.AcceleratorError("CUDA error: an illegal memory access\nand more"), NetworkError),
        (ValueError("a fault of our own"), ValueError),
    ],
)
def test_torchs_errors_are_told_as_ours(
    predictor: NetworkPredictor, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(predictor, "_sample", fail)
    with pytest.raises(expected, match=str(error)[:10].replace("[", r"\[")) as caught:
        predict(predictor, scene_of(), [(0, 0)])
    assert "\n" not in str(caught.value)
