"""The two-stage spectral cascade: RGB → coarse bands → all bands (Chen et al. 2024, section III-A).

Each stage gives a mean (in closed form, corrected by the network's condition branch) and diffuses what the
mean leaves over, in a few whitened principal components. Both depart from the paper, which diffuses
every band as it is, to put the network's work where the uncertainty is; ``docs/model.md`` has the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import ConfigDict, Field, TypeAdapter
from torch import Tensor, nn

from spectile.catalog.bands import Bands, coarse_indices
from spectile.catalog.errors import UsageError
from spectile.catalog.fields import Count, Depth, Finite, Members, Steps, Width
from spectile.model.closed.closed_form import (
    COLOUR_FEATURES,
    ClosedForm,
    Coefficients,
    Prepared,
    add_residual,
    colour_features,
)
from spectile.model.closed.spectra import components
from spectile.model.diffusion.grain import white_grain
from spectile.model.diffusion.parameterization import to_x0
from spectile.model.diffusion.sampler import dpm_solver_pp_2m
from spectile.model.diffusion.schedule import Schedule, linear_schedule, logsnr_grid
from spectile.model.networks.unet_compact import CompactConfig, CompactUNet, Features, fold, unfold
from spectile.model.system import REFLECTANCE_LIMIT, DrawStage, GrainedNetwork


@dataclass(frozen=True)
class StageConfig:
    """One stage: how many components it diffuses and how large its network is."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    components: Width
    """K, principal components of the residual that are diffused; the rest is left at its mean."""
    condition_width: Width
    """Width of the condition branch at half resolution."""
    condition_blocks: Depth
    """Residual blocks a level in the condition branch."""
    width: Width
    """Width of the denoiser at half resolution."""
    norm: Literal["channel", "group"] = "channel"
    """Normalisation per pixel, or over the tile in groups."""
    kernels: Annotated[int, Field(ge=0, le=65_536)] = 0
    """Gaussian kernels of the colour, as features of the mean beside the polynomial ones."""
    gated: bool = False
    """Whether the mean's correction fades where no training colour is near; the first stage needs kernels."""
    guidance: Finite = 0.0
    """ICMG scale s: x̂ = (1 + s)·x̂(c) − s·x̂(∅); 0 is off and costs nothing (SCDM, equation 15)."""

    def __post_init__(self) -> None:
        # Three halves of a width are the width below, and a group norm has eight groups of either.
        unit = 16 if self.norm == "group" else 2
        if self.width % unit or self.condition_width % unit:
            raise UsageError(
                "widths that do not fit the network",
                got=f"width {self.width}, condition_width {self.condition_width}, norm {self.norm}",
                expected=f"multiples of {unit}",
            )


DEFAULT_STAGES = (
    StageConfig(components=8, condition_width=48, condition_blocks=1, width=48, kernels=512),
    StageConfig(components=8, condition_width=32, condition_blocks=1, width=32),
)


