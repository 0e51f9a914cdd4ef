"""Sampling: noise to a code by the latent U-Net, code and colour to reflectance by the VQGAN's decoder.

The code lies on a lattice that is fixed to the scene's grid, one value for ``factor`` × ``factor`` pixels.
The noise is a function of its place on that lattice, so overlapping tiles draw the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spectile.model.closed.closed_form import colour_features
from spectile.model.diffusion.parameterization import to_x0
from spectile.model.diffusion.sampler import ancestral, dpm_solver_pp_2m
from spectile.model.diffusion.schedule import logsnr_grid, uniform_grid
from spectile.model.hyperldm.autoencoder import ConditionalVqgan
from spectile.model.hyperldm.latent_unet import LatentUNet
from spectile.model.hyperldm.preset import HyperConfig
from spectile.model.system import REFLECTANCE_LIMIT, DrawStage, Network

FIXED_SCALE = 0.24
"""The published code divides the quantised code by this."""
FORWARD_MAPS = 8
"""Maps of the decoder's finest width that the peak of a forward pass amounts to, measured at 256²."""


@dataclass(eq=False)
class Begun:
    """What is the same for all samples of one colour image."""

    colour: list[Tensor]
    """Features for the decoder, a level each."""
    seen: Tensor
    """What the latent U-Net's condition encoder gave."""


