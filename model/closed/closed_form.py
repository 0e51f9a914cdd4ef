"""The closed-form part of a stage: its mean, the residual's expected size and principal components.

Ridge regression on features of the colour (and, in the second stage, of the coarse bands), then the principal
components of what it leaves over. The network corrects the mean and diffuses the components.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectile.model.closed.regressions import monomials

INPUT_LIMIT = 1.5
"""The input is clipped to [0, 1.5] before its features are made, so that they cannot explode."""
CONDITION_LIMIT = 8.0
"""Standardised conditions are clipped to ±8 before the network; training stays within."""
SIZE_LIMITS = (0.1, 5.0)
"""Limits of the residual's expected size, in units of its mean."""
DEGREES_OF_FREEDOM = 4.0
"""Of the multivariate t whose scatter whitens the residual."""
SCATTER_ITERATIONS = 20
LEAST_PENALTY = 1e-5
"""Where there is nothing to choose by, as of the pixels of one image."""
COLOUR_FEATURES = 19
CHUNK = 4096
"""Pixels whose kernel features are computed at once: they stay in the cache."""
NEIGHBOURS = 6
"""A kernel is as wide as its centre is from this many others …"""
LEAST_WIDTH = 0.05
"""… and at least this, in deviations of the tint."""
WIDEN = 1.5
FAINTEST = -60.0
"""Smallest exponent of a kernel: e⁻⁶⁰ is almost zero but not a denormal number, which would be slow."""


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


def polynomial_features(values: Tensor, degree: int) -> Tensor:
    """(N, F, …) products of up to ``degree`` channels of (N, C, …), by degree; the channels come first."""
    channels, terms = values.unbind(1), monomials(degree, values.shape[1])
    features = values.new_empty(len(values), len(terms), *values.shape[2:])
    for index, (first, *others) in enumerate(terms):
        product = channels[first]
        for at in others:
            product = product * channels[at]
        features[:, index] = product
    return features


class Prepared(NamedTuple):
    """The values of a stage that need no noise."""

    mean: Tensor
    """(N, T, h, w) reflectance."""
    size: Tensor
    """(N, 1, h, w) expected size of the residual, one on average."""
    condition: Tensor
    """(N, C, h, w) what the network is given."""
    support: Tensor | float = 1.0
    """(N, 1, h, w) how near a colour of the training data is, 0 to 1, for a gated stage."""


class Coefficients(NamedTuple):
    """Other coefficients of the regressors than a closed form's own, for each image."""

    weight: Tensor
    """(N, T + 1, F + kernels)."""
    bias: Tensor
    """(N, T + 1)."""


