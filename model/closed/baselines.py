"""The baselines: ridge regression and nearest-neighbour lookup, fitted on the model's training data.

Each is chosen (degree, penalty, neighbours) on validation spectra. The lookup is a codebook of cluster
means, so that it holds no training pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from spectile.catalog.errors import CheckpointError
from spectile.model import checkpoint
from spectile.model.checkpoint import Checkpoint
from spectile.model.closed.regressions import (
    Floats,
    Linear,
    Neighbours,
    NormalEquations,
    monomials,
    polynomial,
)

NAMES = ("ridge/weight", "ridge/low", "ridge/high", "lookup/codes", "lookup/spectra", "lookup/neighbours")
"""Names of their tensors in a checkpoint."""
PENALTIES = (1e-8, 1e-6, 1e-4, 1e-2)
DEGREES = (1, 2, 3, 4)
MOST_TERMS = 300
"""Of a polynomial: ten channels have 65 at degree 2, 285 at degree 3, 1000 at degree 4."""
CODES = 4096
LLOYD_ITERATIONS = 8
NEIGHBOURS = (1, 2, 4, 8, 16, 32)


class Baseline(Protocol):
    """A per-pixel predictor."""

    def predict(self, rgb: Floats) -> Floats:
        """(B, h, w) float32 reflectance of (C, h, w) float32 linear reflectance."""
        ...


@dataclass(frozen=True, eq=False)
class Pixels:
    """Spectra with the RGB that a camera gives them."""

    rgb: Floats
    """(P, C) float32."""
    spectra: Floats
    """(P, B) float32 reflectance."""


def fit_ridge(training: Pixels, validation: Pixels) -> Linear:
    """The ridge on polynomials of the colour whose degree and penalty do best on validation."""
    low, high = training.rgb.min(axis=0), training.rgb.max(axis=0)
    candidates = []
    for degree in DEGREES:
        if degree > 1 and len(monomials(degree, training.rgb.shape[1])) > MOST_TERMS:
            break
        features = partial(polynomial, degree=degree)
        regressors = features(training.rgb).astype(np.float64)
        scale = regressors.std(axis=0)
        scale[0] = 1.0  # the constant
        normal = NormalEquations(regressors / scale, training.spectra)
        for penalty in PENALTIES:
            weight = (normal.solve(penalty) / scale[:, None]).astype(np.float32)
            candidates.append(Linear(features, weight, low, high, {"degree": degree, "penalty": penalty}))
    return min(candidates, key=lambda model: pixel_rmse(model, validation))


def fit_lookup(training: Pixels, validation: Pixels, *, seed: int) -> Neighbours:
    """The codebook by Lloyd's algorithm, with the number of neighbours that does best on validation."""
    rng = np.random.default_rng(seed)
    distinct = np.unique(training.rgb, axis=0)
    codes = distinct[rng.permutation(len(distinct))[:CODES]]
    for _ in range(LLOYD_ITERATIONS):
        codes = _cluster_means(cKDTree(codes).query(training.rgb)[1], training.rgb)
    members = cKDTree(codes).query(training.rgb)[1]
    codes, spectra = _cluster_means(members, training.rgb), _cluster_means(members, training.spectra)
    candidates = [Neighbours(codes, spectra, k) for k in NEIGHBOURS if k <= len(codes)]
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


def to_tensors(ridge: Linear, lookup: Neighbours) -> dict[str, Tensor]:
    """Both as tensors by name, as a checkpoint stores them."""
    arrays = (ridge.weight, ridge.low, ridge.high, lookup.colours, lookup.spectra, lookup.k)
    tensors = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
    return dict(zip(NAMES, tensors, strict=True))


def baselines_of(loaded: Checkpoint) -> dict[str, Baseline]:
    """The baselines that a checkpoint carries, ``ridge`` and ``lookup``; none where it carries none.

    Raises
    ------
    CheckpointError
        Where they are incomplete, or their shapes do not match.
    """
    if not loaded.baselines:
        return {}
    where = str(loaded.folder)
    if odd := sorted(loaded.baselines.keys() ^ set(NAMES)):
        raise CheckpointError("tensors missing or unknown among the baselines", where=where, got=odd[0])
    weight, low, high, codes, spectra, neighbours = (loaded.baselines[name].numpy() for name in NAMES)
    terms, bands = (len(weight), weight.shape[-1]) if weight.ndim == 2 else (0, 0)
    channels = codes.shape[-1] if codes.ndim else 0
    shapes = [(channels,), (channels,), (len(codes), channels), (len(codes), bands)] if channels else []
    if [array.shape for array in (low, high, codes, spectra)] != shapes or neighbours.shape not in ((), (1,)):
        raise CheckpointError("the shapes of the baselines do not match", where=where)
    degrees = {len(monomials(degree, channels)) + 1: degree for degree in DEGREES}
    if terms not in degrees:
        raise CheckpointError("a ridge of an unknown degree", where=where, got=f"{terms} terms")
    if not 1 <= (count := int(neighbours.item())) <= len(codes):
        raise CheckpointError(
            "neighbours of the lookup", where=where, got=count, expected=f"1 to {len(codes)}"
        )
    ridge = Linear(partial(polynomial, degree=degrees[terms]), weight, low, high)
    return {"ridge": ridge, "lookup": Neighbours(codes, spectra, count)}


def load_baselines(name: str) -> dict[str, Baseline]:
    """The baselines of a shipped model or a checkpoint folder: ``ridge`` and ``lookup``.

    Raises
    ------
    CheckpointError
        Where the checkpoint is missing or damaged, or carries none.
    """
    if not (baselines := baselines_of(checkpoint.load(name))):
        raise CheckpointError("no baselines in the checkpoint", where=name)
    return baselines
