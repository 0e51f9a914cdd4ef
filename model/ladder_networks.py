"""The rungs of the ladder that are trained by steps, all in the same way, and the cascade beside them.

Every network gets the same crops, loss, optimiser and averaging. Each is trained on training pixels and
watched on validation pixels; the step that did best there is where a second run, on both parts together
and from the same seed, ends.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from catalog.bands import Bands
from catalog.calibration import Calibration
from model import checkpoint
from model.calibration import calibrate_bands, calibrate_spread
from model.cascade import (
    COLOUR_FEATURES,
    DEFAULT_STAGES,
    CascadeConfig,
    SpectralCascade,
    Stage,
    StageConfig,
    colour_features,
)
from model.dataset import Augmentation, Batch, CropSource
from model.ema import Ema
from model.ladder import Fit, Fitted, Floats, join, rmse
from model.losses import spectral_loss
from model.metrics import calibration
from model.networks.hscnn_plus import HSCNNPlus
from model.networks.mst_plus_plus import MSTPlusPlus
from model.networks.pixel_mlp import PixelMLP
from model.networks.unet_compact import FOLD, CompactUNet
from model.train import TrainConfig, fit_means, learning_rate, mean_loss, train_step

CROP = 32
BATCH = 8
WATCHES = 8
"""How often a run is watched on validation; its length is one of so many."""
ANGLE = 0.1
"""Weight of 1 - cos beside the squared error in units of the bands' common deviation."""
WATCH_SAMPLES = 8
CALIBRATION_SAMPLES = 16
MEMBERS = 4
"""Networks of the cascade, and of the regressions that are compared with it."""
LEVELS_OF_QUANTILES = tuple((i + 0.5) / 16 for i in range(16))
"""Of the quantile regression."""
STILL = Augmentation(
    nominal=1.0, illumination=(1.0, 1.0), texture=0.0, input_gain=0.0, channel_gain=0.0,
    sensor_noise=0.0, masked=0.0,
)  # fmt: skip
"""Nothing is varied but the crops' orientation: input and truth are counts of one sensor."""


