"""SDP's prior learns, resumes exactly, and its loss is the error of the noise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spectile.catalog.errors import CheckpointError
from spectile.model import checkpoint
from spectile.model.data.crops import TrainingScene
from spectile.model.data.pairs import PairCrops
from spectile.model.sdp.fusion import Sdp
from spectile.model.sdp.preset import SdpTraining
from spectile.model.sdp.train import Spectra, denoising_loss, learning_rate, train
from spectile.model.training.run import generator_of
from tests.model.hsr_diff.fusions import BANDS, scene
from tests.model.sdp.priors import TRAINING, tiny_prior


def run(folder: Path, training: SdpTraining = TRAINING, stop_after: int | None = None) -> Sdp:
    return train(
        tiny_prior(training), [scene()], [scene(1)], folder, metadata={"name": "tiny"}, device="cpu",
        stop_after=stop_after,
    )  # fmt: skip


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    for stop in (1, 3, None):
        run(tmp_path / "parts", stop_after=stop)
    whole, parts = checkpoint.load(tmp_path / "whole"), checkpoint.load(tmp_path / "parts")
    assert whole.digest == parts.digest
    assert whole.metadata["kind"] == "sdp"
    state = [(tmp_path / name / "state.safetensors").read_bytes() for name in ("whole", "parts")]
    assert state[0] == state[1]


def test_another_configuration_does_not_continue_a_run(tmp_path: Path) -> None:
    run(tmp_path, stop_after=1)
    with pytest.raises(CheckpointError, match="another configuration"):
        run(tmp_path, replace(TRAINING, weight_decay=0.0))


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    training = replace(
        TRAINING, iterations=150, batch=128, learning_rate=1e-2, log_every=300, validate_every=30
    )
    run(tmp_path, training)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    watched = [line["noise_validation"] for line in lines if "noise_validation" in line]
    # A network that gives zero has an error of 1.
    assert watched[-1] < watched[0] < 0.6


def test_the_scale_is_the_brightest_value_learned_from_and_is_kept(tmp_path: Path) -> None:
    network = run(tmp_path)
    brightest = float(scene().cube.max())
    assert float(network.scale) == pytest.approx(brightest, rel=0.02)
    assert float(checkpoint.load(tmp_path).tensors["scale"]) == float(network.scale)
    other = train(
        tiny_prior(scale=0.8), [scene()], [scene()], tmp_path / "given", metadata={"name": "n"}, device="cpu"
    )
    assert float(other.scale) == pytest.approx(0.8)


def test_the_loss_is_equation_9() -> None:
    torch.manual_seed(0)
    model = Sdp(tiny_prior(scale=0.5)).eval()
    spectra = torch.rand(9, 6)
    loss = denoising_loss(model, spectra, generator_of(3))
    generator = generator_of(3)
    t = torch.randint(1, 1001, (9,), generator=generator)
    eps = torch.randn(9, 6, generator=generator)
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[t - 1].float()
    x_t = alpha_bar.sqrt()[:, None] * spectra / 0.5 + (1 - alpha_bar).sqrt()[:, None] * eps
    expected = (eps - model.stage(0)(x_t, t - 1)).square().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_learning_rate_falls_as_published() -> None:
    config = tiny_prior(SdpTraining())
    # Table I: 0.001 · max(1000 − epoch / 10, 1), times 0.01.
    for step in (0, 5000, 9999, 20_000):
        assert learning_rate(config, step) == pytest.approx(0.01 * 0.001 * max(1000 - step / 10, 1))


def test_spectra_are_drawn_by_the_weights_of_their_scenes() -> None:
    def flat(level: float, weight: float, side: int) -> TrainingScene:
        cube = np.full((6, side, side), level, np.float32)
        return TrainingScene(str(level), cube, BANDS, np.ones((side, side), bool), weight)

    scenes = [flat(0.1, 1.0, 30), flat(0.5, 3.0, 4)]
    spectra = Spectra.of(PairCrops(scenes, BANDS, side=1, device=torch.device("cpu")))
    drawn = spectra.draw(4000, generator_of(0))
    assert drawn.shape == (4000, 6)
    assert float((drawn[:, 0] > 0.3).float().mean()) == pytest.approx(0.75, abs=0.03)
