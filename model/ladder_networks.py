"""The rungs of the ladder that are trained by steps, all in the same way, and the cascade beside them.

Every network gets the same crops, loss, optimiser and averaging. Each is trained on training pixels and
watched on validation pixels; the step that did best there is where a second run, on both parts together
and from the same seed, ends.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from catalog.bands import Bands
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
from model.schedule import linear_schedule
from model.train import TrainConfig, _step, fit_means, learning_rate

CROP = 32
BATCH = 8
WATCHES = 8
"""How often a run is watched on validation; its length is one of so many."""
ANGLE = 0.1
"""Weight of 1 - cos beside the squared error in units of the bands' common deviation."""
WATCH_SAMPLES = 8
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
            row, col = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
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
        """What the length of training is chosen by; lower is better."""
        ...

    def fitted(self, module: nn.Module, steps: int) -> Fitted:
        """The rung with the given (averaged) weights after so many steps."""
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
    errors: dict[int, float] = {}
    lengths = sorted({max(steps * (i + 1) // WATCHES, 1) for i in range(WATCHES)})

    def watch(estimator: Estimator, ema: Ema, done: int) -> None:
        if done in lengths:
            errors[done] = estimator.error(_averaged(estimator, ema), val_rgb, val_cube)

    _run(PairSource(train_rgb, train_cube), seed, lengths[-1], build, watch)
    best = min(errors, key=lambda length: errors[length])
    everything = PairSource(join(train_rgb, val_rgb), join(train_cube, val_cube))
    estimator, ema = _run(everything, seed, best, build, lambda *_: None)
    return estimator.fitted(_averaged(estimator, ema), best)


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


class _Backbone(nn.Module):
    """The cascade's own closed-form mean and network, as a regression: x̂_0 at t = T, all bands at once."""

    scale: Tensor

    def __init__(self, config: StageConfig, source: PairSource, seed: int) -> None:
        super().__init__()
        bands = source.cube.shape[0]
        self.stage = Stage(config, COLOUR_FEATURES, bands)
        self.schedule = linear_schedule()
        rgb, cube = source.rgb.flatten(1).T, source.cube.flatten(1).T
        generator = torch.Generator().manual_seed(seed)
        colour = colour_features(rgb[:, :, None])[:, :, 0]
        self.stage.fit(colour, cube, ridge=TrainConfig.ridge, generator=generator)
        spread = (cube - cube.mean(0)).square().mean().sqrt().clamp_min(1e-6)
        self.register_buffer("scale", spread)

    def forward(self, rgb: Tensor) -> Tensor:
        prepared = self.stage.prepare(colour_features(rgb))
        noisy = torch.zeros(len(rgb), self.stage.config.components, *rgb.shape[2:])
        last = self.schedule.steps
        t = torch.full((len(rgb),), float(last))
        components = self.stage.estimate(
            noisy, t, self.schedule.alpha_bar_at(last), self.stage.encode(prepared.condition)
        )
        return self.stage.add_residual(prepared, components)


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
        estimate = self._module(batch.rgb)
        scale = self._module.get_buffer("scale")
        loss = ((estimate - batch.target) / scale).square().mean()
        loss = loss + ANGLE * spectral_loss(estimate, batch.target)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._module.parameters(), 1.0)
        self._optimiser.step()

    def error(self, module: nn.Module, rgb: Floats, cube: Floats) -> float:
        return rmse(Regressor(module, {}).predict(rgb), cube)

    def fitted(self, module: nn.Module, steps: int) -> Regressor:
        count = sum(weight.numel() for weight in module.parameters())
        return Regressor(module, {"steps": steps, "weights": count})


@dataclass(frozen=True, eq=False)
class Diffusion:
    """A trained cascade; its single estimate is the posterior mean, one solver step a stage."""

    model: SpectralCascade
    """RGB → coarse → all bands."""
    chosen: dict[str, object]
    """The length of training."""

    def predict(self, rgb: Floats) -> Floats:
        """(B, h, w) float32."""
        return self._draw(rgb, torch.Generator().manual_seed(0), steps=1)

    def samples(self, rgb: Floats, count: int, *, seed: int) -> Floats:
        """(count, B, h, w) float32 samples at the default steps."""
        generator = torch.Generator().manual_seed(seed)
        return np.stack([self._draw(rgb, generator, steps=None) for _ in range(count)])

    def _draw(self, rgb: Floats, generator: torch.Generator, *, steps: int | None) -> Floats:
        padded, height, width = _padded(rgb)

        def draw(stage: int, step: int) -> Tensor:
            channels = self.model.stage(stage).config.components
            return torch.randn((1, channels, *padded.shape[2:]), generator=generator)

        with torch.inference_mode():
            out: Floats = self.model.sample(padded, draw, steps=steps)[0, :, :height, :width].numpy()
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
        cascade = CascadeConfig(bands, bands.subset([0, 1, 2]), coarse, (first, second))
        self._model, self._config = SpectralCascade(cascade), config
        self._fill = fit_means(self._model, source, config)
        self._optimiser = torch.optim.AdamW(self._model.parameters(), weight_decay=config.weight_decay)

    @property
    def module(self) -> nn.Module:
        return self._model

    def step(self, source: PairSource, step: int) -> None:
        _step(self._model, source, self._optimiser, self._config, self._fill, step)

    def error(self, module: nn.Module, rgb: Floats, cube: Floats) -> float:
        assert isinstance(module, SpectralCascade)
        drawn = torch.from_numpy(Diffusion(module, {}).samples(rgb, WATCH_SAMPLES, seed=0))
        return calibration(torch.from_numpy(cube), drawn, torch.ones(cube.shape[1:])).crps

    def fitted(self, module: nn.Module, steps: int) -> Diffusion:
        assert isinstance(module, SpectralCascade)
        count = sum(weight.numel() for weight in module.parameters())
        return Diffusion(module, {"steps": steps, "weights": count})


def _padded(rgb: Floats) -> tuple[Tensor, int, int]:
    """(1, 3, h, w) reflected at the lower right to multiples of the compact network's stride."""
    height, width = rgb.shape[1:]
    missing = [(0, 0), (0, -height % 8), (0, -width % 8)]
    padded = np.pad(rgb, missing, mode="symmetric")
    return torch.from_numpy(padded)[None], height, width


STEPS = {"mlp": 2000, "regression": 800, "cascade": 1200, "mst_plus_plus": 400, "hscnn_plus": 320}
"""Greatest length of training of each network."""
RATES = {"mlp": 3e-3, "regression": 1e-3, "cascade": 1e-3, "mst_plus_plus": 1e-3, "hscnn_plus": 5e-4}
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
        if name == "regression":
            whole = replace(DEFAULT_STAGES[0], components=bands)
            return _Regression(_Backbone(whole, source, seed), config)
        networks = {"mlp": PixelMLP, "hscnn_plus": HSCNNPlus, "mst_plus_plus": MSTPlusPlus}
        return _Regression(_Direct(networks[name](bands), source), config)

    def fit(train_rgb: Floats, train_cube: Floats, val_rgb: Floats, val_cube: Floats, *, seed: int) -> Fitted:
        return _fit(train_rgb, train_cube, val_rgb, val_cube, seed=seed, steps=length, build=build)

    return fit
