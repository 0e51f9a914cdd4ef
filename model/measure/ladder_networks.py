"""The rungs of the ladder that are trained by steps, all in the same way, and the cascade beside them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from spectile.catalog.bands import Bands
from spectile.model.cascade.cascade import (
    DEFAULT_STAGES,
    CascadeConfig,
    SpectralCascade,
    StageConfig,
)
from spectile.model.cascade.config import TrainConfig
from spectile.model.cascade.means import fit_means
from spectile.model.cascade.spread import calibrate_stages
from spectile.model.cascade.train import crops_of, train_step
from spectile.model.closed.factors import calibrate_bands
from spectile.model.closed.regressions import Floats
from spectile.model.measure.ladder import Fit, Fitted
from spectile.model.measure.ladder_hyperldm import HyperRung
from spectile.model.measure.ladder_regression import (
    LEVELS,
    Backbone,
    Direct,
    NoisyRegression,
    QuantileRegression,
    Regression,
    chosen,
)
from spectile.model.measure.ladder_training import (
    BATCH,
    CROP,
    STILL,
    WATCH_SAMPLES,
    Diffusion,
    Estimator,
    PairSource,
    fit_length,
    whole,
)
from spectile.model.measure.metrics import reliability
from spectile.model.networks.hscnn_plus import HSCNNPlus
from spectile.model.networks.mst_plus_plus import MSTPlusPlus
from spectile.model.networks.pixel_mlp import PixelMLP

CALIBRATION_SAMPLES = 16
MEMBERS = 4
"""Networks of the cascade, and of the regressions that are compared with it."""


class CascadeRung:
    """Trains the cascade as ``spectile train`` does, both stages together."""

    def __init__(
        self,
        source: PairSource,
        config: TrainConfig,
        stages: tuple[StageConfig, StageConfig] = DEFAULT_STAGES,
        members: int = MEMBERS,
    ) -> None:
        # Wavelengths decide nothing here: the crops' input is given, not simulated through a response.
        count = source.cube.shape[0]
        bands = Bands.evenly_spaced(1.0, float(count), count)
        coarse = max(round(3.0 * (count / 3.0) ** 0.5), 1)
        first, second = (
            replace(stage, components=min(stage.components, limit))
            for stage, limit in zip(stages, (coarse, count), strict=True)
        )
        cascade = CascadeConfig(bands, bands.subset([0, 1, 2]), coarse, (first, second), members)
        self._model, self._config = SpectralCascade(cascade), config
        self._means = fit_means(self._model, source, config)
        self._optimiser = torch.optim.AdamW(self._model.parameters(), weight_decay=config.weight_decay)

    @property
    def module(self) -> SpectralCascade:
        """The cascade."""
        return self._model

    def step(self, source: PairSource, step: int) -> None:
        """One optimiser step."""
        batch = crops_of(source, self._config, step)
        train_step(self._model, batch, self._optimiser, self._config, step, self._means)

    def error(self, module: nn.Module, rgb: Floats, cube: Floats) -> float:
        """The CRPS, after the spread was calibrated."""
        assert isinstance(module, SpectralCascade)
        calibrate_stages(module, whole(rgb, cube), seed=0)
        drawn = torch.from_numpy(Diffusion(module, {}).samples(rgb, WATCH_SAMPLES, seed=0))
        return reliability(torch.from_numpy(cube), drawn, torch.ones(cube.shape[1:])).crps

    def fitted(
        self, module: nn.Module, steps: int, watched: nn.Module, rgb: Floats, cube: Floats
    ) -> Diffusion:
        """The rung, calibrated by weights that never saw the validation part."""
        assert isinstance(module, SpectralCascade)
        assert isinstance(watched, SpectralCascade)
        for mine, other in zip(module.stages, watched.stages, strict=True):
            for name in ("spread", "grain"):
                mine.get_buffer(name).copy_(other.get_buffer(name))
        factors = calibrate_bands(watched, whole(rgb, cube), samples=CALIBRATION_SAMPLES, seed=1)
        return Diffusion(module, chosen(module, steps), factors, {"cascade": module.config.to_json()})


STEPS = {
    "mlp": 2000, "regression": 3200, "regression_noise": 3200, "quantile_regression": 3200, "cascade": 3200,
    "hyperldm": 1600, "mst_plus_plus": 400, "hscnn_plus": 320,
}  # fmt: skip
"""Greatest length of training of each network …"""
PARTS = (4, 2, 1)
"""… and what it is divided by for the lengths that are tried."""
RATES = {name: 1e-3 for name in STEPS} | {"mlp": 3e-3, "hscnn_plus": 5e-4}
"""Peak learning rate of each."""


def trained(name: str, *, steps: int | None = None, length: int | None = None) -> Fit:
    """The rung ``name`` of those in ``STEPS``.

    It is trained for the best of three lengths up to ``steps`` (None: its own greatest), or for ``length``.
    """
    longest = STEPS[name] if steps is None else steps
    lengths = [max(longest // part, 1) for part in PARTS] if length is None else [length]

    def build(source: PairSource, seed: int, steps: int) -> Estimator:
        config = TrainConfig(
            steps=steps, batch=BATCH, crop=CROP, learning_rate=RATES[name], warmup=max(steps // 20, 1),
            seed=seed, augmentation=STILL,
        )  # fmt: skip
        bands = source.cube.shape[0]
        if name == "cascade":
            return CascadeRung(source, config)
        if name == "hyperldm":
            return HyperRung(source, config)
        if name in ("regression", "regression_noise"):
            return NoisyRegression(Backbone(DEFAULT_STAGES[0], source, seed, members=MEMBERS), config)
        if name == "quantile_regression":
            levels = len(LEVELS)
            return QuantileRegression(
                Backbone(DEFAULT_STAGES[0], source, seed, members=MEMBERS, levels=levels), config
            )
        networks = {"mlp": PixelMLP, "hscnn_plus": HSCNNPlus, "mst_plus_plus": MSTPlusPlus}
        return Regression(Direct(networks[name](bands), source), config)

    def fit(train_rgb: Floats, train_cube: Floats, val_rgb: Floats, val_cube: Floats, *, seed: int) -> Fitted:
        return fit_length(train_rgb, train_cube, val_rgb, val_cube, seed=seed, lengths=lengths, build=build)

    return fit
