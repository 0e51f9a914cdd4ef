"""The two-stage spectral cascade: RGB → coarse bands → all bands (Chen et al. 2024, section III-A).

Each stage gives a closed-form mean and diffuses what the mean leaves over, in a few whitened principal
components. Both departures from the paper, which diffuses every band as it is, put the network's work
where the uncertainty is; ``docs/model.md`` has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from catalog.bands import Bands, coarse_indices
from model.networks.unet_compact import CompactConfig, CompactUNet, Features
from model.parameterization import to_x0
from model.sampler import dpm_solver_pp_2m
from model.schedule import Schedule, linear_schedule, logsnr_grid

REFLECTANCE_LIMIT = 1.6
"""Predictions are clipped to [0, 1.6]: specular targets exceed one, nothing passive exceeds this."""
INPUT_LIMIT = 1.5
"""The input is clipped to [0, 1.5] before its features are made, so that they cannot explode."""
CONDITION_LIMIT = 8.0
"""Standardised conditions are clipped to ±8 before the network; training stays within."""
COLOUR_FEATURES = 19

DrawStage = Callable[[int, int], Tensor]
"""(stage, step) → (N, K, h, w) standard normal noise."""


@dataclass(frozen=True)
class StageConfig:
    """One stage: how many components it diffuses and how large its network is."""

    components: int
    """K, principal components of the residual that are diffused; the rest is left at its mean, zero."""
    condition_width: int
    """Width of the condition branch at half resolution."""
    condition_blocks: int
    """Residual blocks a level in the condition branch."""
    width: int
    """Width of the denoiser at half resolution."""
    norm: Literal["channel", "group"] = "channel"
    """Normalisation per pixel, or over the tile in groups."""
    guidance: float = 0.0
    """ICMG scale s: x̂ = (1 + s)·x̂(c) − s·x̂(∅); 0 is off and costs nothing (SCDM, equation 15)."""


@dataclass(frozen=True)
class CascadeConfig:
    """Everything that fixes the cascade's structure."""

    bands: Bands
    """The bands it predicts."""
    response: Bands
    """The spectral response that the input is expected to have, in the order R, G, B."""
    coarse: int = 12
    """Bands of the first stage, at equal intervals."""
    stages: tuple[StageConfig, StageConfig] = field(
        default=(StageConfig(8, 64, 2, 48), StageConfig(8, 48, 1, 32))
    )
    """RGB → coarse, RGB and coarse → all."""
    timesteps: int = 1000
    """T of the linear schedule, beta 1e-4 to 0.02."""
    steps: int = 4
    """Solver steps by default; 1 gives the posterior mean."""

    @property
    def coarse_bands(self) -> tuple[int, ...]:
        """Positions of the coarse bands among all."""
        return coarse_indices(len(self.bands), self.coarse)

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain JSON values."""
        value = asdict(self)
        value["bands"], value["response"] = self.bands.to_json(), self.response.to_json()
        value["stages"] = [asdict(stage) for stage in self.stages]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CascadeConfig:
        """The configuration that ``to_json`` wrote."""
        first, second = (StageConfig(**stage) for stage in value["stages"])
        rest = {key: value[key] for key in ("coarse", "timesteps", "steps")}
        bands, response = Bands.from_json(value["bands"]), Bands.from_json(value["response"])
        return cls(bands=bands, response=response, stages=(first, second), **rest)


def colour_features(rgb: Tensor) -> Tensor:
    """The (N, 19, …) features of (N, 3, …) reflectance that the means are linear in.

    Root-polynomials up to degree 3 (Finlayson et al. 2015), which scale with exposure, and the six
    products of degree 2, which do not. Bounded on the clipped input.
    """
    r, g, b = rgb.clamp(0.0, INPUT_LIMIT).unbind(1)
    roots = [(x * y).sqrt() for x, y in ((r, g), (g, b), (r, b))]
    cubes = [r * r * g, r * r * b, g * g * r, g * g * b, b * b * r, b * b * g, r * g * b]
    squares = [r * r, g * g, b * b, r * g, g * b, r * b]
    return torch.stack([r, g, b, *roots, *(x.pow(1.0 / 3.0) for x in cubes), *squares], dim=1)


class Stage(nn.Module):
    """A closed-form mean plus a diffused residual: y = W·f + b + A·z, z diffused given f.

    ``basis`` A (T, K) is V·diag(s) of the training residual's principal components, so that z is white.
    """

    feature_mean: Tensor
    feature_scale: Tensor
    weight: Tensor
    bias: Tensor
    basis: Tensor

    def __init__(self, config: StageConfig, features: int, targets: int) -> None:
        super().__init__()
        self.config = config
        self.network = CompactUNet(
            CompactConfig(
                condition_channels=features,
                components=config.components,
                condition_width=config.condition_width,
                condition_blocks=config.condition_blocks,
                width=config.width,
                norm=config.norm,
            )
        )
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_scale", torch.ones(features))
        self.register_buffer("weight", torch.zeros(targets, features))
        self.register_buffer("bias", torch.zeros(targets))
        self.register_buffer("basis", torch.zeros(targets, config.components))

    def fit(self, features: Tensor, targets: Tensor, *, ridge: float) -> None:
        """Set the mean by ridge regression and the basis by PCA of what it leaves.

        Parameters
        ----------
        features : (P, F) float32, of training pixels.
        targets : (P, T) float32, their reflectance.
        ridge : penalty on the standardised coefficients, per pixel.
        """
        x, y = features.double(), targets.double()
        mean, scale = x.mean(0), x.std(0).clamp_min(1e-6)
        x = (x - mean) / scale
        centre = y.mean(0)
        gram = x.T @ x / len(x) + ridge * torch.eye(x.shape[1], dtype=x.dtype)
        weight = torch.linalg.solve(gram, x.T @ (y - centre) / len(x)).T
        residual = y - centre - x @ weight.T
        sd, vectors = torch.linalg.eigh(residual.T @ residual / len(x))
        count = self.config.components
        top = vectors[:, -count:].flip(1) * sd[-count:].flip(0).clamp_min(1e-12).sqrt()
        for name, value in (
            ("feature_mean", mean),
            ("feature_scale", scale),
            ("weight", weight),
            ("bias", centre),
            ("basis", top),
        ):
            getattr(self, name).copy_(value)

    def standardise(self, features: Tensor) -> Tensor:
        """(N, F, h, w) features at zero mean and unit deviation over the training pixels."""
        return (features - self.feature_mean[:, None, None]) / self.feature_scale[:, None, None]

    def mean(self, standard: Tensor) -> Tensor:
        """(N, T, h, w) the closed-form mean of standardised features."""
        return _per_pixel(self.weight, standard) + self.bias[:, None, None]

    def encode(self, standard: Tensor) -> Features:
        """The network's features of the condition, once for all steps and samples."""
        return self.network.encode(standard.clamp(-CONDITION_LIMIT, CONDITION_LIMIT))

    def estimate(self, noisy: Tensor, t: Tensor, alpha_bar: float | Tensor, features: Features) -> Tensor:
        """ẑ_0 from z_t: the network gives v, which makes its output of unit scale at every t."""
        return to_x0(self.network(noisy, t, features), noisy, alpha_bar, "v")

    def sample(
        self, standard: Tensor, schedule: Schedule, steps: int, draw: Callable[[int], Tensor]
    ) -> Tensor:
        """One sample of the residual's components, (N, K, h, w)."""
        features = self.encode(standard)
        scale = self.config.guidance
        null = self.encode(torch.zeros_like(standard)) if scale else None

        def denoise(noisy: Tensor, time: float) -> Tensor:
            t = torch.full((len(noisy),), time, device=noisy.device)
            alpha_bar = schedule.alpha_bar_at(time)
            estimate = self.estimate(noisy, t, alpha_bar, features)
            if null is None:
                return estimate
            return (1.0 + scale) * estimate - scale * self.estimate(noisy, t, alpha_bar, null)

        return dpm_solver_pp_2m(denoise, schedule, times=logsnr_grid(schedule, steps), draw=draw)

    def synthesise(self, standard: Tensor, components: Tensor) -> Tensor:
        """(N, T, h, w) reflectance: the mean plus the residual that the components stand for."""
        return (self.mean(standard) + _per_pixel(self.basis, components)).clamp(0.0, REFLECTANCE_LIMIT)


