"""The cascade's closed-form parts, its sampling and its guards; and the shipped weights' two stages."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spectile.catalog.bands import RGB_CAMERA, VNIR48, Bands
from spectile.model import checkpoint
from spectile.model.cascade.cascade import (
    REFLECTANCE_LIMIT,
    CascadeConfig,
    SpectralCascade,
    StageConfig,
    colour_features,
)
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


def test_the_closed_form_recovers_spectra_that_the_colour_determines() -> None:
    model = _fitted()
    rgb, spectra = _pixels()
    estimate = model.closed_form(rgb.T[None, :, :, None])[0, :, :, 0].T
    assert (estimate - spectra).square().mean().sqrt() < 0.02


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
