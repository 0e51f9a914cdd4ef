"""What is measured is measured on every real pixel once, and small scenes weigh as much as large ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.model.cascade.cascade import CascadeConfig, SpectralCascade, StageConfig
from spectile.model.cascade.config import TrainConfig
from spectile.model.cascade.means import fit_means
from spectile.model.cascade.spread import calibrate_stages
from spectile.model.cascade.train import train, validate
from spectile.model.closed.factors import calibrate_bands
from spectile.model.data.crops import Batch, CropSource, TrainingScene
from spectile.model.measure.evaluation import held_out_crops

STAGES = (StageConfig(2, 8, 1, 8, kernels=8), StageConfig(2, 8, 1, 8))
CASCADE = CascadeConfig(VNIR48, RGB_CAMERA, stages=STAGES)
CONFIG = TrainConfig(steps=2, batch=2, crop=32, warmup=1, validate_every=2, log_every=2)


def numbered(height: int, width: int) -> TrainingScene:
    """A scene whose every pixel has a level of its own."""
    level = np.arange(height * width, dtype=np.float32).reshape(height, width) / (height * width)
    cube = np.broadcast_to(level, (48, height, width)).copy()
    return TrainingScene(f"{height} by {width}", cube, VNIR48, np.ones((height, width), bool))


def levels(batch: Batch) -> list[float]:
    """The levels of the pixels that count."""
    return batch.target[:, 20][batch.valid > 0].tolist()


@pytest.mark.parametrize("shape", [(64, 64), (40, 6), (90, 10), (33, 70), (128, 96)])
def test_every_pixel_counts_once(shape: tuple[int, int]) -> None:
    batch = CropSource([numbered(*shape)], VNIR48, RGB_CAMERA).every_pixel((0,), size=32)
    found = levels(batch)
    assert len(found) == shape[0] * shape[1]
    assert len(set(found)) == len(found)


def test_held_out_crops_of_a_strip_hold_its_own_pixels_alone() -> None:
    batch = held_out_crops(CropSource([numbered(40, 10)], VNIR48, RGB_CAMERA), crops=2, size=64, seed=0)
    assert len(levels(batch)) == 400


def test_a_window_is_shown_with_what_lies_around_it() -> None:
    scene = numbered(48, 48)
    batch = CropSource([scene], VNIR48, RGB_CAMERA).every_pixel((0,), size=32)
    assert batch.valid.sum((1, 2)).tolist() == [576.0] * 4
    for crop in batch.target[:, 20]:
        assert len(crop.unique()) == 32 * 32


def test_a_limit_of_crops_takes_windows_at_random() -> None:
    source = CropSource([numbered(128, 128), numbered(20, 20)], VNIR48, RGB_CAMERA)
    batches = [source.every_pixel((key,), size=32, crops=3) for key in (0, 0, 1)]
    assert torch.equal(batches[0].target, batches[1].target)
    assert not torch.equal(batches[0].target, batches[2].target)
    assert len(batches[0].rgb) == 4


def test_windows_without_a_valid_pixel_are_left_out() -> None:
    scene = numbered(64, 64)
    scene.valid[:32] = False
    assert len(CropSource([scene], VNIR48, RGB_CAMERA).every_pixel((0,), size=32).rgb) == 2


def test_scenes_weigh_alike_whatever_their_size() -> None:
    source = CropSource([numbered(64, 64), numbered(8, 8), numbered(40, 30)], VNIR48, RGB_CAMERA)
    batch = source.every_pixel((0,), size=32)
    counts = batch.weight * batch.valid.sum((1, 2))
    by_scene = [counts[:4].sum(), counts[4], counts[5:].sum()]
    assert torch.allclose(torch.stack(by_scene), by_scene[0].expand(3))
    assert float(counts.sum() / batch.valid.sum()) == pytest.approx(1.0)
    assert batch.rmse(batch.target + 0.5) == pytest.approx(0.5, rel=1e-5)


def test_spread_and_grain_are_those_of_weighed_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectile.model.data.crops.FIT_CROPS", 20)
    torch.manual_seed(0)
    model = SpectralCascade(CASCADE).eval()
    fit_means(model, CropSource([numbered(64, 64)], VNIR48, RGB_CAMERA), CONFIG)
    source = CropSource([numbered(32, 32), numbered(16, 16)], VNIR48, RGB_CAMERA)
    both = source.every_pixel((0,), size=32)
    # A crop of no weight is as one that is not there.
    first = Batch(*(part.clone() for part in (both.rgb, both.target, both.bands, both.valid)),
                  torch.tensor([1.0, 0.0]), both.scene)  # fmt: skip
    found = []
    for batch in (first, both.crop(0)):
        calibrate_stages(model, batch, seed=0)
        found.append((model.stage(0).grain.clone(), calibrate_bands(model, batch, samples=2, seed=0)))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)


def test_closed_forms_take_as_many_pixels_of_each_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectile.model.data.crops.FIT_CROPS", 10)
    monkeypatch.setattr("spectile.model.data.crops.FIT_PIXELS", 50)
    source = CropSource([numbered(64, 64), numbered(10, 10)], VNIR48, RGB_CAMERA)
    rgb, target, bands = source.pixels(0, None, crop=32)
    assert rgb.shape == (500, 3)
    assert target.shape == bands.shape == (500, 48)


def masked(side: int = 32) -> TrainingScene:
    """A scene whose left half is masked."""
    scene = numbered(side, side)
    scene.valid[:, : side // 2] = False
    return scene


def test_masked_pixels_hold_the_fill_wherever_the_model_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectile.model.data.crops.FIT_CROPS", 20)
    seen: list[torch.Tensor] = []
    sample = SpectralCascade.sample

    def watched(self: SpectralCascade, rgb: torch.Tensor, *given: object, **more: object) -> torch.Tensor:
        seen.append(rgb[:, :, 0, 0])
        return sample(self, rgb, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(SpectralCascade, "sample", watched)
    train(CONFIG, CASCADE, [numbered(40, 40)], [masked()], tmp_path, metadata={"name": "tiny"})
    assert seen
    first = seen[0][0]
    assert first.min() > 0.1
    for colours in seen:
        assert torch.equal(colours, first.expand_as(colours))


def test_a_validation_of_crops_that_repeat_is_that_of_the_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectile.model.data.crops.FIT_CROPS", 20)
    torch.manual_seed(0)
    model = SpectralCascade(CASCADE).eval()
    fit_means(model, CropSource([numbered(64, 64)], VNIR48, RGB_CAMERA), CONFIG)
    source = CropSource([numbered(40, 6)], VNIR48, RGB_CAMERA)
    batch = source.every_pixel((0,), size=32)
    expected = batch.rmse(model.closed_form(batch.rgb))
    assert validate(model, source, CONFIG)["closed_form_rmse"] == pytest.approx(expected, abs=1e-5)