@dataclass(frozen=True)
class CascadeConfig:
    """Everything that fixes the cascade's structure."""

    bands: Bands
    """The bands it predicts."""
    response: Bands
    """The spectral response that the input is expected to have, in the order R, G, B."""
    coarse: Count = 12
    """Bands of the first stage, at equal intervals."""
    stages: tuple[StageConfig, StageConfig] = DEFAULT_STAGES
    """RGB → coarse, RGB and coarse → all."""
    members: Members = 1
    """Networks of each stage, which differ in their first weights; sample k uses number k modulo this."""
    timesteps: Steps = 1000
    """T of the linear schedule, beta 1e-4 to 0.02."""
    steps: Steps = 4
    """Solver steps by default; 1 gives the posterior mean."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        targets = (len(self.coarse_bands), len(self.bands))
        for name, stage, limit in zip(("first", "second"), self.stages, targets, strict=True):
            if stage.components > limit:
                raise UsageError(
                    f"components of the {name} stage",
                    got=stage.components,
                    expected=f"up to {limit}, its bands",
                )
        if self.steps > self.timesteps:
            raise UsageError("solver steps", got=self.steps, expected=f"up to {self.timesteps}")

    @property
    def coarse_bands(self) -> tuple[int, ...]:
        """Positions of the coarse bands among all."""
        return coarse_indices(len(self.bands), self.coarse)

    @property
    def settings(self) -> Mapping[str, object]:
        """How it samples, as plain JSON values."""
        guidance = [stage.guidance for stage in self.stages]
        return {"sampler": "dpm_solver_pp_2m", "guidance": guidance, "members": self.members}

    def estimate(self, steps: int) -> str:
        """What a number of steps gives: one step draws no noise."""
        return "posterior mean" if steps == 1 else "sample"

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain JSON values."""
        value = asdict(self)
        value["bands"], value["response"] = self.bands.to_json(), self.response.to_json()
        value["stages"] = [asdict(stage) for stage in self.stages]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CascadeConfig:
        """The configuration that ``to_json`` wrote; ValueError or UsageError where it is none."""
        if not (isinstance(value["bands"], dict) and isinstance(value["response"], dict)):
            raise ValueError("bands and response are tables of centres and widths")
        bands, response = Bands.from_json(value["bands"]), Bands.from_json(value["response"])
        return TypeAdapter(cls).validate_python({**value, "bands": bands, "response": response})


class Encoded(NamedTuple):
    """A network's output for the condition, once for all steps."""

    prepared: Prepared
    """With the mean corrected."""
    features: Features
    """For the denoiser."""
    network: CompactUNet
    """Whose they are."""


class Stage(nn.Module):
    """A mean plus a diffused residual: y = W·f + b + u(f)·(s(f)·A·m(f) + A_K·(σ ∘ z)), z diffused given f.

    W, b, u and A are the closed form's (``model/closed/closed_form.py``), A_K the first K columns of A. m is
    the output of the condition branch for the surroundings. s is one, or of a ``gated`` stage the support of
    the colour: zero far from the training colours, where the mean is then the closed form's alone. σ (K,),
    ``deviation``, is the deviation of each component that remains, measured while it learns, so that z stays
    white. ``spread`` multiplies σ in samples: a network leaves less of its training data than of others, and
    calibration says by how much. ``grain`` (K, scales) is how what it leaves hangs together in space
    (``diffusion.grain``); the noise of the diffusion has the same, so that the network need not make it.
    """

    deviation: Tensor
    spread: Tensor
    grain: Tensor

    def __init__(self, config: StageConfig, features: int, targets: int, members: int = 1) -> None:
        super().__init__()
        self.config = config
        self.closed = ClosedForm(features, targets, config.kernels)
        shape = CompactConfig(
            condition_channels=self.closed.condition_channels,
            targets=targets,
            components=config.components,
            condition_width=config.condition_width,
            condition_blocks=config.condition_blocks,
            width=config.width,
            norm=config.norm,
        )
        self.networks = nn.ModuleList([CompactUNet(shape) for _ in range(members)])
        self.register_buffer("deviation", torch.ones(config.components))
        self.register_buffer("spread", torch.ones(config.components))
        self.register_buffer("grain", white_grain(config.components))

    @property
    def diffused(self) -> Tensor:
        """A_K (T, K), the part of the basis that is diffused."""
        return self.closed.basis[:, : self.config.components]

    def encode(self, prepared: Prepared, member: int = 0) -> Encoded:
        """One network's output for the condition: a corrected mean and features."""
        network = self.network(member)
        correction, features = network.encode(fold(prepared.condition))
        return Encoded(self._corrected(prepared, correction), features, network)

    def posterior_mean(self, prepared: Prepared) -> Tensor:
        """(N, T, h, w), the mean over all networks."""
        folded, count = fold(prepared.condition), len(self.networks)
        # The mean is linear in the correction.
        corrections = (self.network(member).encode(folded)[0] for member in range(count))
        mean = next(corrections).float()
        for correction in corrections:
            mean = mean + correction if mean.requires_grad else mean.add_(correction)
        return self._corrected(prepared, mean / count).mean

    def network(self, member: int) -> CompactUNet:
        """One of its networks."""
        network = self.networks[member]
        assert isinstance(network, CompactUNet)
        return network

    def _corrected(self, prepared: Prepared, folded: Tensor) -> Prepared:
        correction = unfold(folded).float()
        if self.config.gated:
            correction = correction * prepared.support
        return self.add_residual(prepared, self.closed.basis, correction)

    def estimate(self, noisy: Tensor, t: Tensor, alpha_bar: float | Tensor, encoded: Encoded) -> Tensor:
        """ẑ_0 from z_t: the network gives v, which makes its output of unit scale at every t."""
        return to_x0(encoded.network(noisy, t, encoded.features), noisy, alpha_bar, "v")

    def sample(
        self, encoded: Encoded, schedule: Schedule, steps: int, draw: Callable[[int], Tensor]
    ) -> Tensor:
        """One sample of z, (N, K, h, w).

        The first estimate, from noise alone, is the denoiser's average of z. It is subtracted: the mean is
        the task of the condition branch, and the denoiser's memory of its training data would shift all
        samples equally.
        """
        scale = self.config.guidance
        null = encoded
        if scale != 0.0:
            half, quarter = encoded.features
            null = encoded._replace(features=(torch.zeros_like(half), torch.zeros_like(quarter)))

        average: list[Tensor] = []

        def estimate_at(noisy: Tensor, time: float) -> Tensor:
            t = torch.full((len(noisy),), time, device=noisy.device)
            alpha_bar = schedule.alpha_bar_at(time)
            estimate = self.estimate(noisy, t, alpha_bar, encoded)
            if scale == 0.0:
                return estimate
            return (1.0 + scale) * estimate - scale * self.estimate(noisy, t, alpha_bar, null)

        def denoise(noisy: Tensor, time: float) -> Tensor:
            estimate = estimate_at(noisy, time)
            if not average:
                average.append(estimate)
            return estimate

        z = dpm_solver_pp_2m(denoise, schedule, times=logsnr_grid(schedule, steps), draw=draw)
        return z - average[0]

    def components(self, residual: Tensor, bands: Tensor) -> tuple[Tensor, Tensor]:
        """Components (N, K, h, w) of residual / u (N, T, h, w), and how far (N, K) the bands show each.

        Bands (N, T) that are not known are zero.
        """
        return components(self.diffused, residual, bands)

    def add_residual(self, prepared: Prepared, basis: Tensor, components: Tensor) -> Prepared:
        """The mean moved by u·basis·components, of a (T, K) basis and (N, K, h, w); not clipped."""
        return prepared._replace(mean=add_residual(prepared.mean, prepared.size, basis, components))


