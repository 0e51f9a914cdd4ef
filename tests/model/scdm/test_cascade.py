import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from spectile.model.diffusion.noise import noise
from spectile.model.diffusion.schedule import linear_schedule, uniform_grid
from spectile.model.diffusion.truncation import TruncationTarget
from spectile.model.networks.unet_shared_encoder import SharedEncoderConfig, SharedEncoderUNet
from spectile.model.scdm import cascade as cascade_paper
from spectile.model.scdm.cascade import sample_stage
from spectile.model.scdm.preset import ScdmPreset, StagePreset, scdm_paper

TINY: dict[str, Any] = {
    "width": 8,
    "multipliers": (1, 2),
    "blocks": 1,
    "attention_levels": (1,),
    "time_width": 16,
    "groups": 4,
}


def tiny_preset(**stage: Any) -> ScdmPreset:
    """The published Houston cascade over networks of a few thousand parameters."""
    preset = scdm_paper("houston")
    stages = tuple(replace(s, network=replace(s.network, **TINY), **stage) for s in preset.stages)
    return replace(preset, stages=stages)


def networks_of(preset: ScdmPreset) -> list[SharedEncoderUNet]:
    torch.manual_seed(0)
    return [SharedEncoderUNet(stage.network).eval() for stage in preset.stages]


def tiles(count: int, size: int = 16) -> tuple[Tensor, Tensor]:
    rgb = 3693 + 3000 * torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))
    return rgb, torch.tensor([[-4 + 8 * i, 12 * i] for i in range(count)])


def sample_cascade(
    networks: list[SharedEncoderUNet],
    rgb: Tensor,
    *,
    preset: ScdmPreset,
    origins: Tensor,
    seed: int,
    steps: int,
    sample: int = 0,
) -> Tensor:
    """A sample with the noise that belongs to the tiles' places."""
    height, width = rgb.shape[2:]

    def draw(stage: int, step: int) -> Tensor:
        channels = preset.stages[stage].network.channels
        return noise(
            seed=seed, stage=stage, step=step, sample=sample, channels=channels, origins=origins,
            height=height, width=width, device="cpu",
        )  # fmt: skip

    return cascade_paper.sample_cascade(networks, rgb, preset=preset, draw=draw, steps=steps)


def test_two_stages_chain_from_rgb_over_12_to_48_bands_in_digital_numbers() -> None:
    preset, (rgb, origins) = tiny_preset(), tiles(2)
    out = sample_cascade(networks_of(preset), rgb, preset=preset, origins=origins, seed=3, steps=4)
    assert out.shape == (2, 48, 16, 16)
    assert out.dtype == torch.float32
    assert out.isfinite().all()


def test_the_same_seed_gives_the_same_bits_and_another_sample_does_not() -> None:
    preset, (rgb, origins) = tiny_preset(), tiles(1)
    networks = networks_of(preset)

    def run(**changes: int) -> Tensor:
        settings = {"seed": 3, "steps": 3} | changes
        return sample_cascade(networks, rgb, preset=preset, origins=origins, **settings)

    assert torch.equal(run(), run())
    assert not torch.allclose(run(), run(sample=1))
    assert not torch.allclose(run(), run(seed=4))


def test_a_tile_of_a_batch_is_the_tile_alone() -> None:
    preset, (rgb, origins) = tiny_preset(), tiles(3)
    networks = networks_of(preset)
    batch = sample_cascade(networks, rgb, preset=preset, origins=origins, seed=3, steps=3)
    alone = sample_cascade(networks, rgb[1:2], preset=preset, origins=origins[1:2], seed=3, steps=3)
    # Convolutions of other batch sizes may add in another order.
    scale = float(batch.abs().max())
    assert float((alone[0] - batch[1]).abs().max()) < 1e-4 * scale


class PerPixel:
    """Stands in for a network: predicts noise from each pixel's own state and condition."""

    def __init__(self, config: SharedEncoderConfig) -> None:
        self.config = config

    def encode_condition(self, condition: Tensor, time: Tensor) -> list[Tensor]:
        return [condition.mean(dim=1, keepdim=True)]

    def predict(self, x: Tensor, time: Tensor, features: list[Tensor]) -> Tensor:
        return 0.7 * x + 0.2 * features[0] * torch.cos(time.reshape(-1, 1, 1, 1) / 300)


