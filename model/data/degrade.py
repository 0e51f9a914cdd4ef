"""Degraded pairs of a cube, as in Wald's protocol (Wald et al. 1997).

Blur and decimation are one matrix for each axis, so that the coarse cube is A_rows X A_colsᵀ. Coarse pixel i
covers the fine pixels r·i to r·i + r − 1, and its Gaussian is centred between them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectile.catalog.errors import UsageError

Floats = NDArray[np.floating]

REACH = 4.0
"""Standard deviations at which a Gaussian is cut: 6e-5 of it lies beyond."""
STRIP = 8
"""Coarse pixels along an axis that are averaged at once."""


Border = Literal["mirrored", "zeros"]
"""What lies beyond a scene: the scene mirrored with its edge pixel repeated, or nothing."""


class Sampling(TypedDict):
    """How a Gaussian is cut and placed, as ``taps`` takes it."""

    size: int | None
    """Taps along an axis."""
    phase: float | None
    """Its centre, fine pixels from the first that a coarse pixel covers."""


CENTRED = Sampling(size=None, phase=None)
"""All taps that matter, in the middle of the coarse pixel."""


class DegradedPair(NamedTuple):
    """What a coarse hyperspectral and a sharp multispectral sensor would have seen of a cube."""

    hsi: Floats
    """(B, h, w)."""
    msi: Floats
    """(C, H, W)."""
    hsi_noise: float
    """Standard deviation of the noise on the HSI …"""
    msi_noise: float
    """… and on the MSI."""


def taps(
    ratio: int, sigma: float, *, size: int | None = None, phase: float | None = None
) -> tuple[int, Floats]:
    """Fine pixels that one coarse pixel is made of: the first one's offset from r·i, and their weights.

    Parameters
    ----------
    sigma : of the Gaussian, fine pixels; 0 takes the pixels at the centre alone.
    size : number of taps; None reaches to ``REACH`` standard deviations.
    phase : the Gaussian's centre, fine pixels from the first that the coarse one covers; None is the middle,
        (r − 1) / 2. The published code of SDP samples at 0, which moves the scene by half a coarse pixel.

    Raises
    ------
    UsageError : ratio or sigma cannot be used.
    """
    if ratio < 1 or sigma < 0 or not np.isfinite(sigma):
        raise UsageError("a PSF needs a ratio of 1 or more and a width", got=f"{ratio} and {sigma:g}")
    centre = (ratio - 1) / 2 if phase is None else phase
    reach = max(REACH * sigma, 0.5) if size is None else (size - 1) / 2
    first, last = int(np.ceil(centre - reach - 1e-9)), int(np.floor(centre + reach + 1e-9))
    at = np.arange(first, last + 1) - centre
    # A narrow Gaussian is scaled by its largest tap, which would be zero by itself.
    weight = np.exp(-0.5 * (at**2 - (at**2).min()) / max(sigma, 1e-6) ** 2)
    return first, weight / weight.sum()


def sampling_matrix(
    count: int,
    ratio: int,
    sigma: float,
    *,
    size: int | None = None,
    phase: float | None = None,
    border: Border = "mirrored",
) -> NDArray[np.float64]:
    """(count, count·ratio) A: the coarse pixels of one axis from its fine ones; arguments as of ``taps``.

    Beyond its ends the axis is mirrored with the edge pixel repeated; the published code of SDP has zeros
    there, which darkens the borders: rows then sum to less than one.
    """
    first, weight = taps(ratio, sigma, size=size, phase=phase)
    fine = count * ratio
    at = np.arange(count)[:, None] * ratio + first + np.arange(len(weight))
    folded = np.mod(at, 2 * fine)
    folded = np.where(folded < fine, folded, 2 * fine - 1 - folded)
    matrix = np.zeros((count, fine))
    counted = np.where((at >= 0) & (at < fine) | (border == "mirrored"), weight, 0.0)
    np.add.at(matrix, (np.arange(count)[:, None], folded), counted)
    return matrix


def strips(matrix: NDArray[np.floating]) -> list[tuple[NDArray[np.floating], slice]]:
    """A sampling matrix cut into STRIP rows each, without the zeros beside what they hold, and its place.

    A PSF reaches not far: products of the strips take a fraction of those of the whole.
    """
    cut = []
    for first in range(0, len(matrix), STRIP):
        rows = matrix[first : first + STRIP]
        held = np.flatnonzero(rows.any(axis=0))
        at = slice(int(held[0]), int(held[-1]) + 1)
        cut.append((np.ascontiguousarray(rows[:, at]), at))
    return cut


def coarsen(
    cube: Floats,
    ratio: int,
    sigma: tuple[float, float],
    *,
    size: int | None = None,
    phase: float | None = None,
    border: Border = "mirrored",
) -> Floats:
    """(…, H/r, W/r) what a sensor with coarser pixels sees of (…, H, W), in the cube's dtype.

    Parameters
    ----------
    sigma : of the PSF along rows and columns, fine pixels.
    size, phase, border : as of ``sampling_matrix``.

    Raises
    ------
    UsageError : the cube's sides are no multiples of the ratio.
    """
    *_, height, width = cube.shape
    if ratio < 1 or height % ratio or width % ratio:
        raise UsageError(
            "the cube is no whole number of coarse pixels", got=f"{height}×{width} px, ratio {ratio}"
        )
    rows, cols = (
        strips(
            sampling_matrix(side // ratio, ratio, spread, size=size, phase=phase, border=border).astype(
                cube.dtype
            )
        )
        for side, spread in zip((height, width), sigma, strict=True)
    )
    down = np.concatenate([part @ cube[..., at, :] for part, at in rows], axis=-2)
    coarse: Floats = np.concatenate([down[..., at] @ part.T for part, at in cols], axis=-1)
    return coarse


def project(cube: Floats, response: ArrayLike, gain: ArrayLike = 1.0, offset: ArrayLike = 0.0) -> Floats:
    """(C, …) gain · (R X) + offset of a cube (B, …) through a response R (C, B), in the cube's dtype."""
    weights = np.asarray(response)
    flat = weights @ cube.reshape(len(cube), -1)
    scaled = (
        flat * np.broadcast_to(gain, len(weights))[:, None] + np.broadcast_to(offset, len(weights))[:, None]
    )
    seen: Floats = scaled.reshape(-1, *cube.shape[1:]).astype(cube.dtype, copy=False)
    return seen


