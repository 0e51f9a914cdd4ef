"""Sampling of HSR-Diff: the equations, two inputs through the predictor, noise on positions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spectile.catalog.inputs import Batch, Raster
from spectile.model.data.crops import CropSource
from spectile.model.hsr_diff.fusion import HsrDiff
from spectile.model.hsr_diff.train import train
from spectile.model.predict.network import NetworkPredictor
from spectile.model.predict.predictor import load_predictor
from tests.model.hsr_diff.fusions import scene, tiny_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("hsr-diff")
    train(tiny_config(), [scene()], [scene(1)], path, metadata={"name": "tiny"}, device="cpu")
    return str(path)


def predictor_of(folder: str, **settings: Any) -> NetworkPredictor:
    predictor = load_predictor(folder, device="cpu", **settings)
    assert isinstance(predictor, NetworkPredictor)
    return predictor


def tiles(places: list[tuple[int, int]], size: int = 16) -> Batch:
    rng = np.random.default_rng(0)
    msi, hsi = rng.random((3, 64, 64), dtype=np.float32), rng.random((6, 16, 16), dtype=np.float32)
    rasters = {}
    for name, land, ratio in (("msi", msi, 1), ("hsi", hsi, 4)):
        cut = [land[:, r // ratio : (r + size) // ratio, c // ratio : (c + size) // ratio] for r, c in places]
        values = 0.5 * np.stack(cut)
        rasters[name] = Raster(values, np.ones((len(places), *values.shape[2:]), bool))
    return Batch(rasters, np.array(places, np.int64), len(places))


def predict(predictor: NetworkPredictor, places: list[tuple[int, int]]) -> NDArray[np.float32]:
    return next(predictor.predict(tiles(places), range(1)))


def test_a_checkpoint_takes_both_scenes_each_with_its_fill(folder: str) -> None:
    predictor = predictor_of(folder)
    msi, hsi = predictor.inputs
    assert (msi.name, hsi.name, msi.ratio, hsi.ratio) == ("msi", "hsi", 1, 4)
    config = tiny_config()
    assert (msi.bands, hsi.bands) == (config.response, config.bands)
    # The mean of the training data as each scene sees it; resampling to the same bands mixes neighbours a
    # little.
    np.testing.assert_allclose(hsi.fill, scene().cube.mean((1, 2)), atol=3e-3)
    np.testing.assert_allclose(
        msi.fill, predictor.network.response.numpy() @ np.array(hsi.fill, np.float32), atol=1e-6
    )
    assert predictor.stride == 4
    assert predictor.memory(256) > 250 * 2**20
    json.dumps(predictor.settings)
    assert predictor.settings["steps"] == 3


def test_predictions_repeat_differ_by_seed_and_do_not_depend_on_their_company(folder: str) -> None:
    cubes = [predict(predictor_of(folder, seed=seed), [(16, 4)])[0] for seed in (0, 0, 1)]
    assert cubes[0].shape == (6, 16, 16)
    assert (cubes[0] >= 0.0).all()
    assert (cubes[0] <= 1.6).all()
    assert np.array_equal(cubes[0], cubes[1])
    assert not np.array_equal(cubes[0], cubes[2])
    together = predict(predictor_of(folder), [(0, 0), (16, 4)])
    assert np.array_equal(together[1], cubes[0])


def test_overlapping_tiles_share_their_noise(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    finish = HsrDiff.finish

    def spy(self: HsrDiff, begun: Any, draw: Any, **named: Any) -> torch.Tensor:
        seen.append(draw(0, 2))
        return finish(self, begun, draw, **named)

    monkeypatch.setattr(HsrDiff, "finish", spy)
    predict(predictor_of(folder), [(0, 0), (4, 8)])
    assert torch.equal(seen[0][..., 4:, 8:], seen[1][..., :12, :8])


class Known(HsrDiff):
    """Knows the truth."""

    truth: torch.Tensor

    def estimate(self, state: torch.Tensor, level: torch.Tensor, begun: Any) -> torch.Tensor:
        return self.truth


@pytest.mark.parametrize("variance", ["beta", "posterior"])
def test_a_sample_is_the_chain_of_equation_6(variance: str) -> None:
    config = tiny_config(variance=variance, steps=3)
    model = Known(config)
    model.truth = torch.full((1, 6, 8, 8), 0.3)
    white = [torch.randn(1, 6, 8, 8) for _ in range(3)]
    states: list[torch.Tensor] = []

    def watched(state: torch.Tensor, level: torch.Tensor, begun: Any) -> torch.Tensor:
        states.append(state)
        return model.truth

    model.estimate = watched  # type: ignore[method-assign]
    out = model.finish(None, lambda stage, step: white[step])  # type: ignore[arg-type]
    gamma = [config.schedule.alpha_bar_at(t) for t in (2000, 1333, 667)]
    expected = white[0]
    for i in (1, 2):
        alpha = gamma[i - 1] / gamma[i]
        mean = (
            gamma[i] ** 0.5 * (1 - alpha) / (1 - gamma[i - 1]) * model.truth
            + alpha**0.5 * (1 - gamma[i]) / (1 - gamma[i - 1]) * expected
        )
        spread = 1 - alpha if variance == "beta" else (1 - gamma[i]) * (1 - alpha) / (1 - gamma[i - 1])
        expected = mean + spread**0.5 * white[i]
        torch.testing.assert_close(states[i], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out, model.truth * config.scale + config.offset)


def test_crops_are_observed_as_both_sensors_see_them_the_same_each_time() -> None:
    model = HsrDiff(tiny_config())
    source = CropSource([scene()], model.config.bands, model.config.response)
    batch = source.batch((0,), count=2, size=16, augmentation=None)
    msi, hsi = model.observe(batch)
    assert (msi.shape, hsi.shape) == ((2, 3, 16, 16), (2, 6, 4, 4))
    assert torch.equal(model.observe(batch)[1], hsi)
    # 40 dB of noise on about .3.
    assert float((msi - batch.rgb).square().mean().sqrt()) == pytest.approx(0.003, rel=0.3)


def test_the_upsampled_hsi_stays_where_it_is() -> None:
    model = HsrDiff(tiny_config())
    ramp = torch.arange(8.0)[None, None, :, None].expand(1, 6, 8, 8)
    up = model.upsampled(ramp)
    # The centre of coarse pixel i is at 4·i + 1.5; torch's cubic is off a straight line by less than .05 px.
    inner = (torch.arange(8, 24) - 1.5) / 4
    torch.testing.assert_close(up[0, 0, 8:24, 16], inner, atol=0.05, rtol=0)
    torch.testing.assert_close(model.upsampled(ramp.flip(2)), up.flip(2))
