"""The ladder of baselines: rungs from a global mean up to networks, with one protocol.

A rung chooses its settings (penalty, neighbours, length of training) on validation pixels after fitting
on training pixels, then fits again on both. It never sees test pixels. Values are scaled by the caller
so that one is the full scale of the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import gcd
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spectile.model.closed.regressions import (
    Features,
    Floats,
    Linear,
    Neighbours,
    NormalEquations,
    monomials,
    pixels_of,
    polynomial,
)

PENALTIES = tuple(10.0**power for power in range(-13, 1))
NEIGHBOURS = (1, 2, 4, 8, 12, 16, 20, 24, 32, 48, 64)


class Fitted(Protocol):
    """A rung that has been fitted."""

    @property
    def chosen(self) -> Mapping[str, object]:
        """What was chosen on validation pixels, as plain JSON values."""
        ...

    def predict(self, rgb: Floats) -> Floats:
        """(B, h, w) float32 of (3, h, w) float32: its best single estimate."""
        ...


class Fit(Protocol):
    """How a rung is fitted."""

    def __call__(
        self, train_rgb: Floats, train_cube: Floats, val_rgb: Floats, val_cube: Floats, *, seed: int
    ) -> Fitted:
        """Fit on (3, h, w) and (B, h, w) arrays; the two parts are of one height."""
        ...


def fit_linear(
    train_rgb: Floats, train_cube: Floats, val_rgb: Floats, val_cube: Floats, *, seed: int, features: Features
) -> Linear:
    """Ridge regression on features, with the penalty that does best on validation."""
    del seed  # nothing is drawn

    def equations(rgb: Floats, cube: Floats) -> NormalEquations:
        return NormalEquations(features(pixels_of(rgb).astype(np.float64)), pixels_of(cube))

    normal = equations(train_rgb, train_cube)
    low, high = train_rgb.min(axis=(1, 2)), train_rgb.max(axis=(1, 2))
    watched = equations(np.clip(val_rgb, low[:, None, None], high[:, None, None]), val_cube)
    penalty = min(PENALTIES, key=lambda value: watched.error(normal.solve(value, normal.size)))
    rgb, cube = join(train_rgb, val_rgb), join(train_cube, val_cube)
    final = equations(rgb, cube)
    weight = final.solve(penalty, final.size)
    return Linear(features, weight, rgb.min(axis=(1, 2)), rgb.max(axis=(1, 2)), {"penalty": penalty})


def fit_neighbours(
    train_rgb: Floats, train_cube: Floats, val_rgb: Floats, val_cube: Floats, *, seed: int
) -> Neighbours:
    """All pixels as a lookup table, with the k that does best on validation."""
    del seed  # nothing is drawn
    colours, spectra = pixels_of(train_rgb), pixels_of(train_cube)
    tries = [Neighbours(colours, spectra, k) for k in NEIGHBOURS if k <= len(colours)]
    best = min(tries, key=lambda model: rmse(model.predict(val_rgb), val_cube))
    rgb, cube = join(train_rgb, val_rgb), join(train_cube, val_cube)
    return Neighbours(pixels_of(rgb), pixels_of(cube), best.k)


def constant(rgb: NDArray[Any]) -> NDArray[Any]:
    """(P, 1) ones, whose regression is the mean spectrum."""
    return np.ones((len(rgb), 1), dtype=rgb.dtype)


def root_polynomial(rgb: NDArray[Any], *, degree: int) -> NDArray[Any]:
    """(P, F) one and the d-th roots of products of d channels, each once (Finlayson et al. 2015).

    3, 6, 13 and 22 roots at degree 1 to 4, all proportional to exposure. The constant is ours: counts
    have an offset, which roots alone cannot give.
    """
    positive = np.maximum(rgb, 0.0)
    terms = [np.ones(len(rgb), dtype=rgb.dtype)]
    for term in monomials(degree):
        if gcd(*(term.count(channel) for channel in range(3))) == 1:
            terms.append(np.prod(positive[:, list(term)], axis=1) ** (1.0 / len(term)))
    return np.stack(terms, axis=1)


CLOSED_FORM: dict[str, Fit] = {
    "mean": partial(fit_linear, features=constant),
    "ridge": partial(fit_linear, features=partial(polynomial, degree=1)),
    **{
        f"polynomial_{degree}": partial(fit_linear, features=partial(polynomial, degree=degree))
        for degree in (2, 3, 4)
    },
    **{
        f"root_polynomial_{degree}": partial(fit_linear, features=partial(root_polynomial, degree=degree))
        for degree in (2, 3, 4)
    },
    "knn": fit_neighbours,
}
"""The rungs without training steps; nothing in them is random, so one seed is enough."""


def rmse(estimate: Floats, truth: Floats) -> float:
    """Root mean squared error over all values."""
    return float(np.sqrt(np.mean(np.square(estimate - truth, dtype=np.float64))))


def join(first: Floats, second: Floats) -> Floats:
    """Two parts of a scene side by side."""
    return np.concatenate([first, second], axis=2)
