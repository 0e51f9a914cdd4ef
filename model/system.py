"""What a system is: a configuration, a network from tiles to spectra, and a way to train it.

Each system has its own folder with one ``SYSTEM``; ``registry`` lists them, and nothing else chooses by kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from spectile.catalog.bands import Bands
from spectile.catalog.inputs import InputSpec
from spectile.model.data.crops import Batch, TrainingScene
from spectile.model.data.pairs import observe, response_matrix
from spectile.model.diffusion.grain import grained, random_grained
from spectile.model.training.run import Progress

REFLECTANCE_LIMIT = 1.6
"""Predictions are clipped to [0, 1.6]: specular targets exceed one, nothing passive exceeds this."""

DrawStage = Callable[[int, int], Tensor]
"""(stage, step) → (N, K, h, w) noise of unit variance, as that stage wants it."""


class Config(Protocol):
    """Everything that fixes the structure of a network and how it samples by default."""

    @property
    def bands(self) -> Bands:
        """The bands that it predicts."""
        ...

    @property
    def response(self) -> Bands:
        """The spectral response that its colour input is expected to have, in the order R, G, B."""
        ...

    @property
    def timesteps(self) -> int:
        """T of its schedule."""
        ...

    @property
    def steps(self) -> int:
        """Solver steps by default."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """How it samples, as plain JSON values."""
        ...

    def estimate(self, steps: int) -> str:
        """What so many steps give: ``sample``, or ``posterior mean``, which draws no noise."""
        ...


class White(Protocol):
    """White noise of one stage, step and sample, keyed on positions."""

    def __call__(self, *, channels: int, origins: Tensor, height: int, width: int, level: int = 0) -> Tensor:
        """(N, channels, height, width) standard normal at (N, 2) origins, of one lattice level."""
        ...


class Network(nn.Module):
    """The interface of every system's network."""

    config: Any
    """Its ``Config``."""
    stages: nn.ModuleList
    """Its stages, in the order of sampling."""
    stride: int
    """In pixels."""
    lattice: int = 1
    """Pixels along one value of its noise."""
    reach: int | None = None
    """How many pixels away it looks, measurably; None where at the whole tile."""
    bytes_per_pixel: int
    """Peak activations of one tile."""
    begun_bytes_per_pixel: int = 0
    """What ``begin`` keeps."""

    @property
    def device(self) -> torch.device:
        """Where its weights are; a closed form has buffers alone."""
        return next(chain(self.parameters(), self.buffers())).device

    def stage(self, index: int) -> Any:
        """A stage by its number from 0; its ``config.components`` are the channels that are diffused."""
        return self.stages[index]

    @property
    def channels(self) -> int:
        """Of all inputs together: so many fill values it needs."""
        return len(self.config.response)

    def inputs(self, fill: Sequence[float]) -> tuple[InputSpec, ...]:
        """The rasters that ``begin`` takes, in its order: a colour scene as its camera sees it."""
        return (InputSpec("rgb", self.config.response, tuple(map(float, fill))),)

    def observe(self, batch: Batch) -> tuple[Tensor, ...]:
        """What ``begin`` takes of crops whose truth is known, in its order: here their colours."""
        return (batch.rgb,)

    def begin(self, rgb: Tensor) -> Any:
        """All that depends only on the input, once for all samples of it: here the input itself."""
        return rgb

    def finish(self, begun: Any, draw: DrawStage, *, steps: int | None = None, number: int = 0) -> Tensor:
        """One sample of the cube, as of ``sample``."""
        raise TypeError(f"{type(self).__name__} has no way to sample")

    @property
    def endmembers(self) -> tuple[str, ...]:
        """Names of the library's spectra that it mixes; none of a network that mixes none."""
        return ()

    def finish_mixed(
        self, begun: Any, draw: DrawStage, *, steps: int | None = None, number: int = 0
    ) -> Tensor:
        """As ``finish``, followed by the shares of the ``endmembers``: (N, B + G, h, w)."""
        raise TypeError(f"{type(self).__name__} mixes no library")

    def sample(
        self,
        inputs: Tensor | Sequence[Tensor],
        draw: DrawStage,
        *,
        steps: int | None = None,
        number: int = 0,
    ) -> Tensor:
        """One sample of the cube, (N, B, h, w) reflectance in [0, 1.6].

        Parameters
        ----------
        inputs : what ``begin`` takes, in its order, or its only input, such as (N, 3, h, w) float32 linear
            reflectance as seen through ``config.response``.
        draw : the noise of (stage, step).
        steps : solver steps a stage; None is the configuration's default.
        number : of the sample.
        """
        given = (inputs,) if isinstance(inputs, Tensor) else inputs
        return self.finish(self.begin(*given), draw, steps=steps, number=number)

    def noise(self, stage: int, white: White, origins: Tensor, height: int, width: int) -> Tensor:
        """(N, K, h/l, w/l) noise of a stage for tiles at (N, 2) origins, so that overlapping tiles agree.

        The l pixels of ``lattice`` along a side have one value, wherever tiles begin within them: all tiles
        of a run do so at the same remainder, because their period is a multiple of ``stride``.
        """
        channels, lattice = self.stage(stage).config.components, self.lattice
        first = torch.div(origins, lattice, rounding_mode="floor")
        return white(channels=channels, origins=first, height=height // lattice, width=width // lattice)

    def drawn_by(self, generator: torch.Generator, count: int, height: int, width: int) -> DrawStage:
        """The stages' noise for ``count`` images at a time, the next of a generator at each call."""

        def draw(stage: int, step: int) -> Tensor:
            size = height // self.lattice, width // self.lattice
            shape = (count, self.stage(stage).config.components, *size)
            return torch.randn(shape, generator=generator).to(self.device)

        return draw

    def estimates(self, rgb: Tensor) -> Mapping[str, Tensor]:
        """Further estimates (N, B, h, w) that an evaluation compares with its samples, by name."""
        return {}

    def parts(self, stage: int) -> Sequence[tuple[object, str, str]]:
        """(object, method, part) of a stage that a benchmark times beside its ``Denoiser``."""
        return ()


class FusionNetwork(Network):
    """A network that fuses a sharp multispectral scene (MSI) with a coarse hyperspectral one (HSI).

    ``config`` has a ``pair`` (``PairConfig``) beside ``bands``, those of the HSI, and ``response``, of the
    MSI.
    """

    response: Tensor
    """R (C, B): the MSI's bands over the model's."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.register_buffer(
            "response", torch.tensor(response_matrix(config.bands, config.response)), persistent=False
        )

    @property
    def channels(self) -> int:
        """Bands of both scenes."""
        return len(self.config.response) + len(self.config.bands)

    def inputs(self, fill: Sequence[float]) -> tuple[InputSpec, ...]:
        """The MSI on the grid of the result, and the HSI, whose pixels are ``ratio`` of these wide."""
        count = len(self.config.response)
        values = tuple(map(float, fill))
        return (
            InputSpec("msi", self.config.response, values[:count]),
            InputSpec("hsi", self.config.bands, values[count:], ratio=self.config.pair.ratio),
        )

    def observe(self, batch: Batch) -> tuple[Tensor, ...]:
        """The MSI and the HSI of crops, degraded as in training; their noise is the same at each call."""
        generator = torch.Generator().manual_seed(0)
        return tuple(observe(batch.target, self.config.pair, self.response.to(batch.target), generator))


class GrainedNetwork(Network):
    """A network whose stages say in ``grain`` (K, scales) how their noise hangs together in space."""

    def noise(self, stage: int, white: White, origins: Tensor, height: int, width: int) -> Tensor:
        """Noise with the stage's grain, summed from lattices that lie fixed on the scene's grid."""
        grain = self.stage(stage).grain

        def lattice(level: int, first: Tensor, shape: tuple[int, int]) -> Tensor:
            return white(channels=len(grain), origins=first, height=shape[0], width=shape[1], level=level)

        return grained(lattice, grain, origins, height, width)

    def drawn_by(self, generator: torch.Generator, count: int, height: int, width: int) -> DrawStage:
        """The stages' grained noise; the solver draws once, whatever the step."""
        return lambda stage, step: random_grained(self.stage(stage).grain, count, height, width, generator)


class Train(Protocol):
    """How a system is trained: the trained network, whose checkpoint is in ``out_dir``."""

    def __call__(
        self,
        config: Any,
        training: Any,
        scenes: Sequence[TrainingScene],
        validation: Sequence[TrainingScene],
        out_dir: Path,
        *,
        metadata: Mapping[str, Any],
        device: str,
        progress: Progress,
    ) -> Network:
        """Train, or go on with what is in ``out_dir``."""
        ...


@dataclass(frozen=True)
class System:
    """One kind of model."""

    kind: str
    """Its name in recipes and checkpoints."""
    title: str
    """For errors."""
    config: Callable[[Mapping[str, Any]], Config]
    """The configuration in a checkpoint's facts; KeyError, ValueError or UsageError where it is none."""
    build: Callable[[Any], Network]
    """A network of a configuration, with random weights."""
    train: Train
    """Trains one."""
    prediction: str
    """What the network gives, for the facts of a checkpoint."""
    scaling: str
    """What it takes, for the facts."""
    bfloat16: bool = False
    """Whether its samples in bfloat16 were compared with those in float32."""
    published: Callable[[], Config] | None = None
    """A configuration that is known without weights; its costs can be measured by ``preset``."""
    preset: str = ""
    """The name of that configuration."""
    checks: Callable[[Any, Batch, int], Mapping[str, float]] = lambda network, batch, seed: {}
    """Extra measurements of this system on held-out crops (network, batch, seed)."""
