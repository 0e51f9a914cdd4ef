"""Training learns, resumes exactly, and masks what a scene lacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spectile.catalog.bands import RGB_CAMERA, VNIR48, Bands, resampling_matrix
from spectile.catalog.errors import CheckpointError, UsageError
from spectile.model import checkpoint
from spectile.model.cascade.cascade import CascadeConfig, SpectralCascade, Stage, StageConfig
from spectile.model.cascade.config import TrainConfig
from spectile.model.cascade.means import fit_means
from spectile.model.cascade.train import _whitened, crops_of, learning_rate, random_times, train, train_step
from spectile.model.data.crops import Augmentation, CropSource, TrainingScene
from spectile.model.diffusion.schedule import linear_schedule

CASCADE = CascadeConfig(
    VNIR48, RGB_CAMERA, stages=(StageConfig(2, 8, 1, 8, kernels=8), StageConfig(2, 8, 1, 8))
)
CONFIG = TrainConfig(steps=4, batch=2, crop=16, warmup=2, validate_every=2, log_every=2)


def _scene(seed: int, bands: Bands = VNIR48, size: int = 40) -> TrainingScene:
    rng = np.random.default_rng(seed)
    nm = np.asarray(bands.centre_nm)[:, None, None]
    step = rng.uniform(600, 800)
    amount = rng.uniform(0.1, 0.5, (2, size, size))
    cube = amount[0] * 0.3 + amount[1] / (1.0 + np.exp(-(nm - step) / 20.0))
    return TrainingScene(f"scene {seed}", cube.astype(np.float32), bands, np.ones((size, size), bool))


SCENES = [_scene(seed, size=32) for seed in range(3)]


@pytest.fixture(autouse=True)
def _few_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectile.model.data.crops.FIT_CROPS", 10)
    monkeypatch.setattr("spectile.model.cascade.train.CALIBRATION_CROPS", 1)
    monkeypatch.setattr("spectile.model.cascade.train.CALIBRATION_SAMPLES", 2)


def _train(folder: Path, config: TrainConfig = CONFIG, stop_after: int | None = None) -> SpectralCascade:
    return train(
        config, CASCADE, SCENES, SCENES[:1], folder, metadata={"name": "tiny"}, stop_after=stop_after
    )


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    _train(tmp_path / "whole")
    _train(tmp_path / "parts", stop_after=2)
    _train(tmp_path / "parts")
    whole, parts = checkpoint.load(tmp_path / "whole"), checkpoint.load(tmp_path / "parts")
    assert all(torch.equal(whole.tensors[name], parts.tensors[name]) for name in whole.tensors)
    assert whole.digest == parts.digest


def test_a_state_of_another_configuration_is_refused(tmp_path: Path) -> None:
    _train(tmp_path, stop_after=2)
    with pytest.raises(CheckpointError, match="another configuration"):
        _train(tmp_path, replace(CONFIG, seed=1))


CHANGES: dict[str, Callable[[TrainingScene], TrainingScene]] = {
    "values": lambda scene: replace(scene, cube=scene.cube + np.float32(1e-3)),
    "bands": lambda scene: replace(scene, bands=Bands(scene.bands.centre_nm, (15.0,) * len(scene.bands))),
    "mask": lambda scene: replace(scene, valid=np.arange(1024).reshape(32, 32) > 0),
    "place": lambda scene: replace(scene, site="elsewhere"),
}


def test_a_state_of_other_data_is_refused(tmp_path: Path) -> None:
    _train(tmp_path, stop_after=2)
    for change in CHANGES.values():
        for part in ("scenes", "validation"):
            parts = {"scenes": SCENES, "validation": SCENES[:1]}
            parts[part] = [change(parts[part][0]), *parts[part][1:]]
            with pytest.raises(CheckpointError, match=f"another configuration.*other {part}"):
                train(
                    CONFIG, CASCADE, parts["scenes"], parts["validation"], tmp_path, metadata={"name": "tiny"}
                )


def test_the_log_has_losses_and_validation(tmp_path: Path) -> None:
    _train(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "first" in line] == [2, 4]
    assert all(np.isfinite(line["sample_rmse"]) for line in lines if "sample_rmse" in line)


def test_the_same_step_again_and_again_lowers_both_losses() -> None:
    torch.manual_seed(0)
    source, model = CropSource(SCENES, VNIR48, RGB_CAMERA), SpectralCascade(CASCADE)
    config = replace(CONFIG, batch=4, warmup=0, learning_rate=6e-3)
    means = fit_means(model, source, config)
    optimiser = torch.optim.AdamW(model.parameters())
    losses = [train_step(model, crops_of(source, config, 0), optimiser, config, 0, means) for _ in range(20)]
    for stage in ("first", "second"):
        assert losses[-1][stage] < 0.8 * losses[0][stage]


def test_scenes_without_every_band_alone_cannot_train(tmp_path: Path) -> None:
    short = _scene(0, VNIR48.subset(range(4, 40)))
    with pytest.raises(UsageError, match="every band"):
        train(CONFIG, CASCADE, [short], [short], tmp_path, metadata={"name": "tiny"})


def test_components_of_a_full_residual_are_its_whitened_coordinates() -> None:
    stage = _stage()
    components = torch.randn(1, 2, 4, 4)
    residual = torch.einsum("tk,nkhw->nthw", stage.diffused, components)
    found, known = stage.components(residual, torch.ones(1, 6))
    assert torch.allclose(found, components, atol=0.05)
    assert torch.allclose(known, torch.ones(1, 2), atol=0.02)


def test_a_component_that_no_band_shows_does_not_count() -> None:
    stage = _stage()
    stage.closed.basis.zero_()
    stage.closed.basis[0, 0], stage.closed.basis[5, 1] = 1.0, 1.0
    bands = torch.tensor([[1.0, 1, 1, 1, 1, 0]])
    _, known = stage.components(torch.randn(1, 6, 2, 2), bands)
    assert known[0, 0] > 0.98
    assert known[0, 1] == pytest.approx(0.0, abs=1e-6)


def test_values_of_missing_bands_do_not_enter_the_components() -> None:
    stage, residual = _stage(), torch.randn(1, 6, 2, 2)
    bands = torch.tensor([[1.0, 0, 1, 1, 1, 0]])
    changed = residual.clone()
    changed[:, [1, 5]] = 99.0
    assert torch.equal(stage.components(residual, bands)[0], stage.components(changed, bands)[0])


def _stage() -> Stage:
    torch.manual_seed(0)
    stage = Stage(StageConfig(2, 8, 1, 8), 3, 6)
    stage.closed.basis.copy_(torch.linalg.qr(torch.randn(6, 6))[0])
    return stage


def test_times_are_a_quarter_at_the_start_and_reach_both_ends() -> None:
    times = random_times(4000, linear_schedule(), torch.Generator().manual_seed(0))
    assert times.min() == 1
    assert float((times == 1000).double().mean()) == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("start", [0.05, 20.0])
def test_clipped_components_settle_at_unit_variance_from_any_start(start: float) -> None:
    stage, generator = _stage(), torch.Generator().manual_seed(0)
    stage.deviation.fill_(start)
    # One value in a hundred is a spike.
    left = torch.randn(4, 2, 24, 24, generator=generator) * torch.tensor([0.5, 2.0])[:, None, None]
    left = torch.where(torch.rand(left.shape, generator=generator) < 0.01, 50.0 * left, left)
    weight = torch.ones_like(left)
    for _ in range(900):
        white = _whitened(stage, left, weight)
    assert torch.allclose(white.square().mean((0, 2, 3)), torch.ones(2), atol=0.03)
    assert float(white.abs().max()) == pytest.approx(4.0, rel=0.02)
    # Spikes alone would make it five times as large.
    assert torch.allclose(stage.deviation, torch.tensor([0.5, 2.0]), rtol=0.15)


def test_the_learning_rate_rises_then_falls() -> None:
    config = TrainConfig(steps=100, warmup=10, learning_rate=1e-3)
    rates = [learning_rate(config, step) for step in range(100)]
    assert int(np.argmax(rates)) in (9, 10)
    assert rates[0] < 2e-4
    assert rates[-1] < 2e-5


def test_a_batch_is_a_function_of_its_key() -> None:
    source = CropSource(SCENES, VNIR48, RGB_CAMERA)
    first, again, other = (
        source.batch(key, count=3, size=16, augmentation=Augmentation()) for key in [(1, 2), (1, 2), (1, 3)]
    )
    assert torch.equal(first.rgb, again.rgb)
    assert torch.equal(first.target, again.target)
    assert not torch.equal(first.rgb, other.rgb)


def test_without_augmentation_the_input_is_the_nominal_response_to_the_target() -> None:
    batch = CropSource(SCENES, VNIR48, RGB_CAMERA).batch((0,), count=4, size=16, augmentation=None)
    matrix = torch.tensor(resampling_matrix(VNIR48, RGB_CAMERA)[0], dtype=torch.float32)
    seen = torch.einsum("ct,nthw->nchw", matrix, batch.target)
    # Resampling 48 bands to themselves widens them slightly.
    assert torch.allclose(seen, batch.rgb, atol=0.01)


def test_masked_pixels_hold_the_fill_and_do_not_count() -> None:
    scene = _scene(0)
    scene.valid[:, :20] = False
    fill = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    source = CropSource([scene], VNIR48, RGB_CAMERA, fill)
    batch = source.batch((0,), count=2, size=40, augmentation=None)
    hidden = batch.valid == 0
    assert hidden.float().mean() == 0.5
    assert torch.equal(batch.rgb.movedim(1, -1)[hidden], torch.tensor(fill).expand(int(hidden.sum()), 3))


def test_what_surrounds_a_small_scene_is_its_reflection_and_does_not_count() -> None:
    scene = _scene(0, size=10)
    scene.valid[2, 9] = False
    fill = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    source = CropSource([scene], VNIR48, RGB_CAMERA, fill)
    for batch in (
        source.batch((0,), count=1, size=16, augmentation=None),
        source.every_pixel((0,), size=16),
    ):
        # Where a pixel lies may decide in which order a product is summed: a few roundings of float32.
        torch.testing.assert_close(
            batch.target[..., 10:], batch.target[..., 4:10].flip(-1), rtol=1e-6, atol=1e-7
        )
        assert float(batch.valid.sum()) == 99
        assert not batch.valid[..., 10:].any()
        # As in a run, whose tiles reflect a scene's edge: a masked pixel holds the fill there too.
        assert torch.equal(batch.rgb[0, :, 2, 10], torch.tensor(fill))
        assert torch.equal(batch.rgb[0, :, 3, 10:], batch.rgb[0, :, 3, 4:10].flip(-1))


def test_crops_turned_in_training_count_no_reflection() -> None:
    source = CropSource([_scene(0, size=10)], VNIR48, RGB_CAMERA)
    augmentation = Augmentation(masked=0.0)
    batch = source.batch((0,), count=16, size=16, augmentation=augmentation)
    assert batch.valid.sum((1, 2)).tolist() == [100.0] * 16
    assert len({tuple(crop.flatten().tolist()) for crop in batch.valid}) == 4


def test_valid_nan_is_refused() -> None:
    cube = np.full((48, 4, 4), np.nan, dtype=np.float32)
    with pytest.raises(UsageError, match="NaN"):
        TrainingScene("bad", cube, VNIR48, np.ones((4, 4), bool))
