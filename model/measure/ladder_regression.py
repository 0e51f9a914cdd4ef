"""The ladder's regressions: published networks, the cascade's own backbone, its quantiles and its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from spectile.model.cascade.cascade import Stage, StageConfig
from spectile.model.cascade.config import TrainConfig
from spectile.model.cascade.train import learning_rate, mean_loss
from spectile.model.closed.closed_form import COLOUR_FEATURES, colour_features
from spectile.model.closed.regressions import Floats
from spectile.model.diffusion.losses import spectral_loss
from spectile.model.measure.ladder import rmse
from spectile.model.measure.ladder_training import BATCH, CROP, STILL, WATCH_SAMPLES, PairSource, padded_image
from spectile.model.measure.metrics import reliability
from spectile.model.networks.unet_compact import FOLD, CompactUNet, fold, unfold

ANGLE = 0.1
"""Weight of 1 - cos beside the squared error in units of the bands' common deviation."""
LEVELS = tuple((i + 0.5) / 16 for i in range(16))
"""Of the quantile regression."""


class Direct(nn.Module):
    """A published network between standardised colours and spectra."""

    rgb_mean: Tensor
    rgb_scale: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, source: PairSource) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("rgb_mean", source.rgb.mean((1, 2))[:, None, None])
        self.register_buffer("rgb_scale", source.rgb.std((1, 2))[:, None, None].clamp_min(1e-6))
        self.register_buffer("mean", source.cube.mean((1, 2))[:, None, None])
        # One scale for all bands, so that the loss is the squared error in counts.
        spread = (source.cube - self.mean).square().mean().sqrt().clamp_min(1e-6)
        self.register_buffer("scale", spread)

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, B, h, w) of (N, 3, h, w)."""
        out: Tensor = self.mean + self.scale * self.network((rgb - self.rgb_mean) / self.rgb_scale)
        return out


class Backbone(nn.Module):
    """The mean of the cascade's own stage, all bands at once: the regression that has the same backbone.

    With ``levels`` it gives that many quantiles of each band, (N, levels · B, h, w), level by level.
    """

    def __init__(
        self, config: StageConfig, source: PairSource, seed: int, *, members: int, levels: int = 1
    ) -> None:
        super().__init__()
        bands = source.cube.shape[0]
        self.stage = Stage(config, COLOUR_FEATURES, bands, members)
        self.levels = levels
        if levels > 1:
            for network in self.stage.networks:
                assert isinstance(network, CompactUNet)
                network.correction = nn.Conv2d(config.condition_width, bands * levels * FOLD**2, 1)
                nn.init.zeros_(network.correction.weight)
        rgb, cube, _ = source.pixels(seed, None, crop=CROP)
        generator = torch.Generator().manual_seed(seed)
        colour = colour_features(rgb)
        self.stage.closed.fit(colour, cube, generator=generator)

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, levels · B, h, w) of (N, 3, h, w), the mean over the networks."""
        return torch.stack([self.member(rgb, number) for number in range(len(self.stage.networks))]).mean(0)

    def member(self, rgb: Tensor, number: int) -> Tensor:
        """What one of the networks gives."""
        prepared = self.stage.closed.prepare(colour_features(rgb))
        network = self.stage.networks[number % len(self.stage.networks)]
        assert isinstance(network, CompactUNet)
        corrections = unfold(network.encode(fold(prepared.condition))[0])
        return torch.cat(
            [
                self.stage.add_residual(prepared, self.stage.closed.basis, correction).mean
                for correction in corrections.chunk(self.levels, dim=1)
            ],
            dim=1,
        )


@dataclass(frozen=True, eq=False)
class Regressor:
    """A trained network that gives one estimate."""

    module: nn.Module
    """(N, 3, h, w) → (N, B, h, w)."""
    chosen: dict[str, object]
    """The length of training."""

    def predict(self, rgb: Floats) -> Floats:
        """(B, h, w) float32."""
        with torch.inference_mode():
            padded, height, width = padded_image(rgb)
            out: Floats = self.module(padded)[0, :, :height, :width].numpy()
        return out