@dataclass(eq=False)
class Begun:
    """What is the same for all samples of one colour image."""

    colour: Tensor
    """(N, 19, h, w) features."""
    prepared: Prepared
    """Of the first stage."""
    encoded: dict[int, Encoded] = field(default_factory=dict)
    """Outputs of the first stage, by number of the network; filled when needed."""


class SpectralCascade(GrainedNetwork):
    """RGB → n coarse bands → N bands, each stage conditioned on what came before.

    One step draws no noise: it gives the posterior mean. Sample ``number`` is drawn by the networks whose
    turn it is.
    """

    config: CascadeConfig
    stride = CompactUNet.stride
    bytes_per_pixel = 2500
    """Measured at 256² and 512²."""

    def __init__(self, config: CascadeConfig) -> None:
        super().__init__()
        self.config = config
        self.schedule = linear_schedule(config.timesteps)
        first, second = config.stages
        self.stages = nn.ModuleList(
            [
                Stage(first, COLOUR_FEATURES, config.coarse, config.members),
                Stage(second, COLOUR_FEATURES + config.coarse, len(config.bands), config.members),
            ]
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def reach(self) -> int | None:  # type: ignore[override]
        """That of its networks; norms over the tile make it the whole tile."""
        return CompactUNet.reach if all(stage.norm == "channel" for stage in self.config.stages) else None

    def stage(self, index: int) -> Stage:
        """The first (0) or second (1) stage."""
        stage = self.stages[index]
        assert isinstance(stage, Stage)
        return stage

    @property
    def begun_bytes_per_pixel(self) -> int:  # type: ignore[override]
        """Outputs in ``Begun`` when every network has been used."""
        first, coarse = self.config.stages[0], self.config.coarse
        condition = self.stage(0).closed.condition_channels
        features = first.width / 4 + first.width * 1.5 / 16
        return int(4 * (COLOUR_FEATURES + coarse + 1 + condition + self.config.members * (features + coarse)))

    def begin(self, rgb: Tensor) -> Begun:
        """All that depends only on the colour (N, 3, h, w), once for all samples of it."""
        colour = colour_features(rgb)
        prepared = self.stage(0).closed.prepare(colour)._replace(support=self.support(colour))
        return Begun(colour, prepared)

    def support(self, colour: Tensor) -> Tensor:
        """What gates corrections at features (N, 19, h, w): ones, at no cost, where no stage is gated."""
        if not any(stage.gated for stage in self.config.stages):
            return colour.new_ones(len(colour), 1, 1, 1)
        return self.stage(0).closed.support(colour)

    def finish(self, begun: Begun, draw: DrawStage, *, steps: int | None = None, number: int = 0) -> Tensor:
        """One sample as in ``sample``; ``begun`` keeps the outputs of its networks for the colour."""
        count = steps or self.config.steps
        if count == 1:
            coarse = _bounded(self.stage(0).posterior_mean(begun.prepared))
        else:
            member = number % self.config.members
            if member not in begun.encoded:
                begun.encoded[member] = self.stage(0).encode(begun.prepared, member)
            coarse = self._draw(0, begun.encoded[member], count, draw)
        given = torch.cat([begun.colour, coarse], dim=1)
        return self._second(given, begun.prepared.support, count, number, draw)

    def refine(
        self, rgb: Tensor, coarse: Tensor, draw: DrawStage, *, steps: int | None = None, number: int = 0
    ) -> Tensor:
        """The second stage alone: all bands from RGB and given coarse bands (N, n, h, w)."""
        begun = self.begin(rgb)
        given = torch.cat([begun.colour, coarse], dim=1)
        return self._second(given, begun.prepared.support, steps or self.config.steps, number, draw)

    def closed_form(
        self, rgb: Tensor, first: Coefficients | None = None, second: Coefficients | None = None
    ) -> Tensor:
        """(N, B, h, w) the means of both stages without any network, or those of other coefficients."""
        colour = colour_features(rgb)
        coarse = self.stage(0).closed.prepare(colour, first).mean
        return self.stage(1).closed.prepare(torch.cat([colour, coarse], dim=1), second).mean

    def estimates(self, rgb: Tensor) -> Mapping[str, Tensor]:
        """The closed forms' estimate."""
        return {"closed_form": self.closed_form(rgb)}

    def parts(self, stage: int) -> Sequence[tuple[object, str, str]]:
        """The closed form."""
        owner = self.stage(stage)
        return (owner.closed, "prepare", "closed form"), (owner, "add_residual", "closed form")

    def _second(
        self, given: Tensor, support: Tensor | float, count: int, number: int, draw: DrawStage
    ) -> Tensor:
        stage = self.stage(1)
        prepared = stage.closed.prepare(given)._replace(support=support)
        if count == 1:
            return _bounded(stage.posterior_mean(prepared))
        return self._draw(1, stage.encode(prepared, number % self.config.members), count, draw)

    def _draw(self, index: int, encoded: Encoded, count: int, draw: DrawStage) -> Tensor:
        stage = self.stage(index)
        z = stage.sample(encoded, self.schedule, count, lambda step: draw(index, step))
        scaled = stage.diffused * (stage.spread * stage.deviation)
        return _bounded(stage.add_residual(encoded.prepared, scaled, z).mean)


def _bounded(reflectance: Tensor) -> Tensor:
    """New values between the limits: in place, unless a gradient needs them."""
    bound = reflectance.clamp if reflectance.requires_grad else reflectance.clamp_
    return bound(0.0, REFLECTANCE_LIMIT)