class ClosedForm(nn.Module):
    """W·f + b for T targets of F features, its residual's expected size u(f) and components A.

    u is closed-form as well (the last row of ``weight``), in units of its mean: without it dark pixels,
    which the colour nearly settles, get the errors of bright ones. ``basis`` A (T, T) is V·diag(s) of the
    principal components of residual / u.
    With ``kernels``, f goes on with Gaussian kernels around as many training colours (radial basis functions,
    Broomhead and Lowe 1988), which make the mean an arbitrary smooth function of the colour and leave it
    to the other features far from any; the network then sees that mean as well.
    """

    feature_mean: Tensor
    feature_scale: Tensor
    tint_mean: Tensor
    tint_scale: Tensor
    kernel_weight: Tensor
    kernel_bias: Tensor
    weight: Tensor
    bias: Tensor
    target_mean: Tensor
    target_scale: Tensor
    basis: Tensor
    residual_variance: Tensor

    def __init__(self, features: int, targets: int, kernels: int = 0, channels: int = 3) -> None:
        super().__init__()
        self.channels = channels
        """Of the colour, which are the first of the features."""
        self.condition_channels = features + 1 + (targets if kernels else 0)
        """Of ``Prepared.condition``."""
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_scale", torch.ones(features))
        self.register_buffer("tint_mean", torch.zeros(2 * channels))
        self.register_buffer("tint_scale", torch.ones(2 * channels))
        self.register_buffer("kernel_weight", torch.zeros(kernels, 4 * channels))
        self.register_buffer("kernel_bias", torch.zeros(kernels))
        self.register_buffer("weight", torch.zeros(targets + 1, features + kernels))
        self.register_buffer("bias", torch.zeros(targets + 1))
        self.register_buffer("target_mean", torch.zeros(targets))
        self.register_buffer("target_scale", torch.ones(targets))
        self.register_buffer("basis", torch.zeros(targets, targets))
        self.register_buffer("residual_variance", torch.ones(()))

    def fit(
        self, features: Tensor, targets: Tensor, *, generator: torch.Generator, ridge: float = LEAST_PENALTY
    ) -> None:
        """Set the mean by ridge regression and the basis by PCA of what it leaves.

        Parameters
        ----------
        features : (P, F) float32, of training pixels.
        targets : (P, T) float32, their reflectance.
        ridge : penalty on the coefficients of features of unit deviation, per pixel.
        generator : draws the kernels' centres.
        """
        self.feature_mean.copy_(features.mean(0))
        self.feature_scale.copy_(features.std(0).clamp_min(1e-6))
        if len(self.kernel_bias):
            self.place(features, generator)
        y = targets.double()
        shift = torch.cat([x.sum(0)[None] for x in self._design(features)]).sum(0) / len(y)
        gram = torch.zeros(len(shift), len(shift), dtype=torch.float64)
        for x in self._design(features):
            gram += (x - shift).T @ (x - shift) / len(y)
        gram.diagonal().add_(ridge)

        def regress(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """Slope, centre and fitted values."""
            centre = values.mean(0)
            parts = zip(self._design(features), torch.split(values - centre, CHUNK), strict=True)
            slope = torch.linalg.solve(gram, sum((x - shift).T @ v for x, v in parts) / len(y))
            return slope, centre, torch.cat([(x - shift) @ slope for x in self._design(features)]) + centre

        slope, centre, fitted = regress(y)
        residual = y - fitted
        self.residual_variance.copy_(residual.square().mean())
        length = residual.norm(dim=1, keepdim=True)
        size_slope, size_centre, size = regress(length / length.mean())
        residual = residual / size.clamp(*SIZE_LIMITS)
        coefficients = torch.cat([slope, size_slope], dim=1).T
        variance, vectors = torch.linalg.eigh(scatter(residual))
        components = vectors.flip(1) * variance.flip(0).clamp_min(1e-12).sqrt()
        for name, value in (
            ("weight", coefficients),
            ("bias", torch.cat([centre, size_centre]) - coefficients @ shift),
            ("target_mean", centre),
            ("target_scale", y.std(0).clamp_min(1e-6)),
            ("basis", components),
        ):
            getattr(self, name).copy_(value)

    def _design(self, features: Tensor) -> Iterator[Tensor]:
        """The regressors of the mean from features (P, F): float64, some pixels at a time."""
        for part in torch.split(features, CHUNK):
            yield self.regressors(part.T).T.double()

    def place(self, features: Tensor, generator: torch.Generator) -> None:
        """Set the kernels around training colours, of features (P, F), as wide as the colours lie apart."""
        tint = _tint(features.T, self.channels).T
        self.tint_mean.copy_(tint.mean(0))
        self.tint_scale.copy_(tint.std(0).clamp_min(1e-6))
        count = len(self.kernel_bias)
        at = torch.randint(len(tint), (count,), generator=generator)
        centres = (tint[at] - self.tint_mean) / self.tint_scale
        apart = torch.cdist(centres, centres).sort(dim=1).values[:, min(NEIGHBOURS, count) - 1]
        precision = (WIDEN * apart.clamp_min(LEAST_WIDTH)).square().reciprocal()[:, None]
        # −½·precision·|t − c|² as a linear function of t and t².
        self.kernel_weight.copy_(
            torch.cat([precision * centres, (-0.5 * precision).expand(-1, tint.shape[1])], dim=1)
        )
        self.kernel_bias.copy_(-0.5 * precision[:, 0] * centres.square().sum(1))

    def standardise(self, features: Tensor) -> Tensor:
        """(N, F, …) features at zero mean and unit deviation over the training pixels."""
        shape = (-1,) + (1,) * (features.ndim - 2)
        return (features - self.feature_mean.view(shape)) / self.feature_scale.view(shape)

    def expect(self, features: Tensor, given: Coefficients | None = None) -> tuple[Tensor, Tensor]:
        """The mean (N, T, h, w) and the residual's expected size (N, 1, h, w).

        Parameters
        ----------
        features : (N, F, h, w).
        given : coefficients to take instead of its own.
        """
        targets = len(self.target_mean)
        values = features.new_empty(len(features), targets + 1, *features.shape[2:])
        for _, known, out in self._each(features, given, values):
            out.copy_(known)
        return values[:, :targets], values[:, targets:]

    def prepare(self, features: Tensor, given: Coefficients | None = None) -> Prepared:
        """What follows from the features (N, F, h, w), with coefficients as of ``expect``."""
        targets = len(self.target_mean)
        channels = targets + 1 + self.condition_channels
        values = features.new_empty(len(features), channels, *features.shape[2:])
        for standard, known, out in self._each(features, given, values):
            out[: targets + 1] = known
            condition = [standard, known[targets:].log()]
            if len(self.kernel_bias):
                condition.append((known[:targets] - self.target_mean[:, None]) / self.target_scale[:, None])
            out[targets + 1 :] = torch.cat(condition).clamp_(-CONDITION_LIMIT, CONDITION_LIMIT)
        return Prepared(values[:, :targets], values[:, targets : targets + 1], values[:, targets + 1 :])

    def _each(
        self, features: Tensor, given: Coefficients | None, values: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Some pixels at a time: standardised features, what is known of them, and their place in values.

        They are (F, P), (T + 1, P) mean and expected size, and (…, P) of values (N, …, h, w).
        """
        kernel, count = self._kernel(), features.shape[1]
        features, values = features.flatten(2), values.flatten(2)
        for n in range(len(features)):
            weight = self.weight if given is None else given.weight[n]
            bias = self.bias if given is None else given.bias[n]
            for part in _split(features):
                raw = features[n, :, part]
                standard = self.standardise(raw[None])[0]
                known = _product(weight[:, :count], _images(standard))
                if len(kernel):
                    known = known + _product(weight[:, count:], _kernels(kernel, self._terms(raw)))
                known = _pixels(known, raw.shape[1]) + bias[:, None]
                yield standard, torch.cat([known[:-1], known[-1:].clamp(*SIZE_LIMITS)]), values[n, :, part]

    def support(self, features: Tensor) -> Tensor:
        """(N, 1, h, w) the largest kernel at features (N, F, h, w): one at training colours, zero far off."""
        kernel, raw = self._kernel(), features.flatten(2)
        near = [torch.stack([self._near(kernel, image) for image in raw[..., part]]) for part in _split(raw)]
        return torch.cat(near, dim=1).reshape(-1, 1, *features.shape[2:])

    def regressors(self, features: Tensor) -> Tensor:
        """(F + kernels, P) what the mean is linear in, from features (F, P)."""
        standard = self.standardise(features[None])[0]
        if not len(self.kernel_bias):
            return standard
        return torch.cat(
            [standard, _pixels(_kernels(self._kernel(), self._terms(features)), features.shape[1])]
        )

    def _near(self, kernel: Tensor, features: Tensor) -> Tensor:
        """(P,) the largest kernel at features (F, P)."""
        return _pixels(_kernels(kernel, self._terms(features)), features.shape[1]).amax(0)

    def _terms(self, features: Tensor) -> Tensor:
        """(4 C + 1, P) what the kernels' exponents are linear in, from features (F, P)."""
        tint = (_tint(features, self.channels) - self.tint_mean[:, None]) / self.tint_scale[:, None]
        # With ones for the bias, which is then not copied to every pixel first.
        return torch.cat([tint, tint.square(), torch.ones_like(tint[:1])])

    def _kernel(self) -> Tensor:
        """(kernels, 4 C + 1) the coefficients of the kernels' exponents in ``_terms``."""
        return torch.cat([self.kernel_weight, self.kernel_bias[:, None]], dim=1)


def _kernels(kernel: Tensor, terms: Tensor) -> Tensor:
    """The kernels at terms (4 C + 1, P), as images."""
    exponent = _product(kernel, _images(terms))
    # Rounding may lift an exponent above its bound of zero.
    if exponent.requires_grad:
        return exponent.clamp(FAINTEST, 0.0).exp()
    return exponent.clamp_(FAINTEST, 0.0).exp_()  # in place: a copy would take as long as the product


def _product(weight: Tensor, images: Tensor) -> Tensor:
    """Weight (T, C) · each pixel of images (N, C, 1, w).

    On a CPU as a convolution over one pixel, which takes half of the time that a matrix product does on AMD
    processors. On CUDA it would be rounded to TF32.
    """
    if images.device.type == "cpu":
        return functional.conv2d(images, weight[:, :, None, None])
    return (weight @ images[0, :, 0])[None, :, None]


WIDTH = 64
LEAST_IMAGES = 16
"""With fewer images, whether torch takes another way to multiply hangs on its number of threads."""


def _images(values: Tensor) -> Tensor:
    """(C, P) as images (N, C, 1, w), on a CPU LEAST_IMAGES or more and channels last; pixels are added."""
    if values.device.type != "cpu":
        return values[None, :, None]
    channels, count = values.shape
    added = max(-count % WIDTH, LEAST_IMAGES * WIDTH - count)
    padded = functional.pad(values.T, (0, 0, 0, added))
    return padded.reshape(-1, 1, WIDTH, channels).permute(0, 3, 1, 2)


def _pixels(images: Tensor, count: int) -> Tensor:
    """(C, P) the first P pixels of images (N, C, 1, w)."""
    return images.permute(1, 0, 2, 3).flatten(1)[:, :count]


def add_residual(mean: Tensor, size: Tensor, basis: Tensor, components: Tensor) -> Tensor:
    """Mean (N, T, h, w) + size (N, 1, h, w) · basis (T, K) · components (N, K, h, w); not clipped."""
    residual = (basis @ components.flatten(2)).reshape(mean.shape)
    # In the place of the residual, unless a gradient needs it.
    kept = any(value.requires_grad for value in (mean, size, residual))
    return torch.addcmul(mean, size, residual, out=None if kept else residual)


def _split(pixels: Tensor) -> list[slice]:
    """(…, P) some at a time: on a CPU as many as stay in its cache, elsewhere all of an image."""
    count = pixels.shape[-1]
    size = CHUNK if pixels.device.type == "cpu" else max(count, 1)
    return [slice(at, at + size) for at in range(0, count, size)]


def scatter(residual: Tensor) -> Tensor:
    """(T, T) covariance of the bulk of residuals (P, T), from a multivariate t (Lange et al. 1989).

    A plain covariance is that of the few pixels that the mean misses most (rare materials, spikes); the
    bulk then lies within a fraction of a deviation, which a sampler that starts from unit noise overshoots.
    """
    count, bands = residual.shape
    floor = 1e-9 * torch.eye(bands, dtype=residual.dtype)
    scatter = residual.T @ residual / count + floor
    for _ in range(SCATTER_ITERATIONS):
        distance = (residual @ torch.linalg.inv(scatter) * residual).sum(dim=1, keepdim=True)
        weight = (DEGREES_OF_FREEDOM + bands) / (DEGREES_OF_FREEDOM + distance)
        scatter = (weight * residual).T @ residual / count + floor
    return scatter


def _tint(features: Tensor, channels: int) -> Tensor:
    """(2C, P) square roots of the channels, which are the first features, and their shares of the sum."""
    colour = features[:channels]
    return torch.cat([(colour + 1e-4).sqrt(), colour / (colour.sum(dim=0, keepdim=True) + 0.02)])