class Regression:
    """Trains a network that gives one estimate."""

    def __init__(self, module: nn.Module, config: TrainConfig) -> None:
        self._module, self._config = module, config
        self._optimiser = torch.optim.AdamW(module.parameters(), weight_decay=config.weight_decay)

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self._module

    def step(self, source: PairSource, step: int) -> None:
        """One optimiser step."""
        config = self._config
        batch = source.batch((config.seed, 1, step), count=BATCH, size=CROP, augmentation=STILL)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(config, step)
        module = self._module
        estimate = module.member(batch.rgb, step) if isinstance(module, Backbone) else module(batch.rgb)
        loss = self._loss(estimate, batch.target)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._module.parameters(), 1.0)
        self._optimiser.step()

    def _loss(self, estimate: Tensor, target: Tensor) -> Tensor:
        if isinstance(self._module, Backbone):
            variance = self._module.stage.closed.residual_variance
            return mean_loss(estimate, target, torch.ones(()), variance, self._config.angle)
        squared: Tensor = ((estimate - target) / self._module.get_buffer("scale")).square().mean()
        return squared + ANGLE * spectral_loss(estimate, target)

    def error(self, module: nn.Module, rgb: Floats, cube: Floats) -> float:
        """The RMSE."""
        return rmse(Regressor(module, {}).predict(rgb), cube)

    def fitted(
        self, module: nn.Module, steps: int, watched: nn.Module, rgb: Floats, cube: Floats
    ) -> Regressor:
        """The rung; validation decides nothing more."""
        return Regressor(module, chosen(module, steps))


class NoisyRegression(Regression):
    """The regression, with what it takes to add independent noise of the size of its errors on validation."""

    def fitted(self, module: nn.Module, steps: int, watched: nn.Module, rgb: Floats, cube: Floats) -> Noisy:
        """The rung, with the errors of weights that never saw the validation part."""
        error = Regressor(watched, {}).predict(rgb) - cube
        return Noisy(module, chosen(module, steps), np.sqrt(np.square(error).mean(axis=(1, 2))))


class QuantileRegression(Regression):
    """Quantiles of each band by the pinball loss (Koenker and Bassett 1978)."""

    def _loss(self, estimate: Tensor, target: Tensor) -> Tensor:
        assert isinstance(self._module, Backbone)
        levels = torch.tensor(LEVELS)[:, None, None, None, None]
        off = target - torch.stack(estimate.chunk(len(levels), dim=1))
        pinball = torch.maximum(levels * off, (levels - 1.0) * off)
        return 2.0 * pinball.mean() / self._module.stage.closed.residual_variance.sqrt()

    def error(self, module: nn.Module, rgb: Floats, cube: Floats) -> float:
        """The CRPS."""
        drawn = torch.from_numpy(Quantiles(module, {}).samples(rgb, WATCH_SAMPLES, seed=0))
        return reliability(torch.from_numpy(cube), drawn, torch.ones(cube.shape[1:])).crps

    def fitted(
        self, module: nn.Module, steps: int, watched: nn.Module, rgb: Floats, cube: Floats
    ) -> Quantiles:
        """The rung; validation decides nothing more."""
        return Quantiles(module, chosen(module, steps))


def chosen(module: nn.Module, steps: int) -> dict[str, object]:
    """The length of training and the number of weights, as a rung reports them."""
    return {"steps": steps, "weights": sum(weight.numel() for weight in module.parameters())}


@dataclass(frozen=True, eq=False)
class Noisy(Regressor):
    """A regression plus independent normal noise."""

    sd: Floats
    """(B,) of the noise."""

    def samples(self, rgb: Floats, count: int, *, seed: int) -> Floats:
        """(count, B, h, w) float32."""
        mean = self.predict(rgb)
        noise = np.random.default_rng(seed).standard_normal((count, *mean.shape), dtype=np.float32)
        return mean + self.sd[:, None, None] * noise


@dataclass(frozen=True, eq=False)
class Quantiles(Regressor):
    """Quantiles of each band; a sample draws one level for all bands of a pixel.

    One level rather than one a band: what a colour leaves open moves the whole spectrum.
    """

    def samples(self, rgb: Floats, count: int, *, seed: int) -> Floats:
        """(count, B, h, w) float32."""
        known = np.sort(self._levels(rgb), axis=0)
        level = np.random.default_rng(seed).random((count, *rgb.shape[1:]))
        at = np.interp(level, LEVELS, np.arange(len(known)))
        below = np.minimum(at.astype(np.intp), len(known) - 2)
        share = (at - below).astype(np.float32)[:, None]
        low, high = (np.take_along_axis(known, (below + up)[:, None], axis=0) for up in (0, 1))
        out: Floats = low + share * (high - low)
        return out

    def predict(self, rgb: Floats) -> Floats:
        """(B, h, w) float32, the mean of the quantiles."""
        out: Floats = self._levels(rgb).mean(axis=0)
        return out

    def _levels(self, rgb: Floats) -> Floats:
        stacked = super().predict(rgb)
        return stacked.reshape(len(LEVELS), -1, *stacked.shape[1:])
