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

    def inputs(self, fill: Sequence[float]) -> tuple[InputSpec, ...]:
        """The rasters that ``begin`` takes, in its order: a colour scene as its camera sees it."""
        return (InputSpec("rgb", self.config.response, tuple(map(float, fill))),)

    def begin(self, rgb: Tensor) -> Any:
        """All that depends only on the input, once for all samples of it: here the input itself."""
        return rgb

    def finish(self, begun: Any, draw: DrawStage, *, steps: int | None = None, number: int = 0) -> Tensor:
        """One sample of the cube, as of ``sample``."""
        raise TypeError(f"{type(self).__name__} has no way to sample")

    def sample(self, rgb: Tensor, draw: DrawStage, *, steps: int | None = None, number: int = 0) -> Tensor:
        """One sample of the cube, (N, B, h, w) reflectance in [0, 1.6].

        Parameters
        ----------
        rgb : (N, 3, h, w) float32, linear reflectance as seen through ``config.response``.
        draw : the noise of (stage, step).
        steps : solver steps a stage; None is the configuration's default.
        number : of the sample.
        """
        return self.finish(self.begin(rgb), draw, steps=steps, number=number)

    def noise(self, stage: int, white: White, origins: Tensor, height: int, width: int) -> Tensor:
        """(N, K, h, w) noise of a stage for tiles at (N, 2) origins, so that overlapping tiles agree."""
        channels = self.stage(stage).config.components
        return white(channels=channels, origins=origins, height=height, width=width)

    def drawn_by(self, generator: torch.Generator, count: int, height: int, width: int) -> DrawStage:
        """The stages' noise for ``count`` images at a time, the next of a generator at each call."""

        def draw(stage: int, step: int) -> Tensor:
            shape = (count, self.stage(stage).config.components, height, width)
            return torch.randn(shape, generator=generator).to(self.device)

        return draw

    def estimates(self, rgb: Tensor) -> Mapping[str, Tensor]:
        """Further estimates (N, B, h, w) that an evaluation compares with its samples, by name."""
        return {}

    def parts(self, stage: int) -> Sequence[tuple[object, str, str]]:
        """(object, method, part) of a stage that a benchmark times beside its ``Denoiser``."""
        return ()


class GrainedNetwork(Network):
    """A network whose stages say in ``grain`` (K, scales) how their noise hangs together in space."""

    def noise(self, stage: int, white: White, origins: Tensor, height: int, width: int) -> Tensor:
        """Noise with the stage's grain, summed from lattices that lie fixed on the scene's grid."""
        grain = self.stage(stage).grain

        def lattice(level: int, first: tuple[int, int], shape: tuple[int, int]) -> Tensor:
            at = torch.tensor([first])
            return white(channels=len(grain), origins=at, height=shape[0], width=shape[1], level=level)[0]

        return torch.stack(
            [grained(lattice, grain, (row, col), height, width) for row, col in origins.tolist()]
        )

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
    """A configuration that is known without weights; its costs can be measured by the kind's name."""
    checks: Callable[[Any, Batch, int], Mapping[str, float]] = lambda network, batch, seed: {}
    """Extra measurements of this system on held-out crops (network, batch, seed)."""
