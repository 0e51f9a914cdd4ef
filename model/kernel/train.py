"""Fitting a kernel ridge regression: everything is chosen and measured on places that are left out.

A place (``site``) or a library is a group. The moments of a regression add up over groups, so leaving one
out is a subtraction: no pixel is looked at twice, whatever is tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spectile.catalog.errors import UsageError
from spectile.model import checkpoint
from spectile.model.closed.closed_form import CHUNK, SIZE_LIMITS, scatter
from spectile.model.closed.factors import fit_factors
from spectile.model.closed.regressions import monomials
from spectile.model.closed.spectra import complete_spectra, components
from spectile.model.data.crops import CropSource, TrainingScene
from spectile.model.diffusion.grain import fit_grain
from spectile.model.kernel.config import KernelConfig, KernelTraining
from spectile.model.kernel.regression import KernelRegression, KernelStage
from spectile.model.training.run import Progress, generator_of

POLYNOMIAL_PENALTIES = (1e-7, 1e-6, 1e-5, 1e-4)
KERNEL_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
"""On coefficients of regressors of unit deviation."""
SHARES = (0.0, 0.5, 1.0)
"""Of the regression with kernels in the mean of both."""
SCATTER_PIXELS = 4000
"""Of each place, of which the principal components are made."""
CALIBRATION_CROPS = 8
"""Of each scene at most."""
CALIBRATION_SAMPLES = 16


class Choice(NamedTuple):
    """What is chosen on the places that are left out."""

    degree: int
    """Of the polynomial of the first regression."""
    polynomial: float
    """Its penalty."""
    kernel: float
    """The penalty of the second."""
    share: float
    """Of the second in the mean of both."""


@dataclass(frozen=True, eq=False)
class Group:
    """The pixels of a place or of a library, and their moments."""

    name: str
    scenes: tuple[TrainingScene, ...]
    share: float
    """How much it counts in the fit."""
    values: Tensor
    """(P, C) the input."""
    spectra: Tensor
    """(P, B) reflectance; zero, or likely, where a band is missing."""
    bands: Tensor
    """(P, B) one where the pixel has the band."""

    @cached_property
    def known(self) -> Tensor:
        """(B,) the share of pixels that have the band."""
        return self.bands.mean(0)

    @property
    def is_place(self) -> bool:
        """Whether it shows a place, which can be left out to learn of others."""
        return bool(self.scenes[0].site)


class Moments(NamedTuple):
    """Means of products of regressors and spectra; they add up with shares."""

    gram: Tensor
    """(R, R)."""
    cross: Tensor
    """(R, B)."""
    square: Tensor
    """(B,)."""

    def added(self, other: Moments, share: float) -> Moments:
        """The sum with a share of another."""
        return Moments(*(one + share * two for one, two in zip(self, other, strict=True)))


def train(
    config: KernelConfig,
    training: KernelTraining,
    scenes: Sequence[TrainingScene],
    validation: Sequence[TrainingScene],
    out_dir: Path,
    *,
    metadata: Mapping[str, Any],
    device: str = "auto",
    progress: Progress = lambda record: None,
) -> KernelRegression:
    """The fitted regression, whose checkpoint is in ``out_dir``. It takes a minute, on the CPU, in float64.

    Parameters
    ----------
    config, training : what to fit and how.
    scenes : to learn from. Two places (``site``) at least, which are left out in turn.
    validation : not looked at; the baselines are chosen on it.
    out_dir : the checkpoint's folder.
    metadata : facts for the checkpoint.
    device : not used: the fit is in float64.
    progress : is called with the error of each place, left out.

    Raises
    ------
    UsageError : there are fewer than two places, or no scene has every band.
    """
    del validation, device
    groups = draw_groups(config, training, scenes)
    return fit(config, training, groups, out_dir, metadata=metadata, progress=progress)


def fit(
    config: KernelConfig,
    training: KernelTraining,
    groups: Sequence[Group],
    out_dir: Path,
    *,
    metadata: Mapping[str, Any],
    progress: Progress = lambda record: None,
) -> KernelRegression:
    """The regression fitted to groups, as of ``train``; others may be fitted to some of the same groups."""
    model = KernelRegression(config).eval()
    groups = _completed(groups)
    places = [group for group in groups if group.is_place]
    if len(places) < 2:
        raise UsageError(
            "a kernel regression is chosen on places that are left out", got=f"{len(places)} places",
            expected="scenes of two sites or more", remedy="see docs/training.md",
        )  # fmt: skip
    _standardise(model.only, groups, training.seed)
    moments = {group.name: _moments(model.only, group) for group in groups}
    total = _total(groups, moments)
    choice = _choose(model.only, places, moments, total)
    without = {
        group.name: _weights(model.only, total.added(moments[group.name], -group.share), choice)
        for group in groups
    }
    weights = _weights(model.only, total, choice)
    _describe_residual(model.only, groups, without, total, choice)
    _set_mean(model.only, weights)
    fill = sum((group.share * group.values.mean(0) for group in groups), torch.zeros(len(config.response)))
    errors = {}
    for number, group in enumerate(places, 1):
        own = _error(group, moments[group.name], weights)
        errors[group.name] = {"own": own, "left_out": _error(group, moments[group.name], without[group.name])}
        error = round(errors[group.name]["left_out"], 4)
        progress({"step": number, "of": len(places), "left_out": group.name, "rmse": error})
    calibration = _calibrate(model, places, without, training, fill)
    facts = {
        **metadata, "kind": "kernel-ridge", "preset": config.to_json(), "training": asdict(training),
        "fill": fill.tolist(), "chosen": choice._asdict(), "sites": errors,
        "calibration": calibration.to_json(),
    }  # fmt: skip
    checkpoint.save(out_dir, model.state_dict(), facts)
    return model


def draw_groups(
    config: KernelConfig, training: KernelTraining, scenes: Sequence[TrainingScene]
) -> list[Group]:
    """The scenes by place, or by what their name begins with, with pixels of each."""
    by_name: dict[str, list[TrainingScene]] = {}
    for scene in scenes:
        by_name.setdefault(scene.site or scene.name.partition("/")[0], []).append(scene)
    groups = []
    for name, part in by_name.items():
        source = CropSource(part, config.bands, config.response)
        drawn = source.pixels(training.seed, training.augmentation, crop=training.crop, crops=training.crops)
        groups.append(Group(name, tuple(part), sum(scene.weight for scene in part), *drawn))
    return groups


def _completed(groups: Sequence[Group]) -> list[Group]:
    """The groups with shares that sum to one and likely values for missing bands."""
    bands = torch.cat([group.bands for group in groups])
    if not bool((bands.min(dim=1).values > 0).any()):
        raise UsageError("no training scene has every band of the model", remedy="add one that covers them")
    spectra = complete_spectra(torch.cat([group.spectra for group in groups]), bands)
    parts = torch.split(spectra, [len(group.spectra) for group in groups])
    weight = sum(group.share for group in groups)
    return [
        replace(group, share=group.share / weight, spectra=part)
        for group, part in zip(groups, parts, strict=True)
    ]


def _standardise(stage: KernelStage, groups: Sequence[Group], seed: int) -> None:
    """Set the limits of the input, the features' scale and the kernels' places."""
    closed, generator = stage.closed, generator_of(seed, 4, 0)
    values = torch.cat([group.values for group in groups])
    stage.low.copy_(values.min(0).values)
    stage.high.copy_(values.max(0).values)
    features = stage.features(values)
    share = torch.cat([torch.full((len(group.values),), group.share / len(group.values)) for group in groups])
    mean = share.double() @ features.double()
    deviation = (share.double() @ (features.double() - mean).square()).sqrt()
    closed.feature_mean.copy_(mean)
    closed.feature_scale.copy_(deviation.clamp_min(1e-6))
    drawn = torch.multinomial(share, min(len(share), 20_000), generator=generator)
    closed.place(features[drawn], generator)


def _regressors(stage: KernelStage, values: Tensor) -> Iterator[Tensor]:
    """(p, 1 + F + M) float64: one, standardised features and kernels, of some pixels at a time."""
    for part in torch.split(stage.features(values), 8 * CHUNK):
        raw = part.T[None]
        standard = stage.closed.standardise(raw[..., None])[..., 0]
        design = stage.closed.regressors(raw, standard)[0].T.double()
        yield torch.cat([torch.ones(len(design), 1, dtype=torch.float64), design], dim=1)


def _moments(stage: KernelStage, group: Group) -> Moments:
    count, sums = len(group.values), None
    spectra = torch.split(group.spectra.double(), 8 * CHUNK)
    for x, y in zip(_regressors(stage, group.values), spectra, strict=True):
        part = Moments(x.T @ x, x.T @ y, y.square().sum(0))
        sums = part if sums is None else sums.added(part, 1.0)
    assert sums is not None
    return Moments(*(value / count for value in sums))


def _total(groups: Sequence[Group], moments: Mapping[str, Moments]) -> Moments:
    first = moments[groups[0].name]
    total = Moments(*(torch.zeros_like(value) for value in first))
    for group in groups:
        total = total.added(moments[group.name], group.share)
    return total


def _solve(moments: Moments, size: int, penalty: float, cross: Tensor) -> Tensor:
    """(R, …) coefficients of the first ``size`` regressors; the rest are zero, the constant is free."""
    gram = moments.gram[:size, :size] / moments.gram[0, 0]
    variance = (gram.diagonal() - gram[0].square()).clamp_min(1e-12)
    variance[0] = 0.0
    weights = torch.zeros_like(cross)
    weights[:size] = torch.linalg.solve(
        gram + torch.diag(penalty * variance), cross[:size] / moments.gram[0, 0]
    )
    return weights


def _terms(stage: KernelStage, degree: int) -> int:
    return 1 + len(monomials(degree, len(stage.low)))


def _weights(stage: KernelStage, moments: Moments, choice: Choice) -> Tensor:
    """(R, B) coefficients of the mean of both regressions."""
    smooth = _solve(moments, _terms(stage, choice.degree), choice.polynomial, moments.cross)
    near = _solve(moments, len(moments.gram), choice.kernel, moments.cross)
    return torch.lerp(smooth, near, choice.share)


def _error(group: Group, moments: Moments, weights: Tensor) -> float:
    """RMSE of a group's pixels over the bands that it has."""
    squared = (weights * (moments.gram @ weights)).sum(0) - 2.0 * (weights * moments.cross).sum(0)
    squared = (squared + moments.square).clamp_min(0.0)
    return math.sqrt(float((squared * group.known).sum() / group.known.sum()))