def noise_of(cube: Floats, snr_db: float) -> float:
    """Standard deviation of noise that is ``snr_db`` below a cube's mean square, one for all its bands."""
    return float(np.sqrt(np.mean(np.square(cube, dtype=np.float64)) / 10.0 ** (snr_db / 10.0)))


def degrade(
    cube: Floats,
    ratio: int,
    sigma: tuple[float, float],
    response: ArrayLike,
    *,
    snr_db: tuple[float, float] | None,
    seed: int,
    size: int | None = None,
    phase: float | None = None,
    border: Border = "mirrored",
) -> DegradedPair:
    """The pair of a cube (B, H, W).

    Parameters
    ----------
    sigma, size, phase, border : of the PSF, as of ``coarsen``.
    response : (C, B) R of the sharp sensor.
    snr_db : of the HSI and of the MSI; None adds no noise.
    seed : of the noise.
    """
    hsi = coarsen(cube, ratio, sigma, size=size, phase=phase, border=border)
    msi = project(cube, response)
    if snr_db is None:
        return DegradedPair(hsi, msi, 0.0, 0.0)
    generator = np.random.default_rng(seed)
    spreads = tuple(noise_of(clean, db) for clean, db in zip((hsi, msi), snr_db, strict=True))
    noisy = [
        (clean + spread * generator.standard_normal(clean.shape)).astype(cube.dtype)
        for clean, spread in zip((hsi, msi), spreads, strict=True)
    ]
    return DegradedPair(noisy[0], noisy[1], *spreads)
