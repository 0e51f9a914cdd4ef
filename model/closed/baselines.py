"""What the model must beat: ridge regression and nearest-neighbour lookup, fitted on its training data.

Each is chosen (degree, penalty, neighbours) on validation spectra. The lookup is a codebook of cluster
means, so that it holds no training pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from spectile.catalog.errors import CheckpointError
from spectile.model import checkpoint
from spectile.model.checkpoint import Checkpoint

Floats = NDArray[np.float32]

NAMES = ("ridge/weight", "ridge/low", "ridge/high", "lookup/codes", "lookup/spectra", "lookup/neighbours")
"""Of the tensors that a checkpoint stores them as."""
PENALTIES = (1e-8, 1e-6, 1e-4, 1e-2)
DEGREES = (1, 2, 3, 4)
CODES = 4096
LLOYD_ITERATIONS = 8
NEIGHBOURS = (1, 2, 4, 8, 16, 32)


class Baseline(Protocol):
    """A per-pixel predictor."""

    def predict(self, rgb: Floats) -> Floats:
        """(B, h, w) float32 reflectance of (3, h, w) float32 linear reflectance."""
        ...


@dataclass(frozen=True, eq=False)
class Ridge:
    """Ridge regression on the polynomials of RGB up to a degree."""

    weight: Floats
    """(F + 1, B) coefficients, the constant first."""
    low: Floats
    """(3,) least RGB of the training data, below which the input is clipped."""
    high: Floats
    """(3,) greatest; a polynomial means nothing beyond."""

    @property
    def degree(self) -> int:
        """Of the polynomial, from the number of its terms, (d + 1)(d + 2)(d + 3) / 6."""
        return next(d for d in DEGREES if len(_exponents(d)) + 1 == len(self.weight))

    def predict(self, rgb: Floats) -> Floats:
        """(B, h, w) float32 reflectance."""
        pixels = np.clip(rgb.reshape(3, -1).T, self.low, self.high)
        out: Floats = (_polynomials(pixels, self.degree) @ self.weight).astype(np.float32)
        return out.T.reshape(-1, *rgb.shape[1:])


@dataclass(frozen=True, eq=False)
class Lookup:
    """The mean spectrum of the nearest codes in RGB."""

    codes: Floats
    """(C, 3) cluster means of RGB."""
    spectra: Floats
    """(C, B) mean reflectance of each cluster."""
    neighbours: int
    """How many codes are averaged, equally."""

    def predict(self, rgb: Floats) -> Floats:
        """(B, h, w) float32 reflectance."""
        _, index = cKDTree(self.codes).query(rgb.reshape(3, -1).T, k=range(1, self.neighbours + 1))
        spectra: Floats = self.spectra[index].mean(axis=1)
        return spectra.T.reshape(-1, *rgb.shape[1:])


@dataclass(frozen=True, eq=False)
class Pixels:
    """Spectra with the RGB that a camera gives them."""

    rgb: Floats
    """(P, 3) float32."""
    spectra: Floats
    """(P, B) float32 reflectance."""


def fit_ridge(training: Pixels, validation: Pixels) -> Ridge:
    """The ridge whose degree and penalty do best on validation."""
    low, high = training.rgb.min(axis=0), training.rgb.max(axis=0)
    candidates = []
    for degree in DEGREES:
        x = _polynomials(training.rgb, degree).astype(np.float64)
        scale = x.std(axis=0)
        scale[0] = 1.0
        x /= scale
        gram, cross = x.T @ x / len(x), x.T @ training.spectra / len(x)
        for penalty in PENALTIES:
            ridge = np.diag(np.r_[0.0, np.full(x.shape[1] - 1, penalty)])
            weight = np.linalg.solve(gram + ridge, cross) / scale[:, None]
            candidates.append(Ridge(weight.astype(np.float32), low, high))
    return min(candidates, key=lambda model: pixel_rmse(model, validation))


def fit_lookup(training: Pixels, validation: Pixels, *, seed: int) -> Lookup:
    """The codebook by Lloyd's algorithm, with the number of neighbours that does best on validation."""
    rng = np.random.default_rng(seed)
    distinct = np.unique(training.rgb, axis=0)
    codes = distinct[rng.permutation(len(distinct))[:CODES]]
    for _ in range(LLOYD_ITERATIONS):
        codes = _cluster_means(cKDTree(codes).query(training.rgb)[1], training.rgb)
    members = cKDTree(codes).query(training.rgb)[1]
    codes, spectra = _cluster_means(members, training.rgb), _cluster_means(members, training.spectra)
    candidates = [Lookup(codes, spectra, k) for k in NEIGHBOURS if k <= len(codes)]
    return min(candidates, key=lambda model: pixel_rmse(model, validation))


