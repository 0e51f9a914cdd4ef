"""What every model is compared with: the rungs from a global mean up to networks, behind one protocol.

A rung chooses its settings (penalty, neighbours, length of training) on validation pixels after fitting
on training pixels, then fits again on both. It never sees test pixels. Values are scaled by the caller
so that one is the full scale of the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement
from math import gcd
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float32]

PENALTIES = tuple(10.0**power for power in range(-13, 1))
NEIGHBOURS = (1, 2, 4, 8, 12, 16, 20, 24, 32, 48, 64)
QUERY = 65536
"""Pixels whose neighbours are looked up at once."""


class Fitted(Protocol):
    """A rung that has been fitted."""

    @property
    def chosen(self) -> Mapping[str, object]:
        """What was chosen on validation pixels, as plain JSON values."""
        ...

    def predict(self, rgb: Floats) -> Floats:
        """(B, h, w) float32 of (3, h, w) float32: its best single estimate."""
        ...


class Sampler(Fitted, Protocol):
    """A fitted rung that can draw."""

    def samples(self, rgb: Floats, count: int, *, seed: int) -> Floats:
        """(count, B, h, w) float32 samples given (3, h, w) float32."""
        ...


class Fit(Protocol):
    """How a rung is fitted."""

    def __call__(
        self, train_rgb: Floats, train_cube: Floats, val_rgb: Floats, val_cube: Floats, *, seed: int
    ) -> Fitted:
        """Fit on (3, h, w) and (B, h, w) arrays; the two parts are of one height."""
        ...


Features = Callable[[Floats], NDArray[np.float64]]
"""(P, 3) colours → (P, F) regressors."""


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear map of features of the colour; the mean alone where there are no features."""

    features: Features
    """Of the colour."""
    weight: NDArray[np.float64]
    """(F, B) coefficients."""
    low: Floats
    """(3,) least colour that was fitted; a polynomial means nothing beyond."""
    high: Floats
    """(3,) greatest."""
    chosen: Mapping[str, object]
    """The penalty."""

    def predict(self, rgb: Floats) -> Floats:
        """(B, h, w) float32."""
        pixels = np.clip(_pixels(rgb), self.low, self.high)
        out: Floats = (self.features(pixels) @ self.weight).astype(np.float32)
        return out.T.reshape(-1, *rgb.shape[1:])


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The mean spectrum of the k nearest colours."""

    colours: Floats
    """(P, 3) colours of all fitted pixels."""
    spectra: Floats
    """(P, B) their spectra."""
    chosen: Mapping[str, int]
    """k."""

    def predict(self, rgb: Floats) -> Floats:
        """(B, h, w) float32."""
        tree = cKDTree(self.colours)
        k = range(1, self.chosen["k"] + 1)
        pixels = _pixels(rgb)
        parts = [
            self.spectra[tree.query(pixels[at : at + QUERY], k=k)[1]].mean(axis=1)
            for at in range(0, len(pixels), QUERY)
        ]
        out: Floats = np.concatenate(parts)
        return out.T.reshape(-1, *rgb.shape[1:])


def fit_linear(
    train_rgb: Floats, train_cube: Floats, val_rgb: Floats, val_cube: Floats, *, seed: int, features: Features
) -> Linear:
    """Ridge regression on features, with the penalty that does best on validation."""
    del seed  # nothing is drawn
    normal = _Normal(_pixels(train_rgb), _pixels(train_cube), features)
    low, high = train_rgb.min(axis=(1, 2)), train_rgb.max(axis=(1, 2))
    watched = _Normal(np.clip(_pixels(val_rgb), low, high), _pixels(val_cube), features)
    penalty = min(PENALTIES, key=lambda value: watched.error(normal.solve(value)))
    rgb, cube = join(train_rgb, val_rgb), join(train_cube, val_cube)
    weight = _Normal(_pixels(rgb), _pixels(cube), features).solve(penalty)
    return Linear(features, weight, rgb.min(axis=(1, 2)), rgb.max(axis=(1, 2)), {"penalty": penalty})


class _Normal:
    """The moments of a linear regression: all that any penalty and any error need of the pixels."""

    def __init__(self, rgb: Floats, spectra: Floats, features: Features) -> None:
        x = features(rgb)
        self.gram = x.T @ x / len(x)
        self.cross = x.T @ spectra.astype(np.float64) / len(x)
        self.constant = np.ptp(x, axis=0) == 0.0

    def solve(self, penalty: float) -> NDArray[np.float64]:
        """(F, B) coefficients; the penalty is on regressors of unit mean square, and on no constant."""
        scale = np.sqrt(np.diag(self.gram))
        ridge = np.diag(np.where(self.constant, 0.0, penalty))
        gram = self.gram / np.outer(scale, scale) + ridge
        weight: NDArray[np.float64] = np.linalg.solve(gram, self.cross / scale[:, None]) / scale[:, None]
        return weight

    def error(self, weight: NDArray[np.float64]) -> float:
        """The mean squared error of coefficients, summed over bands, less what they cannot change."""
        return float(np.sum(weight * (self.gram @ weight)) - 2.0 * np.sum(weight * self.cross))


def fit_neighbours(
    train_rgb: Floats, train_cube: Floats, val_rgb: Floats, val_cube: Floats, *, seed: int
) -> Neighbours:
    """All pixels as a lookup table, with the k that does best on validation."""
    del seed  # nothing is drawn
    colours, spectra = _pixels(train_rgb), _pixels(train_cube)
    tries = [Neighbours(colours, spectra, {"k": k}) for k in NEIGHBOURS if k <= len(colours)]
    best = min(tries, key=lambda model: rmse(model.predict(val_rgb), val_cube))
    rgb, cube = join(train_rgb, val_rgb), join(train_cube, val_cube)
    return Neighbours(_pixels(rgb), _pixels(cube), best.chosen)


def constant(rgb: Floats) -> NDArray[np.float64]:
    """(P, 1) ones, whose regression is the mean spectrum."""
    return np.ones((len(rgb), 1))


def polynomial(rgb: Floats, *, degree: int) -> NDArray[np.float64]:
    """(P, F) one and all products of up to ``degree`` channels."""
    terms = [_product(rgb, term) for d in range(1, degree + 1) for term in _terms(d)]
    return np.stack([np.ones(len(rgb)), *terms], axis=1)


def root_polynomial(rgb: Floats, *, degree: int) -> NDArray[np.float64]:
    """(P, F) one and the d-th roots of products of d channels, each once (Finlayson et al. 2015).

    3, 6, 13 and 22 roots at degree 1 to 4, all proportional to exposure. The constant is ours: counts
    have an offset, which roots alone cannot give.
    """
    positive = np.maximum(rgb, 0.0)
    terms = [np.ones(len(rgb))]
    for d in range(1, degree + 1):
        for term in _terms(d):
            if gcd(*(term.count(channel) for channel in range(3))) == 1:
                terms.append(_product(positive, term) ** (1.0 / d))
    return np.stack(terms, axis=1)


def _terms(degree: int) -> Sequence[tuple[int, ...]]:
    return list(combinations_with_replacement(range(3), degree))


def _product(rgb: Floats, term: tuple[int, ...]) -> NDArray[np.float64]:
    out: NDArray[np.float64] = np.prod(rgb[:, list(term)].astype(np.float64), axis=1)
    return out


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
"""The rungs that need no training by steps; they draw nothing, so that one seed says everything."""


def rmse(estimate: Floats, truth: Floats) -> float:
    """Root mean squared error over everything."""
    return float(np.sqrt(np.mean(np.square(estimate - truth, dtype=np.float64))))


def join(first: Floats, second: Floats) -> Floats:
    """Two parts of a scene side by side."""
    return np.concatenate([first, second], axis=2)


def _pixels(cube: Floats) -> Floats:
    """(P, C) of (C, h, w)."""
    return cube.reshape(cube.shape[0], -1).T
