"""Fusion under a spectral diffusion prior (Liu et al. 2023, algorithm 1).

The cube X minimises λ‖Y − X B D‖² + ‖Z − R X‖² + γ Σ ‖ε − ε_θ(√ᾱ_t X + √(1 − ᾱ_t) ε, t)‖² (equation 20), with
K steps of Adam at each t from T down to 1, each with another ε. All terms are sums, not means (code), and the
gradient goes through ε_θ (equation 20; code).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spectile.model.data.pairs import coarsen, interpolate, project
from spectile.model.diffusion.noise import noise
from spectile.model.diffusion.parameterization import add_noise
from spectile.model.diffusion.sampler import Draw
from spectile.model.diffusion.schedule import uniform_grid
from spectile.model.networks.spectral_mlp import SpectralMLP
from spectile.model.sdp.preset import SdpConfig, SdpFusion
from spectile.model.system import DrawStage, FusionNetwork

CHUNK = 1 << 14
"""Pixels that go through the denoiser together; they do not know each other."""


class Sensors(NamedTuple):
    """How both sensors see a cube: Z = gain · (R X) + offset, and Y blurred and decimated."""

    response: Tensor
    """(C, B) R."""
    gain: Tensor
    """(C,)."""
    offset: Tensor
    """(C,) reflectance."""
    psf_sigma: tuple[float, float]
    """Standard deviations of the Gaussian PSF along rows and columns, fine pixels."""
    psf_size: int | None
    """Its taps along an axis; None takes all that matter."""
    ratio: int
    """Fine pixels along a coarse one."""
    psf_phase: float | None = None
    """Where the PSF's centre lies in a coarse pixel, as of ``degrade.taps``; None is its middle."""


