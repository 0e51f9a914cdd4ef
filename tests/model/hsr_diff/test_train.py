"""HSR-Diff learns, resumes exactly, and its loss is that of equation 8."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spectile.catalog.bands import Bands
from spectile.catalog.errors import CheckpointError, UsageError
from spectile.model import checkpoint
from spectile.model.data.crops import TrainingScene
from spectile.model.data.degrade import coarsen as coarsen_numpy
from spectile.model.data.pairs import PairConfig, PairCrops
from spectile.model.hsr_diff.fusion import Begun, HsrDiff
from spectile.model.hsr_diff.preset import HsrDiffTraining, Phase
from spectile.model.hsr_diff.train import draw_levels, pair_losses, train
from spectile.model.training.run import generator_of
from tests.model.hsr_diff.fusions import TRAINING, scene, tiny_config


def run(folder: Path, training: HsrDiffTraining = TRAINING, stop_after: int | None = None) -> HsrDiff:
    return train(
        tiny_config(training), [scene()], [scene(1)], folder, metadata={"name": "tiny"}, device="cpu",
        stop_after=stop_after,
    )  # fmt: skip


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    for stop in (1, 4, None):  # within each phase
        run(tmp_path / "parts", stop_after=stop)
    whole, parts = checkpoint.load(tmp_path / "whole"), checkpoint.load(tmp_path / "parts")
    assert whole.digest == parts.digest
    assert whole.metadata["kind"] == "hsr-diff"
    assert whole.metadata["trained_steps"] == 5
    state = [(tmp_path / name / "state.safetensors").read_bytes() for name in ("whole", "parts")]
    assert state[0] == state[1]


def test_another_configuration_does_not_continue_a_run(tmp_path: Path) -> None:
    run(tmp_path, stop_after=1)
    with pytest.raises(CheckpointError, match="another configuration"):
        run(tmp_path, replace(TRAINING, msi_weight=0.0))


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    phases = (Phase(8, 4, 30),)
    run(tmp_path, replace(TRAINING, phases=phases, learning_rate=1e-2, log_every=60, validate_every=10))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first, *_, last = [line for line in lines if "cube_validation" in line]
    for name in ("msi", "hsi", "cube"):
        assert last[f"{name}_validation"] < 0.9 * first[f"{name}_validation"], name


def test_the_second_half_alone_learns_in_a_phase_that_says_so(tmp_path: Path) -> None:
    training = replace(TRAINING, ema_start=99)  # the checkpoint then holds the weights as they are
    run(tmp_path, training, stop_after=3)
    before = checkpoint.load(tmp_path).tensors
    run(tmp_path, training)
    after = checkpoint.load(tmp_path).tensors
    moved = {name.split(".", 2)[2] for name in before if not torch.equal(before[name], after[name])}
    assert not [name for name in moved if name.startswith(("stem", "sr_stem", "layers.0", "sr_layers.0"))]
    assert {"layers.1.level.weight", "sr_layers.1.spatial.query.weight", "reconstruction.weight"} <= moved


class Known(HsrDiff):
    """Estimates half of the truth, whatever the state."""

    truth: torch.Tensor

    def estimate(self, state: torch.Tensor, level: torch.Tensor, begun: Begun) -> torch.Tensor:
        return 0.5 * self.truth


def test_the_loss_is_the_three_terms_of_equation_8() -> None:
    config = replace(tiny_config(), pair=PairConfig(4, 1.7), offset=0.1)
    model = Known(config)
    cube = torch.rand(2, 6, 16, 16) * 0.5
    model.truth = model.normalise(cube)
    losses = pair_losses(model, cube, torch.ones(2, 16, 16), generator_of(0))
    estimate = (0.5 * model.truth * config.scale + config.offset).double()  # reflectance
    difference = cube.double() - estimate
    response = model.response.double()
    msi = torch.einsum("cb,nbhw->nchw", response, difference).abs().mean() / config.scale
    hsi = np.abs(coarsen_numpy(difference.numpy(), 4, (1.7, 1.7))).mean() / config.scale
    assert float(losses.msi) == pytest.approx(float(msi), rel=1e-4)
    assert float(losses.hsi) == pytest.approx(float(hsi), rel=1e-4)
    assert float(losses.cube) == pytest.approx(float(difference.abs().mean() / config.scale), rel=1e-4)
    weighted = replace(TRAINING, msi_weight=2.0, hsi_weight=0.0)
    assert float(losses.total(weighted)) == pytest.approx(float(2 * losses.msi + losses.cube))


def test_pixels_that_do_not_count_are_in_no_term() -> None:
    model = Known(replace(tiny_config(), pair=PairConfig(4, 1.7)))
    cube, valid = torch.rand(1, 6, 16, 16), torch.ones(1, 16, 16)
    valid[:, :, 8:] = 0.0
    model.truth = model.normalise(cube)
    losses = [pair_losses(model, cube, valid, generator_of(0))]
    model.truth = model.truth.clone()
    # The estimate alone, more than 4 σ away from any coarse pixel that counts.
    model.truth[..., 15] += 1.0
    losses.append(pair_losses(model, cube, valid, generator_of(0)))
    assert all(torch.equal(a, b) for a, b in zip(*losses, strict=True))


def test_levels_fall_between_neighbouring_steps_and_cover_the_schedule() -> None:
    table = HsrDiff(tiny_config()).levels
    levels = draw_levels(table, 20_000, generator_of(0))
    assert levels.min() >= table[-1]
    assert levels.max() <= 1.0
    # Steps are equally likely: half of the levels lie above that of the middle step.
    assert float((levels > table[1000]).float().mean()) == pytest.approx(0.5, abs=0.02)


def test_a_scene_without_all_bands_is_one_line() -> None:
    short = scene(bands=Bands.evenly_spaced(450.0, 700.0, 4))
    with pytest.raises(UsageError, match="every band of the model"):
        PairCrops([short], tiny_config().bands, side=8, device=torch.device("cpu"))


def test_masked_pixels_hold_the_mean_and_do_not_count() -> None:
    valid = np.ones((20, 24), bool)
    valid[3, 4] = False
    whole = scene()
    cube = whole.cube.copy()
    cube[:, 3, 4] = np.nan
    crops = PairCrops(
        [TrainingScene("s", cube, whole.bands, valid)], whole.bands, side=32, device=torch.device("cpu")
    )
    held = crops.scenes[0]
    assert held.valid.sum() == 20 * 24 - 1
    assert held.valid.shape == (32, 32)
    torch.testing.assert_close(held.cube[:, 3, 4].float(), crops.mean(), atol=1e-3, rtol=0)
