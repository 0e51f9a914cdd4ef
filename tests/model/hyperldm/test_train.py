"""A HyperLDM trains in three steps, resumes exactly, and learns what it is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spectile.catalog.errors import CheckpointError, UsageError
from spectile.model import checkpoint
from spectile.model.data.crops import CropSource
from spectile.model.hyperldm import train as training_of
from spectile.model.hyperldm.network import HyperLdm
from spectile.model.hyperldm.preset import HyperConfig, HyperTraining
from spectile.model.predict.predictor import load_predictor
from tests.model.hyperldm.tiny import TRAINING, compact, narrow_paper, scene


def train(
    folder: Path,
    training: HyperTraining = TRAINING,
    config: HyperConfig | None = None,
    stop_after: int | None = None,
) -> HyperLdm:
    return training_of.train(
        config or compact(), training, [scene(), scene(40, seed=1)], [scene(seed=2, size=16)], folder,
        metadata={"name": "tiny"}, device="cpu", stop_after=stop_after,
    )  # fmt: skip


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    for stop in (2, 4, 6):  # within the VQGAN, between the two, within the diffusion
        train(tmp_path / "parts", stop_after=stop)
    train(tmp_path / "parts")
    whole, parts = checkpoint.load(tmp_path / "whole"), checkpoint.load(tmp_path / "parts")
    assert whole.digest == parts.digest
    assert whole.metadata["kind"] == "hyperldm"
    assert whole.metadata["schedule"]["beta"] == [0.001, 0.2]
    assert not [name for name in whole.tensors if "discriminator" in name]
    state = [(tmp_path / name / "state.safetensors").read_bytes() for name in ("whole", "parts")]
    assert state[0] == state[1]


def test_the_diffusion_changes_no_weight_of_the_vqgan(tmp_path: Path) -> None:
    begun = checkpoint.load(_stopped(tmp_path, 6)).tensors
    done = checkpoint.load(_stopped(tmp_path, 7)).tensors
    changed = [name for name in done if not torch.equal(begun[name].half(), done[name].half())]
    assert changed
    assert all(name.startswith("stages.0.") for name in changed)


def _stopped(folder: Path, after: int) -> Path:
    train(folder, stop_after=after)
    return folder


def test_the_code_is_scaled_by_what_was_measured(tmp_path: Path) -> None:
    network = train(tmp_path)
    source = CropSource([scene()], network.config.bands, network.config.response)
    batch = source.every_pixel((0,), size=16)
    with torch.inference_mode():
        code = network.latent(batch.target)
    assert float(code.mean()) == pytest.approx(0.0, abs=0.3)
    assert float(code.std()) == pytest.approx(1.0, abs=0.5)


def test_its_checkpoint_predicts_with_calibrated_layers(tmp_path: Path) -> None:
    train(tmp_path)
    loaded = checkpoint.load(tmp_path)
    assert loaded.tensors["autoencoder.codebook.codes"].dtype == torch.float16
    predictor = load_predictor(str(tmp_path), samples=4, device="cpu")
    assert predictor.calibration is not None
    assert len(predictor.calibration) == 48
    assert predictor.settings["steps"] == 4
    assert [one["name"] for one in loaded.metadata["preset"]["library"]][:2] == ["material 0", "material 1"]


def test_training_reconstructs_and_predicts_better_than_the_mean_spectrum(tmp_path: Path) -> None:
    training = replace(
        TRAINING, autoencoder_steps=80, diffusion_steps=5, learning_rate=1e-2, hold=0.5, warmup=5,
        angle=100.0, adversarial=0.0, quantise_from=40, ema_decay=0.5, log_every=1000, validate_every=1000,
    )  # fmt: skip
    network = train(tmp_path, training)
    source = CropSource([scene(seed=2)], network.config.bands, network.config.response)
    batch = source.every_pixel((0,), size=16)
    mean = batch.target.mean((0, 2, 3), keepdim=True).expand_as(batch.target)
    with torch.inference_mode():
        made = network.reconstruct(batch.rgb, batch.target)
        draw = network.drawn_by(torch.Generator().manual_seed(0), len(batch.rgb), 16, 16)
        drawn = network.sample(batch.rgb, draw)
    assert batch.rmse(made) < 0.75 * batch.rmse(mean)
    assert batch.rmse(drawn) < 0.75 * batch.rmse(mean)


@pytest.mark.parametrize("changes", [{}, {"structure_scales": 3, "structure": 1.0}])
def test_the_published_one_trains_on_a_small_width(tmp_path: Path, changes: dict[str, float]) -> None:
    config = narrow_paper()
    if changes:  # the paper's side of each option, beside the code's
        config = replace(
            config,
            autoencoder=replace(config.autoencoder, distance="l1", illumination="predicted"),
            denoiser=replace(config.denoiser, condition_time="none"),
            beta_1=0.01,
        )
    training = replace(TRAINING, crop=32, ema_decay=0.0, revive=False, **changes)
    train(tmp_path, training, config)
    assert checkpoint.load(tmp_path).metadata["trained_steps"] == 7


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="library"):
        train(tmp_path, config=replace(compact(), library=()))
    with pytest.raises(UsageError, match="crops do not fit"):
        train(tmp_path, replace(TRAINING, crop=20))
    train(tmp_path, stop_after=2)
    with pytest.raises(CheckpointError, match="another configuration"):
        train(tmp_path, replace(TRAINING, angle=3.0))


def test_masked_pixels_change_nothing(tmp_path: Path) -> None:
    masked = scene()
    masked.valid[:, :8] = False
    spoilt = scene()
    spoilt.valid[:, :8] = False
    spoilt.cube[:, :, :8] = np.float32(7.0)
    digests = set()
    for number, one in enumerate((masked, spoilt)):
        training_of.train(
            compact(), TRAINING, [one], [scene(seed=2, size=16)], tmp_path / str(number),
            metadata={"name": "tiny"}, device="cpu", stop_after=3,
        )  # fmt: skip
        digests.add(checkpoint.load(tmp_path / str(number)).digest)
    assert len(digests) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_trains_and_goes_on_on_cuda_with_crops_made_ahead(tmp_path: Path) -> None:
    def on_cuda(stop_after: int | None) -> HyperLdm:
        return training_of.train(
            compact(), TRAINING, [scene(), scene(40, seed=1)], [scene(seed=2, size=16)], tmp_path,
            metadata={"name": "tiny"}, device="cuda", stop_after=stop_after,
        )  # fmt: skip

    on_cuda(3)
    network = on_cuda(None)
    assert network.device.type == "cuda"
    loaded = checkpoint.load(tmp_path)
    assert loaded.metadata["trained_steps"] == 7
    assert load_predictor(str(tmp_path), samples=4, device="cpu").calibration is not None
