"""Training goes where it is told to go, and says so where it cannot."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.catalog.choices import Layer
from spectile.catalog.errors import UsageError
from spectile.catalog.inputs import Batch
from spectile.flows.deployed.train import train_model
from spectile.flows.training.train import train_from_recipe
from spectile.model import checkpoint
from spectile.model.cascade.cascade import CascadeConfig, SpectralCascade, Stage, StageConfig
from spectile.model.cascade.config import TrainConfig
from spectile.model.cascade.train import train
from spectile.model.data.crops import CropSource, TrainingScene
from spectile.model.diffusion.grain import _autocorrelation
from spectile.model.predict.predictor import load_predictor

ROOT = Path(__file__).parents[3]
CASCADE = CascadeConfig(
    VNIR48, RGB_CAMERA, stages=(StageConfig(2, 8, 1, 8, kernels=8), StageConfig(2, 8, 1, 8))
)
CONFIG = TrainConfig(steps=4, batch=2, crop=16, warmup=1, validate_every=2, log_every=1)


def _scene() -> TrainingScene:
    rng = np.random.default_rng(0)
    slope = np.linspace(0.2, 1.0, 48, dtype=np.float32)[:, None, None]
    cube = 0.05 + 0.5 * slope * rng.random((1, 40, 40), dtype=np.float32)
    return TrainingScene("scene", cube, VNIR48, np.ones((40, 40), bool))


def _train(folder: Path, **options: Any) -> SpectralCascade:
    return train(CONFIG, CASCADE, [_scene()], [_scene()], folder, metadata={"name": "tiny"}, **options)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectile.model.data.crops.FIT_CROPS", 10)
    monkeypatch.setattr("spectile.model.cascade.train.CALIBRATION_CROPS", 1)
    monkeypatch.setattr("spectile.model.cascade.train.CALIBRATION_SAMPLES", 2)


@pytest.fixture
def cuda() -> str:
    """The device; tests that need one are left out where there is none."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return "cuda"


@pytest.fixture
def no_cuda() -> None:
    if torch.cuda.is_available():
        pytest.skip("is about machines without a CUDA device")


@pytest.mark.usefixtures("no_cuda")
def test_without_a_gpu_training_on_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no CUDA device"):
        _train(tmp_path / "out", device="cuda")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_cuda")
def test_without_a_gpu_a_recipe_for_one_is_refused_before_its_data_are_read(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(
        'name = "tiny"\n[[scenes]]\npath = "nowhere.h5"\nname = "a"\nlicence = "CC0-1.0"\n'
    )
    with pytest.raises(UsageError, match="no CUDA device"):
        train_from_recipe(tmp_path / "recipe.toml", tmp_path, tmp_path / "out", device="cuda")


def test_the_deployment_for_gpus_asks_for_one() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    asked = {each["name"]: each.get("parameters", {}).get("device") for each in deployments}
    assert {asked[name] for name in asked if name.endswith("-gpu")} == {"cuda"}
    properties = train_model.parameters.model_dump()["properties"]
    assert properties["device"]["enum"] == ["auto", "cpu", "cuda"]


# Tensors on torch's meta device hold nothing, and refuse to meet those of another device.


def test_components_are_computed_where_the_stage_is() -> None:
    with torch.device("meta"):
        stage, residual, bands = (
            Stage(StageConfig(2, 8, 1, 8), 3, 6),
            torch.ones(1, 6, 4, 4),
            torch.ones(1, 6),
        )
    found, known = stage.components(residual, bands)
    assert (found.device.type, known.device.type) == ("meta", "meta")


def test_the_autocorrelation_is_computed_where_the_components_are() -> None:
    values = torch.ones(1, 2, 8, 8, device="meta")
    assert _autocorrelation(values, values, 1).device.type == "meta"


def test_a_batch_goes_to_a_device_whole() -> None:
    source = CropSource([_scene()], VNIR48, RGB_CAMERA)
    batch = source.batch((0,), count=1, size=16, augmentation=None).to("meta")
    assert {value.device.type for value in vars(batch).values()} == {"meta"}


def test_a_crop_that_does_not_fit_the_network_is_refused_before_anything_is_fitted(tmp_path: Path) -> None:
    config = TrainConfig(steps=1, crop=20)
    with pytest.raises(UsageError, match="a multiple of 8"):
        train(config, CASCADE, [_scene()], [_scene()], tmp_path / "out", metadata={"name": "tiny"})
    assert not (tmp_path / "out").exists()


@pytest.mark.gpu
def test_training_on_a_gpu_learns_what_training_on_the_cpu_does(cuda: str, tmp_path: Path) -> None:
    there = _train(tmp_path / "gpu", device=cuda)
    assert next(there.parameters()).device.type == "cuda"
    _train(tmp_path / "cpu", device="cpu")
    gpu, cpu = checkpoint.load(tmp_path / "gpu").tensors, checkpoint.load(tmp_path / "cpu").tensors
    # Four steps at a rate of 1e-3: rounding may turn a step of Adam, which is as long as the rate, around.
    for name, value in cpu.items():
        if "networks" in name:
            assert torch.allclose(gpu[name].float(), value.float(), atol=1e-2), name


@pytest.mark.gpu
def test_training_on_a_gpu_goes_on_where_it_was_stopped(cuda: str, tmp_path: Path) -> None:
    _train(tmp_path, device=cuda, stop_after=2)
    _train(tmp_path, device=cuda)
    assert checkpoint.load(tmp_path).metadata["trained_steps"] == 4


@pytest.mark.gpu
def test_a_gpu_predicts_what_the_cpu_does(cuda: str) -> None:
    rgb = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32) * 0.4
    cubes = [
        next(load_predictor("vnir48", device=where).predict(Batch.of_colours(rgb), range(1)))
        for where in ("cpu", cuda)
    ]
    # Convolutions may round to TensorFloat-32, ten bits, on a GPU.
    np.testing.assert_allclose(cubes[1], cubes[0], atol=5e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("samples", [1, 3])
def test_a_gpu_counts_what_the_cpu_does_while_another_call_runs(cuda: str, samples: int) -> None:
    layers: tuple[Layer, ...] = ("sd",) if samples > 1 else ()
    rng = np.random.default_rng(0)
    batches = [Batch.of_colours(rng.random((2, 3, 64, 64), dtype=np.float32) * 0.4) for _ in range(4)]
    cut = slice(8, 56), slice(8, 56)
    cpu, gpu = (load_predictor("vnir48", samples=samples, device=where) for where in ("cpu", cuda))
    assert gpu.calls > 1
    with ThreadPoolExecutor(gpu.calls) as pool:
        found = list(pool.map(lambda batch: gpu.count(batch, samples, layers, cut), batches))
    for batch, (counts, finite) in zip(batches, found, strict=True):
        assert finite.all()
        expected, _ = cpu.count(batch, samples, layers, cut)
        for part, values in expected.items():
            assert np.abs(counts[part].astype(int) - values).max() <= 50, part
