"""Fitting a closed form that is chosen and measured on places that are left out.

A place (``site``) or a library is a group. The moments of a regression add up over groups, so leaving one
out is a subtraction: no pixel is looked at twice, whatever is tried. The mean is that of two ridge
regressions, one on the features alone and one on features and kernels (``docs/default-models.md``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from spectile.catalog.errors import UsageError
from spectile.model.closed.closed_form import CHUNK, LEAST_PENALTY, SIZE_LIMITS, ClosedForm, scatter
from spectile.model.closed.spectra import complete_spectra
from spectile.model.data.crops import Augmentation, CropSource, TrainingScene

POLYNOMIAL_PENALTIES = (1e-7, 1e-6, 1e-5, 1e-4)
KERNEL_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
"""On coefficients of regressors of unit deviation."""
SHARES = (0.0, 0.5, 1.0)
"""Of the regression with kernels in the mean of both."""
SCATTER_PIXELS = 4000
"""Of each place, of which the principal components are made."""
PLACED_PIXELS = 20_000
"""That the kernels are drawn from."""


class Choice(NamedTuple):
    """What is chosen on the groups that are left out."""

    features: int
    """How many of the features the first regression has."""
    polynomial: float
    """Its penalty."""
    kernel: float
    """The penalty of the second, which has all features and the kernels."""
    share: float
    """Of the second in the mean of both."""


@dataclass(frozen=True, eq=False)
class Group:
    """The pixels of a place or of a library."""

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

    def of_bands(self, positions: Sequence[int]) -> Group:
        """The same with some of the bands."""
        at = list(positions)
        return replace(self, spectra=self.spectra[:, at], bands=self.bands[:, at])


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


@dataclass(frozen=True, eq=False)
class Fit:
    """What was fitted beside the closed form itself."""

    choice: Choice
    weights: Tensor
    """(R, T) coefficients; the first row is the constant."""
    without: Mapping[str, Tensor]
    """The same of a fit without the group of that name."""
    errors: Mapping[str, tuple[float, float]]
    """RMSE of each group with all groups, and without it, over the bands that it has."""


def draw_groups(
    source: CropSource, augmentation: Augmentation | None, *, seed: int, crop: int, crops: int
) -> list[Group]:
    """The scenes of a source by group, with pixels of each.

    Parameters
    ----------
    augmentation : how the input is varied.
    crop, crops : side of the crops that pixels are drawn from; how many of each group.
    """
    groups = []
    for name, numbers in source.groups().items():
        scenes = tuple(source.scenes[number] for number in numbers)
        part = source.of_scenes(numbers)
        drawn = part.pixels(seed, augmentation, crop=crop, crops=crops)
        groups.append(Group(name, scenes, sum(scene.weight for scene in scenes), *drawn))
    return groups


def complete_groups(groups: Sequence[Group]) -> list[Group]:
    """The groups with shares that sum to one and likely values for missing bands.

    Raises
    ------
    UsageError : no pixel has every band.
    """
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


def fit_by_places(
    closed: ClosedForm,
    groups: Sequence[Group],
    features: Mapping[str, Tensor],
    sizes: Sequence[int],
    generator: torch.Generator,
) -> Fit:
    """Set a closed form: its mean, the expected size of what it leaves, and the components of that.

    Size and components are those of groups that were left out. Where there are fewer than two places, other
    groups are left out to choose by; a single group has the least penalty.

    Parameters
    ----------
    closed : is set in place.
    groups : complete ones (``complete_groups``).
    features : (P, F) of each group's pixels, by its name.
    sizes : how many of the features the first regression may have, from the first.
    generator : draws the kernels' places.
    """
    _standardise(closed, groups, features, generator)
    moments = {group.name: _moments(closed, features[group.name], group.spectra) for group in groups}
    total = _total(groups, moments)
    places = [group for group in groups if group.is_place]
    choice = _choose(places if len(places) > 1 else groups, moments, total, sizes)
    weights = _weights(total, choice)
    without = {}
    for group in groups:
        alone = len(groups) == 1
        rest = total if alone else total.added(moments[group.name], -group.share)
        without[group.name] = _weights(rest, choice)
    _describe_residual(closed, groups, features, without, total, choice)
    set_mean(closed, weights)
    middle = total.cross[0] / total.gram[0, 0]
    deviation = (total.square / total.gram[0, 0] - middle.square()).clamp_min(0.0).sqrt()
    closed.target_mean.copy_(middle)
    closed.target_scale.copy_(deviation.clamp_min(1e-6))
    errors = {
        group.name: (
            _error(group, moments[group.name], weights),
            _error(group, moments[group.name], without[group.name]),
        )
        for group in groups
    }
    return Fit(choice, weights, without, errors)


def set_mean(closed: ClosedForm, weights: Tensor) -> None:
    """Set the coefficients (R, T) of a closed form's mean."""
    closed.weight[:-1] = weights[1:].T
    closed.bias[:-1] = weights[0]


