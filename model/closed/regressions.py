"""Regressions of single pixels: linear in features of the colour, and the mean of the nearest neighbours.

Arrays are images (C, h, w) outside and pixels (P, C) inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float32]
Numbers = NDArray[np.floating]
Features = Callable[[NDArray[Any]], NDArray[Any]]
"""(P, C) colours → (P, F) regressors, of the same type."""

QUERY = 65536
"""Pixels whose neighbours are looked up at once."""


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear map of features of the colour, in the precision of its coefficients."""

    features: Features
    """Of the colour."""
    weight: Numbers
    """(F, B) coefficients."""
    low: Floats
    """(C,) least colour that was fitted; the input is clipped to it: a polynomial means nothing beyond."""
    high: Floats
    """(C,) greatest."""
    chosen: Mapping[str, object] = field(default_factory=dict)
    """What was chosen on validation pixels."""

    def predict(self, rgb: Floats) -> Floats:
        """(B, h, w) float32."""
        colours = np.clip(pixels_of(rgb), self.low, self.high).astype(self.weight.dtype)
        out: Floats = (self.features(colours) @ self.weight).astype(np.float32)
        return out.T.reshape(-1, *rgb.shape[1:])


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The mean spectrum of the nearest colours."""

    colours: Floats
    """(P, C)."""
    spectra: Floats
    """(P, B) their spectra."""
    k: int
    """How many are averaged, equally."""

    @property
    def chosen(self) -> Mapping[str, int]:
        """What was chosen on validation pixels."""
        return {"k": self.k}

    def predict(self, rgb: Floats) -> Floats:
        """(B, h, w) float32."""
        tree, nearest = cKDTree(self.colours), range(1, self.k + 1)
        colours = pixels_of(rgb)
        parts = [
            self.spectra[tree.query(colours[at : at + QUERY], k=nearest)[1]].mean(axis=1)
            for at in range(0, len(colours), QUERY)
        ]
        out: Floats = np.concatenate(parts)
        return out.T.reshape(-1, *rgb.shape[1:])


class NormalEquations:
    """The moments of a linear regression: all that any penalty and any error need."""

    def __init__(self, regressors: NDArray[np.float64], spectra: Floats) -> None:
        """Sum up (P, F) regressors and the (P, B) spectra that they are to give."""
        count = len(regressors)
        self.gram = regressors.T @ regressors / count
        self.cross = regressors.T @ spectra.astype(np.float64) / count
        self.constant = np.ptp(regressors, axis=0) == 0.0

    @property
    def size(self) -> NDArray[np.float64]:
        """(F,) root mean square of each regressor."""
        return np.sqrt(np.diag(self.gram))

    def solve(self, penalty: float, scale: NDArray[np.float64] | float = 1.0) -> NDArray[np.float64]:
        """(F, B) coefficients; the penalty is on regressors divided by ``scale`` (F,), and on no constant."""
        scale = np.broadcast_to(scale, len(self.gram))
        ridge = np.diag(np.where(self.constant, 0.0, penalty))
        gram = self.gram / np.outer(scale, scale) + ridge
        weight: NDArray[np.float64] = np.linalg.solve(gram, self.cross / scale[:, None]) / scale[:, None]
        return weight

    def error(self, weight: NDArray[np.float64]) -> float:
        """The mean squared error of coefficients, summed over bands, less what they cannot change."""
        return float(np.sum(weight * (self.gram @ weight)) - 2.0 * np.sum(weight * self.cross))


def monomials(degree: int, channels: int = 3) -> list[tuple[int, ...]]:
    """The channels that each product of up to ``degree`` of them multiplies, by degree; no constant."""
    return [term for d in range(1, degree + 1) for term in combinations_with_replacement(range(channels), d)]


def polynomial(rgb: NDArray[Any], *, degree: int) -> NDArray[Any]:
    """(P, F) one and all products of up to ``degree`` channels."""
    terms = [np.prod(rgb[:, list(term)], axis=1) for term in monomials(degree, rgb.shape[1])]
    return np.stack([np.ones(len(rgb), dtype=rgb.dtype), *terms], axis=1)


def pixels_of(image: NDArray[Any]) -> NDArray[Any]:
    """(P, C) of (C, h, w)."""
    return image.reshape(image.shape[0], -1).T