def _choose(
    stage: KernelStage, places: Sequence[Group], moments: Mapping[str, Moments], total: Moments
) -> Choice:
    """What errs least on places that are left out, in the mean of the logarithm over places."""
    sums: dict[Choice, float] = {}
    for place in places:
        own = moments[place.name]
        rest = total.added(own, -place.share)
        degrees = range(1, stage.config.degree + 1)
        smooth = {
            key: _solve(rest, _terms(stage, key[0]), key[1], rest.cross)
            for key in product(degrees, POLYNOMIAL_PENALTIES)
        }
        near = {penalty: _solve(rest, len(rest.gram), penalty, rest.cross) for penalty in KERNEL_PENALTIES}
        for (key, one), (penalty, other), share in product(smooth.items(), near.items(), SHARES):
            error = _error(place, own, torch.lerp(one, other, share))
            choice = Choice(*key, penalty, share)
            sums[choice] = sums.get(choice, 0.0) + math.log(max(error, 1e-9))
    return min(sums, key=sums.__getitem__)


def _describe_residual(
    stage: KernelStage,
    groups: Sequence[Group],
    without: Mapping[str, Tensor],
    total: Moments,
    choice: Choice,
) -> None:
    """Set the expected size and the components of residuals of groups that were left out."""
    residuals, cross, mean_length = {}, torch.zeros(len(total.gram), 1, dtype=torch.float64), 0.0
    for group in groups:
        designs = list(_regressors(stage, group.values))
        fitted = torch.cat([design @ without[group.name] for design in designs])
        residual = (group.spectra.double() - fitted) * (group.known > 0)
        residuals[group.name] = residual
        length = residual.norm(dim=1, keepdim=True) / math.sqrt(float(group.known.sum()) / len(group.known))
        parts = torch.split(length, 8 * CHUNK)
        products = [design.T @ part for design, part in zip(designs, parts, strict=True)]
        cross += group.share * torch.stack(products).sum(0) / len(length)
        mean_length += group.share * float(length.mean())
    size = _solve(total, len(total.gram), choice.kernel, cross) / mean_length
    closed = stage.closed
    closed.weight[-1] = size[1:, 0]
    closed.bias[-1] = size[0, 0]
    pool = []
    for group in groups:
        if group.is_place and bool((group.known == 1).all()):
            at = torch.linspace(0, len(group.values) - 1, SCATTER_PIXELS).long()
            expected = torch.cat([design @ size for design in _regressors(stage, group.values[at])])
            pool.append(residuals[group.name][at] / expected.clamp(*SIZE_LIMITS))
    if not pool:  # no place has every band: the libraries' residuals stand in
        pool = [residuals[group.name] for group in groups if bool((group.known == 1).all())]
    variance, vectors = torch.linalg.eigh(scatter(torch.cat(pool)))
    closed.basis.copy_(vectors.flip(1) * variance.flip(0).clamp_min(1e-12).sqrt())
    closed.residual_variance.copy_(torch.cat(pool).square().mean())