class PairSource(CropSource):
    """Crops of one image whose input is given rather than simulated from its bands."""

    def __init__(self, rgb: Floats, cube: Floats) -> None:
        self.rgb = torch.from_numpy(np.ascontiguousarray(rgb))
        self.cube = torch.from_numpy(np.ascontiguousarray(cube))

    @property
    def complete(self) -> list[bool]:
        """The one image has every band."""
        return [True]

    def batch(
        self, key: tuple[int, ...], *, count: int, size: int, augmentation: Augmentation | None, **_: object
    ) -> Batch:
        """Crops of random key ``key``, turned and flipped unless ``augmentation`` is None."""
        rng = np.random.default_rng(key)
        height, width = self.rgb.shape[1:]
        size = min(size, height, width)
        rgb: list[Tensor] = []
        cube: list[Tensor] = []
        for _crop in range(count):
            # Around a random pixel, so that the image's edges are seen as often as its middle.
            row, col = (
                int(np.clip(rng.integers(extent) - size // 2, 0, extent - size)) for extent in (height, width)
            )
            turns, flip = int(rng.integers(4)), bool(rng.integers(2))
            for image, crops in ((self.rgb, rgb), (self.cube, cube)):
                crop = image[:, row : row + size, col : col + size]
                if augmentation is not None:
                    crop = crop.rot90(turns, (1, 2))
                    crop = crop.flip(2) if flip else crop
                crops.append(crop)
        target = torch.stack(cube)
        return Batch(torch.stack(rgb), target, torch.ones(target.shape[:2]), torch.ones(count, size, size))


class Estimator(Protocol):
    """A network on its way: what can be trained, watched and used."""

    @property
    def module(self) -> nn.Module:
        """Its weights."""
        ...

    def step(self, source: PairSource, step: int) -> None:
        """One optimiser step."""
        ...

    def error(self, module: nn.Module, rgb: Floats, cube: Floats) -> float:
        """What the length of training is chosen by; lower is better. May calibrate the module in place."""
        ...

    def fitted(self, module: nn.Module, steps: int, watched: nn.Module, rgb: Floats, cube: Floats) -> Fitted:
        """The rung with the given (averaged) weights after so many steps.

        ``watched`` are the weights of as many steps that never saw the validation part (rgb, cube).
        """
        ...


def _fit(
    train_rgb: Floats,
    train_cube: Floats,
    val_rgb: Floats,
    val_cube: Floats,
    *,
    seed: int,
    steps: int,
    build: Callable[[PairSource, int], Estimator],
) -> Fitted:
    """Choose the length of training on validation, then train for as long on everything."""
    errors: dict[int, tuple[float, nn.Module]] = {}
    lengths = sorted({max(steps * (i + 1) // WATCHES, 1) for i in range(WATCHES)})

    def watch(estimator: Estimator, ema: Ema, done: int) -> None:
        if done in lengths:
            module = _averaged(estimator, ema)
            errors[done] = estimator.error(module, val_rgb, val_cube), module

    _run(PairSource(train_rgb, train_cube), seed, lengths[-1], build, watch)
    best = min(errors, key=lambda length: errors[length][0])
    everything = PairSource(join(train_rgb, val_rgb), join(train_cube, val_cube))
    estimator, ema = _run(everything, seed, best, build, lambda *_: None)
    return estimator.fitted(_averaged(estimator, ema), best, errors[best][1], val_rgb, val_cube)


def _run(
    source: PairSource,
    seed: int,
    steps: int,
    build: Callable[[PairSource, int], Estimator],
    watch: Callable[[Estimator, Ema, int], None],
) -> tuple[Estimator, Ema]:
    torch.manual_seed(seed)
    estimator = build(source, seed)
    ema = Ema(estimator.module, decay=0.98, start=20)
    for step in range(steps):
        estimator.step(source, step)
        ema.update(estimator.module)
        watch(estimator, ema, step + 1)
    return estimator, ema


def _averaged(estimator: Estimator, ema: Ema) -> nn.Module:
    module = copy.deepcopy(estimator.module)
    module.load_state_dict(ema.state()[0])
    return module.eval()


class _Direct(nn.Module):
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
        out: Tensor = self.mean + self.scale * self.network((rgb - self.rgb_mean) / self.rgb_scale)
        return out


class Backbone(nn.Module):
    """The mean of the cascade's own stage, all bands at once: the regression that has the same backbone.

    With ``levels`` it gives that many quantiles of each band, (N, levels · B, h, w), level by level.
    """

    def __init__(
        self, config: StageConfig, source: PairSource, seed: int, *, members: int = MEMBERS, levels: int = 1
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
        rgb, cube = source.rgb.flatten(1).T, source.cube.flatten(1).T
        generator = torch.Generator().manual_seed(seed)
        colour = colour_features(rgb[:, :, None])[:, :, 0]
        self.stage.fit(colour, cube, ridge=TrainConfig.ridge, generator=generator)

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, levels · B, h, w) of (N, 3, h, w), the mean over the networks."""
        return torch.stack([self.member(rgb, number) for number in range(len(self.stage.networks))]).mean(0)

    def member(self, rgb: Tensor, number: int) -> Tensor:
        """What one of the networks gives."""
        prepared = self.stage.prepare(colour_features(rgb))
        network = self.stage.networks[number % len(self.stage.networks)]
        assert isinstance(network, CompactUNet)
        corrections, _ = network.encode(prepared.condition)
        return torch.cat(
            [
                self.stage.add_residual(prepared, self.stage.basis, correction).mean
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
            padded, height, width = _padded(rgb)
            out: Floats = self.module(padded)[0, :, :height, :width].numpy()
        return out


class _Regression:
    """Trains a network that gives one estimate."""

    def __init__(self, module: nn.Module, config: TrainConfig) -> None:
        self._module, self._config = module, config
        self._optimiser = torch.optim.AdamW(module.parameters(), weight_decay=config.weight_decay)

    @property
    def module(self) -> nn.Module:
        return self._module

    def step(self, source: PairSource, step: int) -> None:
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
            variance = self._module.stage.residual_variance
            return mean_loss(estimate, target, torch.ones(()), variance, self._config.angle)
        squared: Tensor = ((estimate - target) / self._module.get_buffer("scale")).square().mean()
        return squared + ANGLE * spectral_loss(estimate, target)

    def error(self, module: nn.Module, rgb: Floats, cube: Floats) -> float:
        return rmse(Regressor(module, {}).predict(rgb), cube)

    def fitted(
        self, module: nn.Module, steps: int, watched: nn.Module, rgb: Floats, cube: Floats
    ) -> Regressor:
        return Regressor(module, chosen(module, steps))


class _NoisyRegression(_Regression):
    """The regression with independent noise of the size of its errors on validation."""

    def fitted(self, module: nn.Module, steps: int, watched: nn.Module, rgb: Floats, cube: Floats) -> Noisy:
        error = Regressor(watched, {}).predict(rgb) - cube
        return Noisy(module, chosen(module, steps), np.sqrt(np.square(error).mean(axis=(1, 2))))


class _QuantileRegression(_Regression):
    """Quantiles of each band by the pinball loss (Koenker and Bassett 1978)."""

    def _loss(self, estimate: Tensor, target: Tensor) -> Tensor:
        assert isinstance(self._module, Backbone)
        levels = torch.tensor(LEVELS_OF_QUANTILES)[:, None, None, None, None]
        off = target - torch.stack(estimate.chunk(len(levels), dim=1))
        pinball = torch.maximum(levels * off, (levels - 1.0) * off)
        return 2.0 * pinball.mean() / self._module.stage.residual_variance.sqrt()

    def error(self, module: nn.Module, rgb: Floats, cube: Floats) -> float:
        drawn = torch.from_numpy(Quantiles(module, {}).samples(rgb, WATCH_SAMPLES, seed=0))
        return calibration(torch.from_numpy(cube), drawn, torch.ones(cube.shape[1:])).crps

    def fitted(
        self, module: nn.Module, steps: int, watched: nn.Module, rgb: Floats, cube: Floats
    ) -> Quantiles:
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
        at = np.interp(level, LEVELS_OF_QUANTILES, np.arange(len(known)))
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
        return stacked.reshape(len(LEVELS_OF_QUANTILES), -1, *stacked.shape[1:])


@dataclass(frozen=True, eq=False)
class Diffusion:
    """A trained cascade; its single estimate is the posterior mean, one solver step a stage."""

    model: SpectralCascade
    """RGB → coarse → all bands."""
    chosen: dict[str, object]
    """The length of training."""
    calibration: Calibration | None = None
    """Per band, from the validation part."""

    def predict(self, rgb: Floats) -> Floats:
        """(B, h, w) float32."""
        return self.draw(rgb, torch.Generator().manual_seed(0), steps=1)

    def save(self, folder: Path) -> None:
        """Write the cascade as a checkpoint; what it expects are the counts of one scene, not reflectance."""
        checkpoint.save(
            folder,
            self.model.state_dict(),
            {
                "name": folder.name,
                "cascade": self.model.config.to_json(),
                "chosen": self.chosen,
                "calibration": None if self.calibration is None else self.calibration.to_json(),
            },
        )

    def samples(self, rgb: Floats, count: int, *, seed: int) -> Floats:
        """(count, B, h, w) float32 samples at the default steps."""
        generator = torch.Generator().manual_seed(seed)
        return np.stack([self.draw(rgb, generator, number=number) for number in range(count)])

    def draw(
        self, rgb: Floats, generator: torch.Generator, *, steps: int | None = None, number: int = 0
    ) -> Floats:
        """Sample ``number``, (B, h, w) float32."""
        padded, height, width = _padded(rgb)

        def draw(stage: int, step: int) -> Tensor:
            channels = self.model.stage(stage).config.components
            return torch.randn((1, channels, *padded.shape[2:]), generator=generator)

        with torch.inference_mode():
            cube = self.model.sample(padded, draw, steps=steps, number=number)
            out: Floats = cube[0, :, :height, :width].numpy()
        return out


class _Cascade:
    """Trains the cascade as ``spectile train`` does, both stages together."""

    def __init__(self, source: PairSource, config: TrainConfig) -> None:
        # Wavelengths decide nothing here: the crops' input is given, not simulated through a response.
        count = source.cube.shape[0]
        bands = Bands.evenly_spaced(1.0, float(count), count)
        coarse = max(round(3.0 * (count / 3.0) ** 0.5), 1)
        first, second = (
            replace(stage, components=min(stage.components, limit))
            for stage, limit in zip(DEFAULT_STAGES, (coarse, count), strict=True)
        )
        cascade = CascadeConfig(bands, bands.subset([0, 1, 2]), coarse, (first, second), MEMBERS)
        self._model, self._config = SpectralCascade(cascade), config
        self._fill = fit_means(self._model, source, config)
        self._optimiser = torch.optim.AdamW(self._model.parameters(), weight_decay=config.weight_decay)

    @property
    def module(self) -> nn.Module:
        return self._model

    def step(self, source: PairSource, step: int) -> None:
        train_step(self._model, source, self._optimiser, self._config, self._fill, step)

    def error(self, module: nn.Module, rgb: Floats, cube: Floats) -> float:
        assert isinstance(module, SpectralCascade)
        calibrate_spread(module, whole(rgb, cube), seed=0)
        drawn = torch.from_numpy(Diffusion(module, {}).samples(rgb, WATCH_SAMPLES, seed=0))
        return calibration(torch.from_numpy(cube), drawn, torch.ones(cube.shape[1:])).crps

    def fitted(
        self, module: nn.Module, steps: int, watched: nn.Module, rgb: Floats, cube: Floats
    ) -> Diffusion:
        assert isinstance(module, SpectralCascade)
        assert isinstance(watched, SpectralCascade)
        for mine, other in zip(module.stages, watched.stages, strict=True):
            mine.get_buffer("spread").copy_(other.get_buffer("spread"))
        factors = calibrate_bands(watched, whole(rgb, cube), samples=CALIBRATION_SAMPLES, seed=1)
        return Diffusion(module, chosen(module, steps), factors)


def whole(rgb: Floats, cube: Floats) -> Batch:
    """An image as a batch of one, reflected to the compact network's stride; the rest does not count."""
    padded, height, width = _padded(rgb)
    target = torch.zeros((1, len(cube), *padded.shape[2:]))
    target[0, :, :height, :width] = torch.from_numpy(cube)
    valid = torch.zeros((1, *padded.shape[2:]))
    valid[0, :height, :width] = 1.0
    return Batch(padded, target, torch.ones(1, len(cube)), valid)


def _padded(rgb: Floats) -> tuple[Tensor, int, int]:
    """(1, 3, h, w) reflected at the lower right to multiples of the compact network's stride."""
    height, width = rgb.shape[1:]
    missing = [(0, 0), (0, -height % 8), (0, -width % 8)]
    padded = np.pad(rgb, missing, mode="symmetric")
    return torch.from_numpy(padded)[None], height, width


STEPS = {
    "mlp": 2000, "regression": 1600, "regression_noise": 1600, "quantile_regression": 1600, "cascade": 1600,
    "mst_plus_plus": 400, "hscnn_plus": 320,
}  # fmt: skip
"""Greatest length of training of each network."""
RATES = {name: 1e-3 for name in STEPS} | {"mlp": 3e-3, "hscnn_plus": 5e-4}
"""Peak learning rate of each."""


def trained(name: str, *, steps: int | None = None) -> Fit:
    """The rung ``name`` of those in ``STEPS``, trained for at most ``steps`` (None: its own)."""
    length = STEPS[name] if steps is None else steps

    def build(source: PairSource, seed: int) -> Estimator:
        config = TrainConfig(
            steps=length, batch=BATCH, crop=CROP, learning_rate=RATES[name], warmup=max(length // 20, 1),
            seed=seed, augmentation=STILL,
        )  # fmt: skip
        bands = source.cube.shape[0]
        if name == "cascade":
            return _Cascade(source, config)
        backbones = {"regression": _Regression, "regression_noise": _NoisyRegression}
        if name in backbones:
            return backbones[name](Backbone(DEFAULT_STAGES[0], source, seed), config)
        if name == "quantile_regression":
            levels = len(LEVELS_OF_QUANTILES)
            return _QuantileRegression(Backbone(DEFAULT_STAGES[0], source, seed, levels=levels), config)
        networks = {"mlp": PixelMLP, "hscnn_plus": HSCNNPlus, "mst_plus_plus": MSTPlusPlus}
        return _Regression(_Direct(networks[name](bands), source), config)

    def fit(train_rgb: Floats, train_cube: Floats, val_rgb: Floats, val_cube: Floats, *, seed: int) -> Fitted:
        return _fit(train_rgb, train_cube, val_rgb, val_cube, seed=seed, steps=length, build=build)

    return fit