class HyperLdm(Network):
    """RGB to B bands through a diffused code."""

    config: HyperConfig
    latent_mean: Tensor
    latent_scale: Tensor

    def __init__(self, config: HyperConfig) -> None:
        super().__init__()
        self.config = config
        self.schedule = config.schedule
        self.lattice = config.autoencoder.factor
        spectra = [one.reflectance for one in config.library]
        bands, latent = len(config.bands), config.components
        library = torch.tensor(spectra).T if spectra else torch.zeros(bands, config.endmembers)
        self.autoencoder = ConditionalVqgan(config.autoencoder, library, config.condition_channels)
        self.stages = nn.ModuleList([LatentUNet(config)])
        self.register_buffer("latent_mean", torch.zeros(latent))
        self.register_buffer("latent_scale", torch.full((latent,), FIXED_SCALE))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def denoiser(self) -> LatentUNet:
        """The latent U-Net."""
        only = self.stages[0]
        assert isinstance(only, LatentUNet)
        return only

    @property
    def stride(self) -> int:  # type: ignore[override]
        """Pixels along the lowest level of the latent U-Net."""
        return self.lattice * self.denoiser.stride

    @property
    def reach(self) -> int | None:  # type: ignore[override]
        """Measured for the compact one (docs/hyperldm.md); group norms and attention see the whole tile."""
        auto, denoiser = self.config.autoencoder, self.config.denoiser
        local = auto.norm == denoiser.norm == "channel" and not auto.attention
        local = local and not denoiser.attention_levels and auto.illumination == "global"
        return LOCAL_REACH if local else None

    @property
    def bytes_per_pixel(self) -> int:  # type: ignore[override]
        """Peak of one tile: the decoder's maps, or the logits, shares and spectra."""
        auto = self.config.autoencoder
        spectra = 2 * self.config.endmembers + 2 * len(self.config.bands)
        return 4 * (FORWARD_MAPS * auto.widths[0] // auto.fold**2 + spectra)

    @property
    def begun_bytes_per_pixel(self) -> int:  # type: ignore[override]
        """Of ``Begun``."""
        auto, denoiser = self.config.autoencoder, self.config.denoiser
        maps = sum(width / (auto.fold << level) ** 2 for level, width in enumerate(auto.widths))
        return int(4 * (maps + denoiser.condition / auto.factor**2)) + 1

    def condition_of(self, rgb: Tensor) -> Tensor:
        """(N, C, h, w) what the condition encoders get of reflectance (N, 3, h, w)."""
        kind = self.config.autoencoder.condition
        if kind == "features":
            return colour_features(rgb)
        if kind == "bands":
            return rgb * (self.config.counts / self.config.scale)
        eight_bit = (rgb / self.config.white).clamp(0.0, 1.0).mul(255.0).floor()
        return eight_bit.flip(1) / 127.5 - 1.0

    def spectra_of(self, reflectance: Tensor) -> Tensor:
        """What the encoder gets of reflectance (N, B, h, w)."""
        if self.config.autoencoder.spectra == "root":
            return reflectance.clamp_min(0.0).sqrt()
        return reflectance * (self.config.counts / self.config.scale)

    def latent(self, reflectance: Tensor) -> Tensor:
        """The scaled, quantised code (N, n, h/f, w/f) of reflectance (N, B, h, w): what is diffused."""
        code = self.autoencoder.codebook(self.autoencoder.encode(self.spectra_of(reflectance)))
        scaled: Tensor = (code - _channels(self.latent_mean)) / _channels(self.latent_scale)
        return scaled

    def reconstruct(self, rgb: Tensor, reflectance: Tensor) -> Tensor:
        """Reflectance (N, B, h, w) through the VQGAN alone, which gets the truth."""
        return self._decode(self.latent(reflectance), self.autoencoder.condition(self.condition_of(rgb)))

    def begin(self, rgb: Tensor) -> Begun:
        """All that depends only on the colour (N, 3, h, w), once for all samples of it."""
        condition = self.condition_of(rgb)
        return Begun(self.autoencoder.condition(condition), self.denoiser.encode(condition))

    def estimate(self, noisy: Tensor, t: Tensor, alpha_bar: float | Tensor, seen: Tensor) -> Tensor:
        """x̂_0 of a noisy code (N, n, h, w) at times t (N,) from 1."""
        output = self.denoiser(noisy, t - 1, seen)  # the published network counts 0 to T − 1
        return to_x0(output, noisy, alpha_bar, self.config.denoiser.prediction)

    def finish(self, begun: Begun, draw: DrawStage, *, steps: int | None = None, number: int = 0) -> Tensor:
        """One sample of the cube, (N, B, h, w) reflectance in [0, 1.6]; algorithm 2 and the decoder."""
        return self._decode(self.draw_code(begun, draw, steps=steps), begun.colour)

    def draw_code(self, begun: Begun, draw: DrawStage, *, steps: int | None = None) -> Tensor:
        """One sample of the scaled code, (N, n, h/f, w/f)."""
        count = steps or self.config.steps

        def denoise(noisy: Tensor, time: float) -> Tensor:
            t = torch.full((len(noisy),), time, device=noisy.device)
            x_0 = self.estimate(noisy, t, self.schedule.alpha_bar_at(time), begun.seen)
            return x_0.clamp(-self.config.clamp, self.config.clamp) if self.config.clamp else x_0

        def noise(step: int) -> Tensor:
            return draw(0, step)

        if self.config.sampler == "dpm_solver_pp_2m":
            times = logsnr_grid(self.schedule, count, whole=True)
            return dpm_solver_pp_2m(denoise, self.schedule, times=times, draw=noise)
        times = uniform_grid(self.schedule, count)
        return ancestral(denoise, self.schedule, times=times, draw=noise, variance="posterior")

    @property
    def endmembers(self) -> tuple[str, ...]:
        """The names of its library's spectra."""
        return tuple(one.name for one in self.config.library)

    def finish_mixed(
        self, begun: Begun, draw: DrawStage, *, steps: int | None = None, number: int = 0
    ) -> Tensor:
        """As ``finish``, and the shares (N, G, h, w) of the library's spectra, which add up to one."""
        code = self._unscaled(self.draw_code(begun, draw, steps=steps))
        shares, light = self.autoencoder.abundances(code, begun.colour)
        spectra = self.autoencoder.mix(shares, light).clamp(0.0, REFLECTANCE_LIMIT)
        return torch.cat([spectra, shares], dim=1)

    def parts(self, stage: int) -> Sequence[tuple[object, str, str]]:
        """The VQGAN's condition encoder and decoder."""
        return (self.autoencoder.condition, "forward", "colour"), (self.autoencoder, "decode", "decoder")

    def _decode(self, code: Tensor, colour: Sequence[Tensor]) -> Tensor:
        # As in the published code, it is not quantised again.
        return self.autoencoder.decode(self._unscaled(code), colour).clamp(0.0, REFLECTANCE_LIMIT)

    def _unscaled(self, code: Tensor) -> Tensor:
        return code * _channels(self.latent_scale) + _channels(self.latent_mean)


LOCAL_REACH = 56
"""Pixels beyond which a neighbour changes less than a stored count (docs/hyperldm.md)."""


def _channels(values: Tensor) -> Tensor:
    return values[:, None, None]