def _set_mean(stage: KernelStage, weights: Tensor) -> None:
    stage.closed.weight[:-1] = weights[1:].T
    stage.closed.bias[:-1] = weights[0]


@torch.inference_mode()
def _calibrate(
    model: KernelRegression,
    places: Sequence[Group],
    without: Mapping[str, Tensor],
    training: KernelTraining,
    fill: Tensor,
) -> Any:
    """Set spread and grain of the components, and the factors of each band, on images of places left out."""
    config, stage = model.config, model.only
    final = stage.closed.weight.clone(), stage.closed.bias.clone()
    batches, means, sizes = [], [], []
    for place in places:
        source = CropSource(place.scenes, config.bands, config.response, fill.numpy())
        batch = source.every_pixel((training.seed, 8), size=training.crop, crops=CALIBRATION_CROPS)
        _set_mean(stage, without[place.name])
        expected = model.begin(batch.rgb)
        # A place counts as much as any other, whatever its size.
        pixels = float((batch.weight[:, None, None] * batch.valid).sum())
        batches.append((batch, batch.weight / pixels))
        means.append(expected.mean)
        sizes.append(expected.size)
    stage.closed.weight.copy_(final[0])
    stage.closed.bias.copy_(final[1])
    left, weights = [], []
    for (batch, share), mean, size in zip(batches, means, sizes, strict=True):
        basis = stage.closed.basis[:, : config.components]
        off, known = components(basis, (batch.target - mean) / size, batch.bands)
        left.append(off)
        counts = share[:, None, None] * batch.valid * size[:, 0].square()
        weights.append(known[:, :, None, None] * counts[:, None])
    weight, off = torch.cat(weights), torch.cat(left)
    shown = weight.sum((0, 2, 3))
    variance = (off.square() * weight).sum((0, 2, 3)) / shown.clamp_min(1e-30)
    stage.spread.copy_(torch.where(shown > 0, variance.sqrt(), stage.spread))
    stage.grain[shown > 0] = fit_grain(off, weight.sqrt())[shown > 0]
    deviation = stage.basis.square().sum(1).sqrt()[None, :, None, None]
    generator = generator_of(training.seed, 9, 0)
    errors, deviations, shares = [], [], []
    for (batch, share), mean, size in zip(batches, means, sizes, strict=True):
        spread = size * deviation
        # What the mean and the deviation of so many samples would be.
        of, normal = CALIBRATION_SAMPLES, torch.randn(2, *size.shape, generator=generator)
        errors.append(batch.target - mean.clamp_min(0.0) - spread * normal[0] / math.sqrt(of))
        deviations.append(spread * (1.0 + normal[1] / math.sqrt(2.0 * (of - 1))).clamp_min(0.1))
        shares.append((share[:, None, None] * batch.valid)[:, None] * batch.bands[:, :, None, None])
    parts = (torch.cat(part) for part in (errors, deviations, shares))
    return fit_factors(*parts, samples=CALIBRATION_SAMPLES)
