"""The cascade's closed-form parts, its sampling and its guards; and the shipped weights' two stages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spectile.catalog.bands import RGB_CAMERA, VNIR48, Bands
from spectile.model import checkpoint
from spectile.model.cascade.cascade import (
    REFLECTANCE_LIMIT,
    CascadeConfig,
    SpectralCascade,
    Stage,
    StageConfig,
    colour_features,
)
from spectile.model.cascade.shuffle import shuffle_factor
from spectile.model.data.crops import CropSource, TrainingScene
from spectile.model.measure.evaluation import held_out_crops
from spectile.model.registry import load_network

TINY = (StageConfig(2, 8, 1, 8, kernels=16), StageConfig(3, 8, 1, 8))
CONFIG = CascadeConfig(VNIR48, RGB_CAMERA, stages=TINY)


def _pixels(count: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """RGB and spectra of a two-parameter family, as a camera and a spectrometer would see it."""
    rng = np.random.default_rng(0)
    level, slope = rng.uniform(0.05, 0.4, (2, count, 1))
    nm = (np.asarray(VNIR48.centre_nm) - 380.0) / 670.0
    spectra = level + slope * nm + 0.002 * rng.standard_normal((count, 48))
    rgb = np.stack([spectra[:, 16], spectra[:, 11], spectra[:, 6]], axis=1)
    return torch.tensor(rgb, dtype=torch.float32), torch.tensor(spectra, dtype=torch.float32)


def _fitted() -> SpectralCascade:
    torch.manual_seed(0)
    model = SpectralCascade(CONFIG).eval()
    rgb, spectra = _pixels()
    colour = colour_features(rgb)
    coarse = spectra[:, list(CONFIG.coarse_bands)]
    generator = torch.Generator().manual_seed(0)
    model.stage(0).closed.fit(colour, coarse, ridge=1e-6, generator=generator)
    model.stage(1).closed.fit(torch.cat([colour, coarse], 1), spectra, ridge=1e-6, generator=generator)
    return model


def _draw(model: SpectralCascade, shape: tuple[int, ...], seed: int = 0):  # type: ignore[no-untyped-def]
    def draw(stage: int, step: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed + 10 * stage)
        size = (shape[0], model.stage(stage).config.components, *shape[2:])
        return torch.randn(size, generator=generator)

    return draw


def test_the_configuration_survives_json() -> None:
    assert CascadeConfig.from_json(CONFIG.to_json()) == CONFIG


def test_the_coarse_bands_are_every_fourth_of_48() -> None:
    assert CONFIG.coarse_bands == tuple(range(0, 48, 4))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3))
def test_features_are_finite_and_bounded_for_any_input(rgb: list[float]) -> None:
    features = colour_features(torch.tensor(rgb).reshape(1, 3, 1, 1))
    assert torch.isfinite(features).all()
    assert features.abs().max() <= 1.5**2


def test_the_root_polynomials_scale_with_exposure() -> None:
    rgb = torch.rand(1, 3, 4, 4) * 0.4
    assert torch.allclose(colour_features(2 * rgb)[:, :13], 2 * colour_features(rgb)[:, :13], atol=1e-6)


def test_the_closed_form_recovers_spectra_that_the_colour_determines() -> None:
    model = _fitted()
    rgb, spectra = _pixels()
    estimate = model.closed_form(rgb.T[None, :, :, None])[0, :, :, 0].T
    assert (estimate - spectra).square().mean().sqrt() < 0.02


def test_the_basis_holds_the_residual_in_order_of_its_deviation() -> None:
    stage = Stage(StageConfig(2, 8, 1, 8), 3, 5)
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(5, 5, generator=generator))[0]
    residual = torch.randn(20000, 2, generator=generator) * torch.tensor([0.3, 0.05]) @ directions[:, :2].T
    features = torch.rand(20000, 3, generator=generator)
    stage.closed.fit(features, features @ torch.rand(3, 5) + residual, ridge=1e-9, generator=generator)
    first, second = stage.diffused.norm(dim=0)
    assert first / second == pytest.approx(6.0, rel=0.05)
    assert torch.allclose(
        stage.closed.basis.T @ stage.closed.basis, torch.diag(stage.closed.basis.square().sum(0)), atol=1e-6
    )
    white = torch.linalg.lstsq(stage.diffused, residual.T).solution
    spread = white @ white.T / 20000
    # White but for one factor: the scatter of a multivariate t is not the covariance of a normal law.
    assert 0.4 < spread[0, 0] < 2.5
    assert torch.allclose(spread / spread[0, 0], torch.eye(2), atol=0.1)


def test_rare_spikes_do_not_set_the_scale_of_the_basis() -> None:
    stages = [Stage(StageConfig(1, 8, 1, 8), 3, 5) for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    features, residual = torch.rand(20000, 3), 0.01 * torch.randn(20000, 5, generator=generator)
    spiked = residual.clone()
    spiked[::500] *= 50.0
    scales = []
    for stage, error in zip(stages, (residual, spiked), strict=True):
        stage.closed.fit(features, features @ torch.ones(3, 5) + error, ridge=1e-9, generator=generator)
        scales.append(float(stage.diffused.norm()))
    # A plain covariance would be 2.4 times as wide.
    assert scales[1] < 1.25 * scales[0]


def test_the_expected_size_follows_the_colour() -> None:
    stage = Stage(StageConfig(1, 8, 1, 8), 3, 5)
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(20000, 3, generator=generator)
    error = features[:, :1] * torch.randn(20000, 5, generator=generator) * 0.1
    stage.closed.fit(features, features @ torch.ones(3, 5) + error, ridge=1e-9, generator=generator)
    probe = torch.tensor([[0.2, 0.5, 0.5], [0.8, 0.5, 0.5]]).T[None, :, :, None]
    small, large = stage.closed.prepare(probe).size.flatten()
    assert large / small == pytest.approx(4.0, rel=0.1)


def test_a_mean_in_chunks_is_the_mean_at_once() -> None:
    model = _fitted()
    features = colour_features(torch.rand(2, 3, 128, 128) * 0.5)
    whole = model.stage(0).closed.prepare(features).mean
    pixel = model.stage(0).closed.prepare(features[:, :, 100:101, 7:8]).mean
    assert torch.allclose(whole[:, :, 100:101, 7:8], pixel, atol=1e-6)


@torch.inference_mode()
def test_a_sample_depends_on_both_stages_noise() -> None:
    model = _fitted()
    rgb = torch.rand(1, 3, 16, 16) * 0.4
    first = model.sample(rgb, _draw(model, rgb.shape))
    assert first.shape == (1, 48, 16, 16)
    assert not torch.equal(first, model.sample(rgb, _draw(model, rgb.shape, seed=5)))
    assert torch.equal(first, model.sample(rgb, _draw(model, rgb.shape)))


@torch.inference_mode()
def test_what_samples_share_is_made_once_and_changes_none() -> None:
    torch.manual_seed(0)
    model = SpectralCascade(CascadeConfig(VNIR48, RGB_CAMERA, stages=TINY, members=2)).eval()
    model.load_state_dict({**model.state_dict(), **_closed_form(_fitted())})
    rgb = torch.rand(1, 3, 16, 16) * 0.4
    begun, asked = model.begin(rgb), []
    for member, network in enumerate(model.stage(0).networks):
        network.condition_in.register_forward_hook(lambda *_, member=member: asked.append(member))
    draws = [_draw(model, rgb.shape, seed=seed) for seed in range(5)]
    shared = [model.finish(begun, draw, number=number) for number, draw in enumerate(draws)]
    assert asked == [0, 1]
    for number, draw in enumerate(draws):
        assert torch.equal(shared[number], model.sample(rgb, draw, number=number))


def _closed_form(model: SpectralCascade) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if ".networks." not in name}


@torch.inference_mode()
def test_one_step_is_the_corrected_mean_and_needs_no_noise() -> None:
    model = _fitted()
    for stage in (model.stage(0), model.stage(1)):
        torch.nn.init.normal_(stage.networks[0].correction.weight, std=0.1)
    rgb = torch.rand(1, 3, 16, 16) * 0.4

    def never(stage: int, step: int) -> torch.Tensor:
        raise AssertionError("drawn")

    mean = model.sample(rgb, never, steps=1)
    coarse = model.stage(0).encode(model.stage(0).closed.prepare(colour_features(rgb))).prepared
    assert not torch.allclose(mean, model.closed_form(rgb), atol=1e-3)
    assert torch.allclose(mean, model.refine(rgb, coarse.mean.clamp(0, 1.6), never, steps=1))


@torch.inference_mode()
def test_the_spread_scales_the_samples_about_the_mean() -> None:
    model = _fitted()
    rgb, spectra = (part[:256].T.reshape(1, -1, 16, 16) for part in _pixels())
    coarse, draw = spectra[:, list(CONFIG.coarse_bands)], _draw(model, rgb.shape)
    mean, whole = (model.refine(rgb, coarse, draw, steps=steps) for steps in (1, None))
    model.stage(1).spread.fill_(0.5)
    half = model.refine(rgb, coarse, draw)
    assert min(mean.min(), whole.min(), half.min()) > 0.0  # nothing was clipped
    assert torch.allclose(half - mean, 0.5 * (whole - mean), atol=1e-6)
    assert (whole - mean).std() > 1e-4


@torch.inference_mode()
@pytest.mark.parametrize("level", [-3.0, 0.0, 1.0, 40.0])
def test_samples_stay_finite_and_in_range_for_any_input(level: float) -> None:
    model = _fitted()
    cube = model.sample(torch.full((1, 3, 16, 16), level), _draw(model, (1, 3, 16, 16)))
    assert torch.isfinite(cube).all()
    assert cube.min() >= 0.0
    assert cube.max() <= REFLECTANCE_LIMIT


@torch.inference_mode()
def test_guidance_of_zero_is_the_conditional_estimate_and_more_changes_it() -> None:
    plain = _fitted()
    for parameter in plain.parameters():
        parameter.add_(0.05)
    stages = tuple(StageConfig(**{**vars(stage), "guidance": 1.0}) for stage in TINY)
    guided = SpectralCascade(CascadeConfig(VNIR48, RGB_CAMERA, stages=stages)).eval()  # type: ignore[arg-type]
    guided.load_state_dict(plain.state_dict())
    rgb = torch.rand(1, 3, 16, 16) * 0.4
    draw = _draw(plain, rgb.shape)
    assert not torch.allclose(plain.sample(rgb, draw), guided.sample(rgb, draw), atol=1e-6)


@pytest.fixture(scope="module")
def shipped() -> SpectralCascade:
    return load_network(checkpoint.load("vnir48"))


def test_the_shipped_second_stage_depends_on_the_first(shipped: SpectralCascade) -> None:
    _, spectra = _pixels(64 * 64)
    cube = spectra.T.reshape(48, 64, 64).clamp(0).numpy()
    scene = TrainingScene("family", cube, VNIR48, np.ones((64, 64), bool))
    batch = held_out_crops(CropSource([scene], VNIR48, RGB_CAMERA), crops=2, size=64, seed=0)
    assert shuffle_factor(shipped, batch, seed=0) >= 2.0


@torch.inference_mode()
@pytest.mark.parametrize("level", [0.0, 0.01, 0.95])
def test_shipped_spectra_of_flat_tiles_agree_with_their_colour(
    shipped: SpectralCascade, level: float
) -> None:
    rgb = torch.full((1, 3, 64, 64), level)
    cube = shipped.sample(rgb, _draw(shipped, rgb.shape), steps=1)
    visible = [Bands.nearest(VNIR48, nm) for nm in (460.0, 540.0, 605.0)]
    assert (cube[:, visible].mean(dim=(0, 2, 3)) - level).abs().max() < 0.05 + 0.1 * level
    assert cube.max() < 1.3


@torch.inference_mode()
def test_samples_lie_around_the_mean_whatever_the_denoiser_thinks_it_is() -> None:
    """A denoiser that always says z = 5 moves no sample."""
    model = _fitted()
    stage, rgb = model.stage(0), torch.rand(1, 3, 16, 16) * 0.4
    encoded = stage.encode(stage.closed.prepare(colour_features(rgb)))
    draw = _draw(model, (1, 3, 16, 16))
    stage.estimate = lambda noisy, t, alpha_bar, encoded: torch.full_like(noisy, 5.0)  # type: ignore[method-assign]
    z = stage.sample(encoded, model.schedule, 4, lambda step: draw(0, step))
    assert float(z.abs().max()) < 0.1
