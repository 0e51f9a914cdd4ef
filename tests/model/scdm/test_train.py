"""The published cascade trains, resumes exactly, and predicts as the pipeline asks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spectile.catalog.bands import VNIR48, Bands
from spectile.catalog.errors import CheckpointError, UsageError
from spectile.catalog.inputs import Batch
from spectile.model import checkpoint
from spectile.model.data.crops import CropSource, TrainingScene
from spectile.model.networks.unet_shared_encoder import SharedEncoderSizes
from spectile.model.predict.network import NetworkPredictor
from spectile.model.predict.predictor import load_predictor
from spectile.model.scdm import train as scdm
from spectile.model.scdm.cascade import ScdmCascade
from spectile.model.scdm.preset import ScdmPreset, TrainingPreset, scdm_paper
from spectile.model.scdm.train import mean_input, stage_loss
from spectile.model.training.run import generator_of

TINY: dict[str, Any] = {
    "width": 8, "multipliers": (1, 2), "blocks": 1, "attention_levels": (1,), "time_width": 16, "groups": 4,
}  # fmt: skip
TRAINING = TrainingPreset(iterations=4, batch=2, crop=16, ema_start=3, log_every=2, validate_every=1)


def tiny_preset(training: TrainingPreset = TRAINING) -> ScdmPreset:
    """The published Houston cascade over networks of a few thousand parameters."""
    preset = scdm_paper("houston")
    stages = tuple(replace(s, network=replace(s.network, **TINY)) for s in preset.stages)
    return replace(preset, stages=stages, training=training)


def scene(bands: Bands = VNIR48) -> TrainingScene:
    rng = np.random.default_rng(len(bands))
    slope = np.linspace(0.2, 1.0, len(bands), dtype=np.float32)[:, None, None]
    cube = 0.05 + 0.5 * slope * rng.random((1, 24, 24), dtype=np.float32)
    return TrainingScene("scene", cube, bands, np.ones((24, 24), bool))


def train(folder: Path, training: TrainingPreset = TRAINING, stop_after: int | None = None) -> ScdmCascade:
    return scdm.train(
        tiny_preset(training), [scene()], [scene()], folder, metadata={"name": "tiny"}, device="cpu",
        stop_after=stop_after,
    )  # fmt: skip


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    train(tmp_path / "parts", stop_after=1)
    train(tmp_path / "parts", stop_after=3)
    train(tmp_path / "parts")
    whole, parts = checkpoint.load(tmp_path / "whole"), checkpoint.load(tmp_path / "parts")
    assert all(torch.equal(whole.tensors[name], parts.tensors[name]) for name in whole.tensors)
    assert whole.digest == parts.digest
    assert whole.metadata["kind"] == "scdm-paper"
    state = [(tmp_path / name / "state.safetensors").read_bytes() for name in ("whole", "parts")]
    assert state[0] == state[1]


def test_another_preset_does_not_continue_a_run(tmp_path: Path) -> None:
    train(tmp_path, stop_after=1)
    with pytest.raises(CheckpointError, match="another configuration"):
        train(tmp_path, replace(TRAINING, noise_loss="mse"))


@pytest.mark.slow
def test_training_lowers_both_losses(tmp_path: Path) -> None:
    train(
        tmp_path,
        replace(TRAINING, iterations=40, learning_rate=2e-2, ema_start=99, log_every=5, validate_every=5),
    )
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "first" in line] == list(range(5, 45, 5))
    # On fixed times and noise; the losses of single steps vary with theirs.
    watched = [line for line in lines if "first_validation" in line]
    for name in ("first_validation", "second_validation"):
        assert watched[-1][name] < 0.98 * watched[0][name]


def test_only_the_guided_stage_forgets_its_condition() -> None:
    preset = tiny_preset(replace(TRAINING, condition_dropout=1.0))
    torch.manual_seed(0)
    model = ScdmCascade(preset).eval()
    source = CropSource([scene()], preset.bands, preset.response)
    batch = source.batch((0,), count=2, size=16, augmentation=None)
    other = replace(batch, rgb=batch.rgb * 0.5)
    losses = [stage_loss(model, 0, each, generator_of(1)) for each in (batch, other)]
    assert not torch.equal(*losses)
    seen: list[torch.Tensor] = []
    model.stage(1).condition_stem.register_forward_hook(lambda layer, inputs, out: seen.append(inputs[0]))
    stage_loss(model, 1, batch, generator_of(1))
    assert not seen[0].any()


@pytest.mark.parametrize("stage", [0, 1])
def test_bands_that_a_scene_lacks_and_masked_pixels_change_nothing(stage: int) -> None:
    preset = tiny_preset()
    torch.manual_seed(0)
    model = ScdmCascade(preset).eval()
    short = VNIR48.subset(range(2, 45))
    batch = CropSource([scene(short)], preset.bands, preset.response).batch(
        (0,), count=2, size=16, augmentation=None
    )
    valid = batch.valid.clone()
    valid[:, :4] = 0.0
    batch = replace(batch, valid=valid)
    hidden = (batch.bands[:, :, None, None] * valid[:, None]) == 0
    changed = replace(batch, target=torch.where(hidden, 9.0, batch.target))
    losses = [stage_loss(model, stage, each, generator_of(1)) for each in (batch, changed)]
    assert losses[0].isfinite()
    assert torch.equal(*losses)


def test_the_input_is_three_of_the_bands() -> None:
    preset = tiny_preset()
    source = CropSource([scene()], preset.bands, preset.response)
    batch = source.batch((0,), count=1, size=16, augmentation=None)
    torch.testing.assert_close(batch.rgb, batch.target[:, list(preset.rgb)])


def test_what_masked_pixels_hold_is_the_null_condition() -> None:
    model = ScdmCascade(tiny_preset())
    assert model.normalise(torch.from_numpy(mean_input(model.config))).abs().max() < 1e-6


def test_a_preset_survives_json() -> None:
    preset = tiny_preset()
    assert ScdmPreset.from_json(json.loads(json.dumps(preset.to_json()))) == preset


def test_crops_that_do_not_fit_the_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiple of 2"):
        train(tmp_path, replace(TRAINING, crop=15))


def test_widths_that_do_not_fit_the_groups_are_refused() -> None:
    with pytest.raises(UsageError, match="multiples of the groups"):
        SharedEncoderSizes(width=48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("checkpoint")
    train(path, replace(TRAINING, validate_every=4))
    return str(path)


def predict(
    predictor: NetworkPredictor, places: list[tuple[int, int]], size: int = 16
) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    land = 0.1 + 0.4 * rng.random((3, 64, 64), dtype=np.float32)
    rgb = np.stack([land[:, r : r + size, c : c + size] for r, c in places])
    return next(predictor.predict(Batch.of_colours(rgb, origins=np.array(places, np.int64)), range(1)))


def test_the_checkpoint_predicts_as_published_by_default(folder: str) -> None:
    predictor = load_predictor(folder, device="cpu")
    settings = predictor.settings
    assert (settings["steps"], settings["sampler"]) == (1000, "ancestral")
    assert (settings["guidance"], settings["truncation"]) == ([0.0, 1.0], ["x_t", "x_t"])
    assert settings["digest"] == checkpoint.load(folder).digest
    json.dumps(settings)
    assert predictor.bands == VNIR48
    assert predictor.inputs[0].bands == VNIR48.subset((22, 11, 4))
    assert predictor.stride == 2
    assert predictor.memory(256) > 250 * 2**20


def test_predictions_are_reflectances_that_repeat_and_differ_by_seed(folder: str) -> None:
    cubes = [predict(load_predictor(folder, steps=3, seed=s, device="cpu"), [(0, 0)]) for s in (0, 0, 1)]
    assert cubes[0].shape == (1, 48, 16, 16)
    assert cubes[0].dtype == np.float32
    assert cubes[0].min() >= 0.0
    assert cubes[0].max() <= 1.6
    assert np.array_equal(cubes[0], cubes[1])
    assert not np.array_equal(cubes[0], cubes[2])


def test_a_tile_does_not_depend_on_its_company(folder: str) -> None:
    predictor = load_predictor(folder, steps=3, device="cpu")
    together = predict(predictor, [(0, 0), (8, 4), (30, 40)])
    assert np.abs(together[1] - predict(predictor, [(8, 4)])[0]).max() < 1e-4


def test_overlapping_tiles_share_their_noise(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    finish = ScdmCascade.finish

    def spy(self: ScdmCascade, begun: torch.Tensor, draw: Any, **named: Any) -> torch.Tensor:
        seen.append(draw(1, 2))
        return finish(self, begun, draw, **named)

    monkeypatch.setattr(ScdmCascade, "finish", spy)
    predict(load_predictor(folder, steps=2, device="cpu"), [(0, 0), (4, 6)])
    first, second = seen
    assert first.shape == (1, 48, 16, 16)
    assert torch.equal(first[..., 4:, 6:], second[..., :12, :10])


def test_tensors_of_another_network_are_one_line(folder: str, tmp_path: Path) -> None:
    good = checkpoint.load(folder)
    preset = good.metadata["preset"] | {"stages": []}
    for tensors, facts in (
        ({"a": torch.zeros(2)}, {}),
        (good.tensors, {"preset": {}}),
        (good.tensors, {"preset": preset}),
    ):
        checkpoint.save(tmp_path, tensors, {**good.metadata, **facts})
        with pytest.raises(CheckpointError, match="not the weights of scdm-paper"):
            load_predictor(str(tmp_path), device="cpu")