class SpectralCascade(nn.Module):
    """RGB → n coarse bands → N bands, each stage conditioned on what came before."""

    def __init__(self, config: CascadeConfig) -> None:
        super().__init__()
        self.config = config
        self.schedule = linear_schedule(config.timesteps)
        first, second = config.stages
        self.stages = nn.ModuleList(
            [
                Stage(first, COLOUR_FEATURES, config.coarse),
                Stage(second, COLOUR_FEATURES + config.coarse, len(config.bands)),
            ]
        )

    def stage(self, index: int) -> Stage:
        """The first (0) or second (1) stage."""
        stage = self.stages[index]
        assert isinstance(stage, Stage)
        return stage

    def sample(self, rgb: Tensor, draw: DrawStage, *, steps: int | None = None) -> Tensor:
        """One sample of the cube, (N, B, h, w) reflectance in [0, 1.6].

        Parameters
        ----------
        rgb : (N, 3, h, w) float32, linear reflectance as seen through ``config.response``.
        draw : the noise of (stage, step).
        steps : solver steps a stage; None is the configuration's default.
        """
        count = steps or self.config.steps
        colour = colour_features(rgb)
        coarse = self._run(0, colour, count, draw)
        return self._run(1, torch.cat([colour, coarse], dim=1), count, draw)

    def refine(self, rgb: Tensor, coarse: Tensor, draw: DrawStage, *, steps: int | None = None) -> Tensor:
        """The second stage alone: all bands from RGB and given coarse bands (N, n, h, w)."""
        features = torch.cat([colour_features(rgb), coarse], dim=1)
        return self._run(1, features, steps or self.config.steps, draw)

    def _run(self, index: int, features: Tensor, steps: int, draw: DrawStage) -> Tensor:
        stage = self.stage(index)
        standard = stage.standardise(features)
        components = stage.sample(standard, self.schedule, steps, lambda step: draw(index, step))
        return stage.synthesise(standard, components)


def _per_pixel(matrix: Tensor, x: Tensor) -> Tensor:
    """``matrix`` (T, F) applied to each pixel of (N, F, h, w)."""
    return (matrix @ x.flatten(2)).unflatten(2, x.shape[2:])