def _standardise(
    closed: ClosedForm, groups: Sequence[Group], features: Mapping[str, Tensor], generator: torch.Generator
) -> None:
    """Set the features' scale and the kernels' places."""
    values = torch.cat([features[group.name] for group in groups])
    share = torch.cat([torch.full((len(group.values),), group.share / len(group.values)) for group in groups])
    mean = share.double() @ values.double()
    deviation = (share.double() @ (values.double() - mean).square()).sqrt()
    closed.feature_mean.copy_(mean)
    closed.feature_scale.copy_(deviation.clamp_min(1e-6))
    if len(closed.kernel_bias):
        drawn = torch.multinomial(share, min(len(share), PLACED_PIXELS), generator=generator)
        closed.place(values[drawn], generator)


def _regressors(closed: ClosedForm, features: Tensor) -> Iterator[Tensor]:
    """(p, 1 + F + M) float64: one, standardised features and kernels, of some pixels at a time."""
    for part in torch.split(features, 2 * CHUNK):
        design = closed.regressors(part.T).T.double()
        yield torch.cat([torch.ones(len(design), 1, dtype=torch.float64), design], dim=1)


def _moments(closed: ClosedForm, features: Tensor, spectra: Tensor) -> Moments:
    sums = None
    parts = torch.split(spectra.double(), 2 * CHUNK)
    for x, y in zip(_regressors(closed, features), parts, strict=True):
        part = Moments(x.T @ x, x.T @ y, y.square().sum(0))
        sums = part if sums is None else sums.added(part, 1.0)
    assert sums is not None
    return Moments(*(value / len(features) for value in sums))


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


def _weights(moments: Moments, choice: Choice) -> Tensor:
    """(R, T) coefficients of the mean of both regressions."""
    smooth = _solve(moments, 1 + choice.features, choice.polynomial, moments.cross)
    near = _solve(moments, len(moments.gram), choice.kernel, moments.cross)
    return torch.lerp(smooth, near, choice.share)


def _error(group: Group, moments: Moments, weights: Tensor) -> float:
    """RMSE of a group's pixels over the bands that it has."""
    squared = (weights * (moments.gram @ weights)).sum(0) - 2.0 * (weights * moments.cross).sum(0)
    squared = (squared + moments.square).clamp_min(0.0)
    return math.sqrt(float((squared * group.known).sum() / group.known.sum()))


def _choose(
    groups: Sequence[Group], moments: Mapping[str, Moments], total: Moments, sizes: Sequence[int]
) -> Choice:
    """What errs least on groups that are left out, in the mean of the logarithm over groups."""
    if len(groups) == 1:
        return Choice(max(sizes), LEAST_PENALTY, LEAST_PENALTY, 1.0)
    sums: dict[Choice, float] = {}
    for place in groups:
        own = moments[place.name]
        rest = total.added(own, -place.share)
        smooth = {
            key: _solve(rest, 1 + key[0], key[1], rest.cross) for key in product(sizes, POLYNOMIAL_PENALTIES)
        }
        near = {penalty: _solve(rest, len(rest.gram), penalty, rest.cross) for penalty in KERNEL_PENALTIES}
        for (key, one), (penalty, other), share in product(smooth.items(), near.items(), SHARES):
            error = _error(place, own, torch.lerp(one, other, share))
            choice = Choice(*key, penalty, share)
            sums[choice] = sums.get(choice, 0.0) + math.log(max(error, 1e-9))
    return min(sums, key=sums.__getitem__)


def _describe_residual(
    closed: ClosedForm,
    groups: Sequence[Group],
    features: Mapping[str, Tensor],
    without: Mapping[str, Tensor],
    total: Moments,
    choice: Choice,
) -> None:
    """Set the expected size and the components of residuals of groups that were left out."""
    residuals, cross, mean_length = {}, torch.zeros(len(total.gram), 1, dtype=torch.float64), 0.0
    for group in groups:
        designs = list(_regressors(closed, features[group.name]))
        fitted = torch.cat([design @ without[group.name] for design in designs])
        residual = (group.spectra.double() - fitted) * (group.known > 0)
        residuals[group.name] = residual
        length = residual.norm(dim=1, keepdim=True) / math.sqrt(float(group.known.sum()) / len(group.known))
        parts = torch.split(length, 2 * CHUNK)
        products = [design.T @ part for design, part in zip(designs, parts, strict=True)]
        cross += group.share * torch.stack(products).sum(0) / len(length)
        mean_length += group.share * float(length.mean())
    size = _solve(total, len(total.gram), choice.kernel, cross) / mean_length
    closed.weight[-1] = size[1:, 0]
    closed.bias[-1] = size[0, 0]
    pool = []
    for group in groups:
        if group.is_place and bool((group.known == 1).all()):
            at = torch.linspace(0, len(group.values) - 1, SCATTER_PIXELS).long()
            designs = list(_regressors(closed, features[group.name][at]))
            expected = torch.cat([design @ size for design in designs])
            pool.append(residuals[group.name][at] / expected.clamp(*SIZE_LIMITS))
    if not pool:  # no place has every band: the libraries' residuals stand in
        pool = [residuals[group.name] for group in groups if bool((group.known == 1).all())]
    variance, vectors = torch.linalg.eigh(scatter(torch.cat(pool)))
    closed.basis.copy_(vectors.flip(1) * variance.flip(0).clamp_min(1e-12).sqrt())
    closed.residual_variance.copy_(torch.cat(pool).square().mean())