def test_overlapping_tiles_see_the_same_noise() -> None:
    preset = tiny_preset(p_T=1.0)  # a percentile of 1 clamps nothing, so pixels stay on their own
    networks = cast(list[SharedEncoderUNet], [PerPixel(stage.network) for stage in preset.stages])
    rgb, _ = tiles(1, size=24)
    origin = torch.tensor([[-5, 100]])
    settings: dict[str, Any] = {"preset": preset, "seed": 3, "steps": 5}
    large = sample_cascade(networks, rgb, origins=origin, **settings)
    corner = torch.tensor([[8, 6]])
    small = sample_cascade(networks, rgb[..., 8:18, 6:20], origins=origin + corner, **settings)
    # The mean over channels may add in another order, and 1 / sqrt(alpha_bar_T) = 157 amplifies it.
    assert float((small - large[..., 8:18, 6:20]).abs().max()) < 1e-5 * float(large.abs().max())


def by_the_book(
    predict: Callable[[Tensor, float, Tensor], Tensor],
    condition: Tensor,
    stage: StagePreset,
    beta: np.ndarray[Any, Any],
    draws: list[Tensor],
) -> Tensor:
    """SCDM's algorithm 2, line by line in eps, with numpy's quantile; times count from 0 as in its code."""
    alpha_bar = np.cumprod(1 - beta)
    shares = np.linspace(stage.p_T, 1.0, len(beta))[::-1]

    def clamp(values: Tensor, t: int) -> Tensor:
        limits = [max(1.0, float(np.quantile(v.abs().numpy(), shares[t]))) for v in values]
        return torch.stack([v.clamp(-limit, limit) for v, limit in zip(values, limits, strict=True)])

    x = draws[0]
    for t in range(len(beta) - 1, -1, -1):
        if stage.truncation == "x_t":
            x = clamp(x, t)
        conditional, null = predict(x, t, condition), predict(x, t, torch.zeros_like(condition))
        eps = conditional + stage.guidance * (conditional - null)
        if stage.truncation == "eps":
            eps = clamp(eps, t)
        x = (x - beta[t] / math.sqrt(1 - alpha_bar[t]) * eps) / math.sqrt(1 - beta[t])
        if t > 0:
            x = x + math.sqrt(beta[t]) * draws[len(beta) - t]
    return x


@pytest.mark.parametrize("truncation", ["x_t", "eps"])
@pytest.mark.parametrize("guidance", [0.0, 1.5])
@pytest.mark.parametrize("condition_time", ["step", "fixed"])
def test_a_stage_is_the_published_algorithm(
    truncation: TruncationTarget, guidance: float, condition_time: Any
) -> None:
    config = SharedEncoderConfig(channels=6, condition_channels=3, **TINY, condition_time=condition_time)
    torch.manual_seed(0)
    network = SharedEncoderUNet(config).eval().double()
    generator = torch.Generator().manual_seed(1)
    draws = [torch.randn(2, 6, 8, 8, generator=generator, dtype=torch.float64) for _ in range(12)]
    condition = torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    stage = StagePreset(config, p_T=0.7, guidance=guidance, truncation=truncation)
    schedule = linear_schedule(12, beta_1=0.01, beta_T=0.4)

    @torch.no_grad()
    def predict(x: Tensor, t: float, given: Tensor) -> Tensor:
        out: Tensor = network(x, torch.full((2,), float(t)), given)
        return out

    got = sample_stage(
        network,
        condition,
        stage=stage,
        schedule=schedule,
        times=uniform_grid(schedule, 12),
        draw=lambda step: draws[step],
    )
    expected = by_the_book(predict, condition, stage, np.linspace(0.01, 0.4, 12), draws)
    # The threshold is taken in single precision: 1e-7 a step, amplified by 1/sqrt(alpha) and the network.
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
