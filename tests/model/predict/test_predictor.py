"""The predictor as the pipeline sees it, on the shipped weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.catalog.calibration import Calibration
from spectile.catalog.errors import CheckpointError, NetworkError, UsageError
from spectile.catalog.inputs import Batch
from spectile.model import checkpoint
from spectile.model.predict.network import NetworkPredictor
from spectile.model.predict.predictor import load_predictor


def _scene(size: int = 160) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.normal(size=(3, size, size)), 1), 2)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return (0.03 + 0.3 * smooth + 0.01 * rng.random((3, size, size))).astype(np.float32)


def _predict(
    predictor: NetworkPredictor, scene: NDArray[np.float32], places: list[tuple[int, int]], size: int = 64
) -> NDArray[np.float32]:
    rgb = np.stack([scene[:, r : r + size, c : c + size] for r, c in places])
    origins = np.array(places, dtype=np.int64)
    return next(predictor.predict(Batch.of_colours(rgb, origins=origins), range(1)))


@pytest.fixture(scope="module")
def predictor() -> NetworkPredictor:
    return load_predictor("vnir48", device="cpu")


def test_the_default_takes_at_least_four_steps_and_says_everything(predictor: NetworkPredictor) -> None:
    settings = predictor.settings
    assert int(str(settings["steps"])) >= 4
    assert settings["digest"] == checkpoint.load("vnir48").digest
    assert {"name", "digest", "steps", "sampler", "seed", "dtype", "device", "guidance"} <= settings.keys()
    json.dumps(settings)
    assert predictor.bands == VNIR48
    assert [(each.name, each.bands, each.ratio) for each in predictor.inputs] == [("rgb", RGB_CAMERA, 1)]
    assert 192 % predictor.stride == 0


def test_without_its_weights_it_says_the_same(
    predictor: NetworkPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "read_tensors", lambda path: pytest.fail("weights were read"))
    known = load_predictor("vnir48", device="cpu", weights=False)
    assert known.settings == predictor.settings
    for name in ("bands", "inputs", "stride", "reach"):
        assert getattr(known, name) == getattr(predictor, name)
    assert known.calibration == predictor.calibration
    assert known.memory(256) == predictor.memory(256)


def test_predictions_have_the_promised_shape_type_and_range(predictor: NetworkPredictor) -> None:
    cube = _predict(predictor, _scene(), [(0, 0), (16, 32)])
    assert cube.shape == (2, 48, 64, 64)
    assert cube.dtype == np.float32
    assert np.isfinite(cube).all()
    assert cube.min() >= 0.0
    assert cube.max() <= 1.6


def test_beyond_its_reach_nothing_changes_by_a_stored_count(predictor: NetworkPredictor) -> None:
    reach, edge = predictor.reach, 40
    assert reach is not None
    scene = _scene()[:, :32, :128]
    mirrored = scene.copy()
    mirrored[..., :edge] = scene[..., 2 * edge : edge : -1]
    known, found = (_predict(predictor, each, [(0, 0)], 128)[0] for each in (scene, mirrored))
    rms = np.sqrt(np.square(found - known).mean(axis=(0, 1)))[edge:] / 1e-4
    assert rms[: reach // 2].max() > 1
    assert rms[reach:].max() < 1


def test_a_tile_does_not_depend_on_its_company(predictor: NetworkPredictor) -> None:
    scene = _scene()
    together = _predict(predictor, scene, [(0, 0), (32, 64), (96, 8)])
    alone = _predict(predictor, scene, [(32, 64)])
    assert np.abs(together[1] - alone[0]).max() < 1e-5


def test_overlapping_tiles_agree_away_from_their_edges(predictor: NetworkPredictor) -> None:
    scene = _scene()
    left, right = _predict(predictor, scene, [(0, 0), (0, 32)], size=128)
    shared = np.abs(left[:, 48:80, 80:96] - right[:, 48:80, 48:64])
    assert shared.mean() < 2e-3


def test_samples_differ_and_repeat(predictor: NetworkPredictor) -> None:
    rgb = _scene(32)[None]
    first, second = predictor.predict(Batch.of_colours(rgb), range(2))
    (again,) = predictor.predict(Batch.of_colours(rgb), range(1, 2))
    assert not np.array_equal(first, second)
    assert np.array_equal(second, again)


def test_the_seed_changes_the_sample() -> None:
    scene = _scene(32)
    cubes = [_predict(load_predictor("vnir48", seed=s, device="cpu"), scene, [(0, 0)], 32) for s in (0, 1)]
    assert not np.array_equal(*cubes)


def test_one_step_is_the_mean_and_free_of_noise() -> None:
    scene = _scene(32)
    cubes = [
        _predict(load_predictor("vnir48", seed=s, steps=1, device="cpu"), scene, [(0, 0)], 32) for s in (0, 1)
    ]
    assert np.array_equal(*cubes)


def test_tiles_that_do_not_fit_the_network_are_refused(predictor: NetworkPredictor) -> None:
    with pytest.raises(UsageError, match="multiples of 8"):
        _predict(predictor, _scene(), [(0, 0)], size=60)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "unknown device"),
        ({"dtype": "float16"}, "unknown dtype"),
        ({"batch": 0}, "batch"),
        ({"steps": 0}, "steps"),
        ({"steps": 1001}, "steps"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_predictor("vnir48", **options)  # type: ignore[arg-type]


def test_bfloat16_stays_close_to_float32(predictor: NetworkPredictor) -> None:
    scene = _scene(32)
    half = _predict(load_predictor("vnir48", device="cpu", dtype="bfloat16"), scene, [(0, 0)], 32)
    assert np.abs(half - _predict(predictor, scene, [(0, 0)], 32)).mean() < 0.01


def test_memory_grows_with_the_tile_and_the_batch(predictor: NetworkPredictor) -> None:
    assert predictor.memory(512) > predictor.memory(256) > 100 * 2**20
    assert load_predictor("vnir48", device="cpu", batch=8).memory(256) > predictor.memory(256)


def test_a_folder_works_as_a_model(predictor: NetworkPredictor, tmp_path: Path) -> None:
    shipped = checkpoint.load("vnir48")
    checkpoint.save(tmp_path, shipped.tensors, shipped.metadata)
    scene = _scene(32)
    copy = load_predictor(str(tmp_path), device="cpu")
    assert np.array_equal(_predict(copy, scene, [(0, 0)], 32), _predict(predictor, scene, [(0, 0)], 32))


def test_tensors_of_another_network_are_one_line(tmp_path: Path) -> None:
    shipped = checkpoint.load("vnir48")
    checkpoint.save(tmp_path, {"a": torch.zeros(2)}, shipped.metadata)
    with pytest.raises(CheckpointError, match="not the weights") as caught:
        load_predictor(str(tmp_path), device="cpu")
    assert "\n" not in str(caught.value)


def test_the_calibration_comes_from_the_checkpoint_at_its_own_steps_and_is_in_the_digest(
    tmp_path: Path,
) -> None:
    shipped = checkpoint.load("vnir48")
    plain = {key: value for key, value in shipped.metadata.items() if key != "calibration"}
    given = Calibration(8, (2.0,) * 48, (-3.0,) * 48, (2.5,) * 48)
    checkpoint.save(tmp_path / "without", shipped.tensors, plain)
    checkpoint.save(tmp_path / "with", shipped.tensors, {**plain, "calibration": given.to_json()})
    without, calibrated = (load_predictor(str(tmp_path / name), device="cpu") for name in ("without", "with"))
    assert without.calibration is None
    assert calibrated.calibration == given
    assert without.settings["digest"] != calibrated.settings["digest"]
    steps = int(str(calibrated.settings["steps"]))
    assert load_predictor(str(tmp_path / "with"), steps=steps + 1, device="cpu").calibration is None


def test_a_calibration_of_other_bands_is_refused(tmp_path: Path) -> None:
    shipped = checkpoint.load("vnir48")
    given = Calibration(8, (2.0,) * 47, (-3.0,) * 47, (2.5,) * 47)
    checkpoint.save(tmp_path, shipped.tensors, {**shipped.metadata, "calibration": given.to_json()})
    with pytest.raises(CheckpointError, match="for other bands"):
        load_predictor(str(tmp_path), device="cpu")


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
        _predict(predictor, _scene(), [(0, 0)])
    assert "\n" not in str(caught.value)


STAGE = {"components": 8, "condition_width": 48, "condition_blocks": 1, "width": 48}


@pytest.mark.parametrize(
    "change",
    [
        {"members": 10**9},
        {"timesteps": 10**12},
        {"coarse": 10**6},
        {"odd": 1},
        {"steps": 0},
        {"stages": [{**STAGE, "condition_width": 10**9}] * 2},
        {"stages": [{**STAGE, "condition_blocks": 10**9}] * 2},
        {"stages": [{**STAGE, "width": 4096}] * 2},
        {"stages": [{**STAGE, "odd": 1}] * 2},
        {"stages": []},
        {"bands": {"centre_nm": [1.0], "fwhm_nm": []}},
        {"bands": []},
    ],
)
def test_a_configuration_that_asks_for_the_absurd_is_one_line(
    change: dict[str, object], tmp_path: Path
) -> None:
    shipped = checkpoint.load("vnir48")
    cascade = {**shipped.metadata["cascade"], **change}
    checkpoint.save(tmp_path, shipped.tensors, {**shipped.metadata, "cascade": cascade})
    with pytest.raises(CheckpointError, match="not the weights of a spectral cascade") as caught:
        load_predictor(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_checkpoint_that_does_not_say_what_masked_pixels_hold_is_one_line(tmp_path: Path) -> None:
    shipped = checkpoint.load("vnir48")
    facts = {key: value for key, value in shipped.metadata.items() if key != "fill"}
    checkpoint.save(tmp_path, shipped.tensors, facts)
    with pytest.raises(CheckpointError, match="masked pixels"):
        load_predictor(str(tmp_path))
