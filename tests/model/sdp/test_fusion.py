"""Fusion under SDP: its gradient, its steps, tiles against the whole, and the predictor's door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spectile.catalog.inputs import Batch, Raster
from spectile.model.data.pairs import coarsen, observe, project
from spectile.model.diffusion.noise import noise
from spectile.model.predict.predictor import load_predictor
from spectile.model.sdp.fusion import Sdp, fuse_sdp
from spectile.model.sdp.preset import SdpFusion
from spectile.model.sdp.train import train
from tests.model.hsr_diff.fusions import scene
from tests.model.sdp.priors import QUICK, tiny_prior


def _prior(seed: int = 0) -> Sdp:
    torch.manual_seed(seed)
    return Sdp(tiny_prior(scale=0.8)).eval()


def _pair(cube: torch.Tensor, model: Sdp) -> tuple[torch.Tensor, torch.Tensor]:
    seen = observe(cube, model.config.pair, model.response, None)
    return seen.hsi, seen.msi


def _fused(model: Sdp, hsi: torch.Tensor, msi: torch.Tensor, **changes: object) -> torch.Tensor:
    given: dict[str, object] = {
        "response": model.response, "gain": torch.ones(3), "offset": torch.zeros(3),
        "psf_sigma": (1.7, 1.7), "ratio": 4, "prior": model, "steps": 3,
        "origins": torch.zeros(len(msi), 2, dtype=torch.int64), "seed": 0,
    }  # fmt: skip
    return fuse_sdp(hsi, msi, **given | changes)  # type: ignore[arg-type]


def test_one_step_of_adam_is_that_of_equation_20() -> None:
    model = _prior()
    hsi, msi = _pair(torch.rand(1, 6, 8, 8) * 0.5, model)
    settings = SdpFusion(inner=1, hsi_weight=0.1, prior_weight=0.5, weight_decay=0.0, image_ema=0.0)
    out = _fused(model, hsi, msi, steps=1, settings=settings)
    # The same by one graph, in sums, at X = 1 and t = T, with the ε of the first step.
    eps = noise(
        seed=0, stage=0, step=0, sample=0, channels=6, origins=torch.tensor([[0, 0]]), height=8, width=8,
        device="cpu",
    )  # fmt: skip
    x = torch.ones(1, 6, 8, 8, requires_grad=True)
    alpha_bar = model.schedule.alpha_bar_at(1000)
    noisy = (alpha_bar**0.5 * x + (1 - alpha_bar) ** 0.5 * eps).permute(0, 2, 3, 1).reshape(-1, 6)
    predicted = model.stage(0)(noisy, torch.full((64,), 999))
    white = eps.permute(0, 2, 3, 1).reshape(-1, 6)
    loss = (
        0.1 * (hsi / 0.8 - coarsen(x, 4, (1.7, 1.7))).square().sum()
        + (msi / 0.8 - project(x, model.response)).square().sum()
        + 0.5 * (white - predicted).square().sum()
    )
    loss.backward()  # type: ignore[no-untyped-call]
    torch.optim.Adam([x], lr=1e-3).step()
    torch.testing.assert_close(out, 0.8 * x.detach().clamp(0, 1), atol=1e-6, rtol=0)
    assert float((out - 0.8).abs().max()) == pytest.approx(0.8e-3, rel=0.01)


def test_without_the_prior_the_image_goes_to_where_both_scenes_agree() -> None:
    model = _prior()
    rows = torch.sin(torch.arange(16.0) / 3)[:, None]
    truth = 0.3 + 0.1 * rows * torch.linspace(0.5, 1.0, 6)[:, None, None] * torch.ones(1, 6, 16, 16)
    hsi, msi = _pair(truth, model)
    settings = SdpFusion(
        inner=3, learning_rate=5e-3, prior_weight=0.0, hsi_weight=1.0, start="upsampled", weight_decay=0.0
    )
    started = _fused(model, hsi, msi, settings=settings, steps=1)
    out = _fused(model, hsi, msi, settings=settings, steps=100)
    assert float((project(out, model.response) - msi).abs().max()) < 2e-3
    assert float((coarsen(out, 4, (1.7, 1.7)) - hsi).abs().max()) < 2e-3
    assert float((out - truth).square().mean()) < 0.2 * float((started - truth).square().mean())


def test_gain_and_offset_are_those_of_the_msi() -> None:
    model = _prior()
    hsi, msi = _pair(torch.rand(1, 6, 8, 8) * 0.5, model)
    gain, offset = torch.tensor([2.0, 0.5, 1.0]), torch.tensor([0.1, 0.0, -0.05])
    changed = gain[:, None, None] * msi + offset[:, None, None]
    weights = model.response * 1.0
    out = _fused(model, hsi, changed, gain=gain, offset=offset)
    same = _fused(model, hsi, gain[:, None, None] * msi, response=gain[:, None] * weights)
    torch.testing.assert_close(out, same, atol=1e-6, rtol=1e-5)


def test_a_tile_is_the_part_of_the_whole_but_near_its_border() -> None:
    model = _prior()
    cube = torch.rand(1, 6, 16, 64) * 0.5
    hsi, msi = _pair(cube, model)
    whole = _fused(model, hsi, msi, settings=QUICK)
    tile = _fused(model, hsi[..., 4:12], msi[..., 16:48], settings=QUICK, origins=torch.tensor([[0, 16]]))
    # ε is the same on the scene's grid; only the PSF (4 σ = 7 px a step) carries the border inward.
    torch.testing.assert_close(tile[..., 12:20], whole[..., 28:36], atol=1e-5, rtol=0)
    shifted = _fused(model, hsi[..., 4:12], msi[..., 16:48], settings=QUICK)
    assert not torch.allclose(shifted[..., 12:20], whole[..., 28:36], atol=1e-4)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _prior()
    hsi, msi = _pair(torch.rand(2, 6, 8, 8) * 0.5, model)
    whole = _fused(model, hsi, msi)
    monkeypatch.setattr("spectile.model.sdp.fusion.CHUNK", 50)
    torch.testing.assert_close(_fused(model, hsi, msi), whole, atol=1e-6, rtol=0)


def test_a_checkpoint_fuses_through_the_predictor_and_repeats(tmp_path: Path) -> None:
    train(tiny_prior(), [scene()], [scene(1)], tmp_path, metadata={"name": "tiny"}, device="cpu")
    rng = np.random.default_rng(0)
    rasters = {
        "msi": Raster(0.3 * rng.random((2, 3, 8, 8), dtype=np.float32), np.ones((2, 8, 8), bool)),
        "hsi": Raster(0.3 * rng.random((2, 6, 2, 2), dtype=np.float32), np.ones((2, 2, 2), bool)),
    }
    batch = Batch(rasters, np.array([(0, 0), (8, 4)], np.int64), 2)
    cubes = []
    for seed in (0, 0, 1):
        predictor = load_predictor(str(tmp_path), device="cpu", seed=seed)
        assert [spec.name for spec in predictor.inputs] == ["msi", "hsi"]
        assert predictor.settings["prior_weight"] == 1e-3
        assert predictor.stride == 4
        cubes.append(next(predictor.predict(batch, range(1))))
    assert cubes[0].shape == (2, 6, 8, 8)
    assert cubes[0].dtype == np.float32
    assert np.array_equal(cubes[0], cubes[1])
    assert not np.array_equal(cubes[0], cubes[2])
