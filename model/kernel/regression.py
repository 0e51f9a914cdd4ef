"""Spectra from the channels of one pixel: the mean of two ridge regressions, and samples around it.

    y = ½ (P·p(x) + Q·[p(x), k(x)]) + u(x)·A_K·(κ ∘ z)

p are the products of the channels up to a degree, k Gaussian kernels around training colours (Broomhead and
Lowe 1988). The first regression is smooth and right far from the training colours, the second is right near
them; on places that neither has seen their mean errs less than both (docs/evaluation.md). u is the expected
size of what is left, A_K its principal components, κ their spread and z noise with their grain
(``diffusion.grain``): all four of residuals on places that were left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spectile.catalog.inputs import InputSpec
from spectile.model.closed.closed_form import ClosedForm, add_residual, polynomial_features
from spectile.model.closed.regressions import monomials
from spectile.model.diffusion.grain import white_grain
from spectile.model.kernel.config import KernelConfig
from spectile.model.system import REFLECTANCE_LIMIT, DrawStage, GrainedNetwork


class Expected(NamedTuple):
    """What the channels say, once for all samples."""

    mean: Tensor
    """(N, B, h, w) reflectance."""
    size: Tensor
    """(N, 1, h, w) expected size of the residual, one on average."""


class KernelStage(nn.Module):
    """The regression and what it leaves."""

    low: Tensor
    high: Tensor
    spread: Tensor
    grain: Tensor

    def __init__(self, config: KernelConfig) -> None:
        super().__init__()
        self.config = config
        channels = len(config.response)
        features = len(monomials(config.degree, channels))
        self.closed = ClosedForm(features, len(config.bands), config.kernels, channels)
        self.register_buffer("low", torch.zeros(channels))
        self.register_buffer("high", torch.ones(channels))
        self.register_buffer("spread", torch.ones(config.components))
        self.register_buffer("grain", white_grain(config.components))

    @property
    def basis(self) -> Tensor:
        """(B, K), the components that samples are made of, each as large as it spreads."""
        return self.closed.basis[:, : self.config.components] * self.spread

    def features(self, values: Tensor) -> Tensor:
        """(N, F, …) of channels (N, C, …), which are clipped to those of training."""
        shape = (-1,) + (1,) * (values.ndim - 2)
        clipped = torch.minimum(torch.maximum(values, self.low.view(shape)), self.high.view(shape))
        return polynomial_features(clipped, self.config.degree)


class KernelRegression(GrainedNetwork):
    """A closed form; one step gives its mean and draws no noise, two give a sample."""

    config: KernelConfig
    stride = 1
    reach: int | None = 0
    bytes_per_pixel = 1024
    """A band's mean, the noise and a sample, beside the features."""

    def __init__(self, config: KernelConfig) -> None:
        super().__init__()
        self.config = config
        self.stages = nn.ModuleList([KernelStage(config)])

    @property
    def begun_bytes_per_pixel(self) -> int:  # type: ignore[override]
        """Of ``Expected``."""
        return 4 * (len(self.config.bands) + 1)

    @property
    def only(self) -> KernelStage:
        """Its one stage."""
        stage = self.stages[0]
        assert isinstance(stage, KernelStage)
        return stage

    def inputs(self, fill: Sequence[float]) -> tuple[InputSpec, ...]:
        """One raster with its channels."""
        name = "rgb" if len(self.config.response) == 3 else "scene"
        return (InputSpec(name, self.config.response, tuple(map(float, fill))),)

    def begin(self, scene: Tensor) -> Expected:
        """What the channels (N, C, h, w) say, once for all samples."""
        return Expected(*self.only.closed.expect(self.only.features(scene)))

    def finish(
        self, begun: Expected, draw: DrawStage, *, steps: int | None = None, number: int = 0
    ) -> Tensor:
        """The mean, or one sample around it."""
        if (steps or self.config.steps) == 1:
            return begun.mean.clamp(0.0, REFLECTANCE_LIMIT)
        sample = add_residual(begun.mean, begun.size, self.only.basis, draw(0, 0))
        return sample.clamp_(0.0, REFLECTANCE_LIMIT)
