"""Noise with the spatial correlation of the residual: white noise on lattices of several spacings.

The residual of a mean is not white: neighbouring pixels have similar errors. If the noise of a diffusion has
the residual's covariance (non-isotropic noise: Voleti et al. 2022), its network has less to learn, as with
whitening across bands. A component's noise is Σ √g_s · n_s over the spacings s. Here n_s is white noise on a
lattice of s pixels, interpolated by cubic B-splines, with unit variance everywhere. The shares g, the grain,
sum to one. Lattices are fixed to the scene's grid, so a value depends on its position only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

SPACINGS = (1, 2, 4, 8, 16)
"""Spacings of the lattices, pixels."""
LAGS = (1, 2, 4, 8, 16)
"""Lags at which the residual's autocorrelation is compared with that of the lattices, pixels."""
TAPS = 4
"""Lattice points in the support of a cubic B-spline along an axis."""

Lattice = Callable[[int, Tensor, tuple[int, int]], Tensor]
"""(level, (N, 2) first rows and columns on its lattice, (h, w)) → (N, K, h, w) white noise."""


def white_grain(components: int) -> Tensor:
    """(K, S), with all of the variance at the spacing of one pixel."""
    grain = torch.zeros(components, len(SPACINGS))
    grain[:, 0] = 1.0
    return grain


def grained(lattice: Lattice, grain: Tensor, origins: Tensor, height: int, width: int) -> Tensor:
    """(N, K, height, width) noise of unit variance in windows of the scene's grid.

    Parameters
    ----------
    lattice : the source of white noise.
    grain : (K, S), each row non-negative with sum one.
    origins : (N, 2) int64, row and column of each window's first pixel; may be negative.
    """
    out: Tensor | None = None
    for level, spacing in enumerate(SPACINGS):
        share = grain[:, level]
        if not bool(share.any()):
            continue
        if spacing == 1:
            part = lattice(level, origins, (height, width))
        else:
            places = origins.cpu().numpy()
            rows, cols = _Taps.of(places[:, 0], height, spacing), _Taps.of(places[:, 1], width, spacing)
            first = torch.from_numpy(np.stack([rows.first, cols.first], axis=1))
            white = lattice(level, first, (rows.points, cols.points))
            part = cols.down(rows.down(white).mT.contiguous()).mT
        part = part * share.to(part).sqrt()[:, None, None]
        out = part if out is None else out.add_(part)
    assert out is not None
    return out


def random_grained(grain: Tensor, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """(count, K, height, width) of such noise from a generator, each at a random place on the grid."""
    if not bool(grain[:, 1:].any()):
        shape = (count, len(grain), height, width)
        return torch.randn(shape, generator=generator).to(grain.device)

    def lattice(level: int, first: Tensor, shape: tuple[int, int]) -> Tensor:
        del level
        return torch.randn((len(first), len(grain), *shape), generator=generator)

    def draw() -> Tensor:
        origin = torch.randint(SPACINGS[-1], (1, 2), generator=generator)
        return grained(lattice, grain.cpu(), origin, height, width)

    return torch.cat([draw() for _ in range(count)]).to(grain.device)


def fit_grain(components: Tensor, weight: Tensor) -> Tensor:
    """(K, S), the grain of components (N, K, h, w) with weights of that shape; white where all weights are 0.

    Non-negative least squares on the autocorrelation at ``LAGS`` along both axes. The result is on the CPU.
    """
    autocorrelations = np.stack(
        [_autocorrelation(components, weight, lag).double().cpu().numpy() for lag in LAGS], axis=1
    )
    # The last equation makes the shares sum to one; its weight is much larger than the others'.
    system = np.vstack([_lattice_autocorrelation(), np.full(len(SPACINGS), 100.0)])
    rows = []
    for values in autocorrelations:
        if not np.isfinite(values).all():
            rows.append(white_grain(1)[0].numpy())
            continue
        share = nnls(system, np.append(values, 100.0))[0]
        rows.append(share / share.sum())
    return torch.from_numpy(np.stack(rows)).float()


class _Taps(NamedTuple):
    """The lattice points along an axis that a range of pixels depends on, and their weights."""

    first: NDArray[np.int64]
    """(N,) the first lattice point of each window."""
    points: int
    """Number of lattice points, enough for every window."""
    at: Tensor
    """(N, P) of each pixel's first point, counted from ``first``."""
    weight: Tensor
    """(TAPS, N, P) float32; squares sum to one, for unit variance also between lattice points."""

    @classmethod
    def of(cls, start: NDArray[np.int64], size: int, spacing: int) -> _Taps:
        """The taps of ``size`` pixels from each ``start`` (N,)."""
        place = start[:, None] + np.arange(size)
        below, f = place // spacing, place % spacing / spacing
        spline = np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3])
        spline /= np.sqrt((spline**2).sum(0))
        first = below[:, 0] - 1
        index = torch.from_numpy(below - 1 - first[:, None])
        return cls(first, int(index.max()) + TAPS, index, torch.from_numpy(spline).float())

    def down(self, white: Tensor) -> Tensor:
        """(N, K, P, …) from (N, K, points, …) on lattices, summed in the same order for every window."""
        index, weight = self.at.to(white.device), self.weight.to(white.device)[:, :, None, :, None]

        def taken(tap: int) -> Tensor:
            if len(index) == 1:  # several times as fast on a CPU, where windows come one at a time
                return white.index_select(2, index[0] + tap)
            return torch.take_along_dim(white, (index + tap)[:, None, :, None], dim=2)

        out = taken(0).mul_(weight[0])
        for tap in range(1, TAPS):
            out += taken(tap).mul_(weight[tap])
        return out


def _autocorrelation(values: Tensor, weight: Tensor, lag: int) -> Tensor:
    """(K,) autocorrelation of values (N, K, h, w) over both axes, NaN where all weights are 0."""
    product, square = values.new_zeros(values.shape[1]), values.new_zeros(values.shape[1])
    for axis in (-2, -1):
        size = values.shape[axis] - lag
        if size < 1:
            continue
        one, other = values.narrow(axis, 0, size), values.narrow(axis, lag, size)
        both = weight.narrow(axis, 0, size) * weight.narrow(axis, lag, size)
        product += (one * other * both).sum((0, 2, 3))
        square += (0.5 * (one.square() + other.square()) * both).sum((0, 2, 3))
    return product / square


@cache
def _lattice_autocorrelation() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(lags, S) autocorrelation of the lattices' noise along an axis, mean over its phases."""
    table = np.zeros((len(LAGS), len(SPACINGS)))
    for level, spacing in enumerate(SPACINGS):
        if spacing == 1:
            continue
        taps = _Taps.of(np.zeros(1, np.int64), spacing + max(LAGS), spacing)
        matrix = taps.down(torch.eye(taps.points)[None, None])[0, 0].double().numpy()
        covariance = matrix @ matrix.T
        for row, lag in enumerate(LAGS):
            table[row, level] = np.diagonal(covariance, lag)[:spacing].mean()
    return table