class Sdp(FusionNetwork):
    """The prior of spectra, and fusion under it. A pixel depends on others through the PSF alone."""

    config: SdpConfig
    scale: Tensor
    """() reflectance that is 1 for the prior."""
    levels: Tensor
    """(T + 1,) ᾱ_t of the schedule."""

    def __init__(self, config: SdpConfig) -> None:
        super().__init__(config)
        self.schedule = config.schedule
        self.stages = nn.ModuleList([SpectralMLP(config.sizes)])
        # On the device, because copying the table at each step of training would make it wait.
        self.register_buffer("levels", torch.tensor(config.schedule.alpha_bar), persistent=False)
        self.register_buffer("scale", torch.tensor(config.scale or 1.0))

    def stage(self, index: int) -> SpectralMLP:
        """The denoiser."""
        network = self.stages[index]
        assert isinstance(network, SpectralMLP)
        return network

    @property
    def stride(self) -> int:  # type: ignore[override]
        """Whole coarse pixels."""
        return self.config.pair.ratio

    @property
    def bytes_per_pixel(self) -> int:  # type: ignore[override]
        """The image, its average, gradients and Adam's moments, and the denoiser's activations."""
        network = self.config.sizes
        return 4 * (14 * network.bands + 6 * (network.layers - 1) * (network.width + network.bands))

    @property
    def sensors(self) -> Sensors:
        """Those of the pairs that the configuration names."""
        pair, channels = self.config.pair, len(self.response)
        ones = torch.ones(channels, device=self.response.device)
        sigma = (pair.psf_sigma, pair.psf_sigma)
        return Sensors(self.response, ones, 0.0 * ones, sigma, pair.psf_size, pair.ratio)

    def begin(self, msi: Tensor, hsi: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Both inputs: (N, C, h, w) and (N, B, h / r, w / r) reflectance."""
        return msi, hsi

    def finish(
        self, begun: tuple[Tensor, Tensor], draw: DrawStage, *, steps: int | None = None, number: int = 0
    ) -> Tensor:
        """The fused cube (N, B, h, w), reflectance from 0 to the prior's scale."""
        msi, hsi = begun
        count = self.config.steps if steps is None else steps
        return fuse(hsi, msi, sensors=self.sensors, prior=self, steps=count, draw=partial(draw, 0))

    def denoising_gradient(
        self, image: Tensor, t: float, draw: Draw, step: int, embedded: Sequence[Tensor]
    ) -> Tensor:
        """Gradient (N, B, h, w) of Σ ‖ε − ε_θ(√ᾱ X + √(1 − ᾱ) ε, t)‖² in X, at a scaled image X.

        Parameters
        ----------
        draw, step : give ε.
        embedded : the time's part of each layer.
        """
        spectra, eps = (values.movedim(1, -1).flatten(0, 2) for values in (image, draw(step)))
        alpha_bar, network = self.schedule.alpha_bar_at(t), self.stage(0)
        parts = []
        for x, white in zip(torch.split(spectra, CHUNK), torch.split(eps, CHUNK), strict=True):
            given = x.detach().requires_grad_()
            out = network.predict(add_noise(given, white, alpha_bar), embedded)
            parts.append(torch.autograd.grad((white - out).square().sum(), given)[0])
        n, _, height, width = image.shape
        return torch.cat(parts).reshape(n, height, width, -1).movedim(-1, 1)


def fuse(
    hsi: Tensor,
    msi: Tensor,
    *,
    sensors: Sensors,
    prior: Sdp,
    steps: int,
    draw: Draw,
    settings: SdpFusion | None = None,
) -> Tensor:
    """The fused cube (N, B, h, w) float32, reflectance from 0 to the prior's scale.

    Parameters
    ----------
    hsi : (N, B, h / r, w / r) float32 reflectance, Y.
    msi : (N, C, h, w) float32 reflectance, Z.
    sensors : how they see the cube.
    prior : in evaluation mode, on the inputs' device.
    steps : times t at equal intervals, of T.
    draw : ε of each Adam step, (N, B, h, w).
    settings : of the fusion; None are those of the prior's configuration.
    """
    settings = settings or prior.config.fusion
    # The steps need gradients, which predictors switch off; tensors made there must be copied first.
    with torch.inference_mode(False), torch.enable_grad():
        scale = prior.scale
        weights = sensors.gain[:, None] * sensors.response
        y, z = hsi.clone() / scale, (msi.clone() - sensors.offset[:, None, None]) / scale
        image = _start(y, sensors, settings.start)
        adam = torch.optim.Adam([image], lr=settings.learning_rate, weight_decay=settings.weight_decay)
        average = image.detach().clone()
        for i, t in enumerate(uniform_grid(prior.schedule, steps)[:-1]):
            with torch.no_grad():  # the weights are fixed; the published code counts times from 0 to T − 1
                embedded = prior.stage(0).embed(image.new_full((1,), t - 1.0))
            for step in range(i * settings.inner, (i + 1) * settings.inner):
                image.grad = _misfit_gradient(image, y, z, weights, sensors, settings.hsi_weight)
                if settings.prior_weight > 0.0:
                    gradient = prior.denoising_gradient(image, t, draw, step, embedded)
                    image.grad.add_(gradient, alpha=settings.prior_weight)
                adam.step()
                with torch.no_grad():
                    image.clamp_(0.0, 1.0)
                    average.lerp_(image, 1.0 - settings.image_ema)
        return (average * scale).detach()


def fuse_sdp(
    hsi: Tensor,
    msi: Tensor,
    *,
    response: Tensor,
    gain: Tensor,
    offset: Tensor,
    psf_sigma: tuple[float, float],
    ratio: int,
    prior: Sdp,
    steps: int | None,
    origins: Tensor,
    seed: int,
    psf_size: int | None = None,
    settings: SdpFusion | None = None,
) -> Tensor:
    """The fused cube of a pair whose sensors were estimated, as of ``fuse``; ε lies on the scene's grid.

    Parameters
    ----------
    hsi, msi : as of ``fuse``.
    response, gain, offset, psf_sigma, psf_size, ratio : as of ``Sensors``.
    prior : a trained one of the HSI's bands.
    steps : times; None is the prior's default.
    origins : (N, 2) int64, (row, col) of each window's first fine pixel.
    seed : of ε.
    settings : of the fusion; None are those of the prior's configuration.
    """
    height, width = msi.shape[-2:]

    def draw(step: int) -> Tensor:
        return noise(
            seed=seed, stage=0, step=step, sample=0, channels=hsi.shape[1], origins=origins,
            height=height, width=width, device=hsi.device,
        )  # fmt: skip

    sensors = Sensors(response, gain, offset, psf_sigma, psf_size, ratio)
    count = prior.config.steps if steps is None else steps
    return fuse(hsi, msi, sensors=sensors, prior=prior, steps=count, draw=draw, settings=settings)


def _start(y: Tensor, sensors: Sensors, start: str) -> Tensor:
    """The first image, a leaf that learns."""
    up = interpolate(y, sensors.ratio, phase=sensors.psf_phase)
    if start == "ones":
        return torch.ones_like(up).requires_grad_()
    return up.clamp(0.0, 1.0).detach().requires_grad_()


def _misfit_gradient(
    image: Tensor, y: Tensor, z: Tensor, weights: Tensor, sensors: Sensors, hsi_weight: float
) -> Tensor:
    """Gradient of λ‖Y − X B D‖² + ‖Z − R X‖² (equation 14)."""
    coarse = coarsen(image, sensors.ratio, sensors.psf_sigma, size=sensors.psf_size, phase=sensors.psf_phase)
    misfit = hsi_weight * (y - coarse).square().sum() + (z - project(image, weights)).square().sum()
    return torch.autograd.grad(misfit, image)[0]