def pixel_rmse(model: Baseline, pixels: Pixels) -> float:
    """RMSE of a baseline over pixels × bands."""
    estimate = model.predict(pixels.rgb.T[:, None, :])[:, 0, :].T
    return float(np.sqrt(np.mean((estimate - pixels.spectra) ** 2)))


def _cluster_means(members: NDArray[np.intp], values: Floats) -> Floats:
    """(C, B) means of the clusters that have members, in order of their number."""
    order = np.argsort(members, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(members[order]) > 0])
    count = np.diff(np.r_[starts, len(members)])
    means: Floats = (np.add.reduceat(values[order].astype(np.float64), starts) / count[:, None]).astype(
        np.float32
    )
    return means


def _exponents(degree: int) -> list[tuple[int, ...]]:
    """The channels that each term multiplies, constant left out."""
    return [term for d in range(1, degree + 1) for term in combinations_with_replacement(range(3), d)]


def _polynomials(rgb: Floats, degree: int) -> Floats:
    """(P, F + 1) the constant and every product of channels up to the degree."""
    terms = [np.prod(rgb[:, list(term)], axis=1) for term in _exponents(degree)]
    return np.stack([np.ones(len(rgb), dtype=rgb.dtype), *terms], axis=1)


def to_tensors(ridge: Ridge, lookup: Lookup) -> dict[str, Tensor]:
    """Both as tensors by name, as a checkpoint stores them."""
    arrays = (ridge.weight, ridge.low, ridge.high, lookup.codes, lookup.spectra, lookup.neighbours)
    tensors = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
    return dict(zip(NAMES, tensors, strict=True))


def baselines_of(loaded: Checkpoint) -> dict[str, Baseline]:
    """The baselines that a checkpoint carries, ``ridge`` and ``lookup``; none where it carries none.

    Raises
    ------
    CheckpointError
        Where they are incomplete, or their shapes do not go together.
    """
    if not loaded.baselines:
        return {}
    where = str(loaded.folder)
    if odd := sorted(loaded.baselines.keys() ^ set(NAMES)):
        raise CheckpointError("tensors missing or unknown among the baselines", where=where, got=odd[0])
    weight, low, high, codes, spectra, neighbours = (loaded.baselines[name].numpy() for name in NAMES)
    terms, bands = (len(weight), weight.shape[-1]) if weight.ndim == 2 else (0, 0)
    shapes = [(3,), (3,), (len(codes), 3), (len(codes), bands)] if codes.ndim else []
    if [array.shape for array in (low, high, codes, spectra)] != shapes or neighbours.shape not in ((), (1,)):
        raise CheckpointError("baselines whose shapes do not go together", where=where)
    if terms not in [len(_exponents(degree)) + 1 for degree in DEGREES]:
        raise CheckpointError("a ridge of an unknown degree", where=where, got=f"{terms} terms")
    if not 1 <= (count := int(neighbours.item())) <= len(codes):
        raise CheckpointError(
            "neighbours of the lookup", where=where, got=count, expected=f"1 to {len(codes)}"
        )
    return {"ridge": Ridge(weight, low, high), "lookup": Lookup(codes, spectra, count)}


def load_baselines(name: str) -> dict[str, Baseline]:
    """The baselines of a shipped model or a checkpoint folder: ``ridge`` and ``lookup``.

    Raises
    ------
    CheckpointError
        Where the checkpoint is missing or damaged, or carries none.
    """
    if not (found := baselines_of(checkpoint.load(name))):
        raise CheckpointError("no baselines in the checkpoint", where=name)
    return found
