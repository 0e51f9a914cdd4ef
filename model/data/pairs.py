"""Pairs of a coarse hyperspectral and a sharp multispectral scene, made of cubes on the device that trains.

A fusion network learns from pairs of which the truth is known (Wald et al. 1997): the cube seen by both
sensors, which ``degrade`` says. Cubes are resampled to the model's bands once and then stay on the device, so
that a step only cuts, turns and degrades, where the network is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from spectile.catalog.bands import Bands, resampling_matrix
from spectile.catalog.errors import UsageError
from spectile.catalog.fields import Finite, NotNegative
from spectile.model.data.crops import TrainingScene
from spectile.model.data.degrade import sampling_matrix

Ratio = Annotated[int, Field(ge=1, le=64)]
"""Fine pixels along a coarse one."""


@dataclass(frozen=True)
class PairConfig:
    """How both sensors of a pair see a cube."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    ratio: Ratio
    """Fine pixels along a coarse one."""
    psf_sigma: NotNegative
    """Standard deviation of the Gaussian PSF along both axes, fine pixels."""
    psf_size: Annotated[int, Field(ge=1, le=999)] | None = None
    """Its taps along an axis; None takes all that matter."""
    snr_db: tuple[Finite, Finite] | None = None
    """Signal to noise of the HSI and of the MSI; None is without noise."""


class Observed(NamedTuple):
    """What both sensors see."""

    msi: Tensor
    """(N, C, h, w)."""
    hsi: Tensor
    """(N, B, h / ratio, w / ratio)."""


@lru_cache(maxsize=64)
def _axis(
    count: int,
    ratio: int,
    sigma: float,
    size: int | None,
    phase: float | None,
    device: str,
    inverse: bool,
) -> Tensor:
    # Kept for training too, where a tensor that was made while inferring could not be used.
    with torch.inference_mode(False):
        matrix = torch.from_numpy(sampling_matrix(count, ratio, sigma, size=size, phase=phase)).float()
        return (matrix.T if inverse else matrix).contiguous().to(device)


def coarsen(
    cube: Tensor,
    ratio: int,
    sigma: tuple[float, float],
    *,
    size: int | None = None,
    phase: float | None = None,
) -> Tensor:
    """(…, h / r, w / r) float32 of (…, h, w): blur and decimation of ``degrade.coarsen``, differentiable.

    Parameters
    ----------
    sigma : of the Gaussian PSF along rows and columns, fine pixels.
    size, phase : as of ``degrade.taps``.

    Raises
    ------
    UsageError : the sides are no multiples of the ratio.
    """
    height, width = cube.shape[-2:]
    if height % ratio or width % ratio:
        raise UsageError(
            "the cube is no whole number of coarse pixels", got=f"{height}×{width} px, ratio {ratio}"
        )
    device = str(cube.device)
    rows = _axis(height // ratio, ratio, sigma[0], size, phase, device, False)
    cols = _axis(width // ratio, ratio, sigma[1], size, phase, device, True)
    return rows @ (cube @ cols)


def interpolate(
    coarse: Tensor,
    ratio: int,
    *,
    phase: float | None = None,
    mode: Literal["bicubic", "bilinear"] = "bicubic",
) -> Tensor:
    """(N, K, h·r, w·r) of (N, K, h, w) between the centres of coarse pixels; the edge pixel lies beyond them.

    Parameters
    ----------
    phase : where those centres lie, as of ``degrade.taps``.
    """
    if phase is None:
        return functional.interpolate(coarse, scale_factor=float(ratio), mode=mode, align_corners=False)
    rows, cols = (
        # The centre of coarse pixel i, of n, is at (2 i + 1) / n − 1.
        (2.0 * (torch.arange(side * ratio, device=coarse.device) - phase) / ratio + 1.0) / side - 1.0
        for side in coarse.shape[-2:]
    )
    grid = torch.stack(torch.meshgrid(cols, rows, indexing="xy"), dim=-1).to(coarse.dtype)
    grid = grid.expand(len(coarse), *grid.shape)
    return functional.grid_sample(coarse, grid, mode=mode, padding_mode="border", align_corners=False)


def project(cube: Tensor, response: Tensor) -> Tensor:
    """(N, C, h, w) of a cube (N, B, h, w) through a response R (C, B)."""
    return torch.einsum("cb,nbhw->nchw", response, cube)


def observe(cube: Tensor, pair: PairConfig, response: Tensor, generator: torch.Generator | None) -> Observed:
    """What both sensors see of a cube (N, B, h, w) through R (C, B); without a generator nothing has noise.

    The noise of each crop is ``snr_db`` below its mean square, the same in all bands, as in ``degrade``.
    """
    hsi = coarsen(cube, pair.ratio, (pair.psf_sigma, pair.psf_sigma), size=pair.psf_size)
    msi = project(cube, response)
    if pair.snr_db is None or generator is None:
        return Observed(msi, hsi)
    noisy = []
    for seen, snr_db in zip((msi, hsi), reversed(pair.snr_db), strict=True):
        sd = seen.square().mean((1, 2, 3), keepdim=True).sqrt() * 10.0 ** (-snr_db / 20.0)
        white = torch.randn(seen.shape, generator=generator, device=generator.device)
        noisy.append(seen + sd * white.to(seen.device))
    return Observed(*noisy)


def response_matrix(bands: Bands, msi_bands: Bands) -> NDArray[np.float32]:
    """(C, B) R of a multispectral sensor over a model's bands; UsageError where they do not cover it."""
    matrix, covered = resampling_matrix(bands, msi_bands)
    if not covered.all():
        missing = ", ".join(f"{msi_bands.centre_nm[i]:g}" for i in np.flatnonzero(~covered))
        raise UsageError(
            "the model's bands do not cover the MSI's", got=f"{missing} nm", expected=f"bands within {bands}"
        )
    return matrix.astype(np.float32)


class _Held(NamedTuple):
    """A scene on the device."""

    cube: Tensor
    """(B, H, W) float16 reflectance, the mean of the others where a pixel is masked."""
    valid: Tensor
    """(H, W) float32, one where it is real and not masked."""


class PairCrops:
    """Crops of scenes in a model's bands, on a device.

    Parameters
    ----------
    scenes : each has every band of the model.
    bands : of the model.
    side : largest crop, pixels; smaller scenes are reflected outward to it, and what is reflected does not
        count.
    device : where they are kept and cut.

    Raises
    ------
    UsageError : a scene lacks a band.
    """

    def __init__(
        self, scenes: Sequence[TrainingScene], bands: Bands, *, side: int, device: torch.device
    ) -> None:
        if not scenes:
            raise UsageError("no scenes to train on")
        weight = np.array([scene.weight for scene in scenes], dtype=np.float64)
        self.share = weight / weight.sum()
        self.scenes = [_held(scene, bands, side, device) for scene in scenes]

    def draw(
        self, key: tuple[int, ...], *, count: int, size: int, turn: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Crops (N, B, size, size) float32 and where they count (N, size, size), of random key ``key``.

        ``turn`` flips and rotates them.
        """
        rng = np.random.default_rng(key)
        cubes: list[Tensor] = []
        valid: list[Tensor] = []
        for index in rng.choice(len(self.scenes), size=count, p=self.share):
            held = self.scenes[index]
            row, col = (int(rng.integers(0, extent - size + 1)) for extent in held.valid.shape)
            window = slice(row, row + size), slice(col, col + size)
            turns, flip = int(rng.integers(4)), bool(rng.integers(2))
            for parts, values in ((cubes, held.cube), (valid, held.valid)):
                cut = values[(..., *window)].float()
                if turn:
                    cut = torch.rot90(cut, turns, (-2, -1))
                    cut = cut.flip(-1) if flip else cut
                parts.append(cut)
        return torch.stack(cubes), torch.stack(valid)

    def spectra(self) -> list[Tensor]:
        """(P, B) float32 of each scene: its valid pixels."""
        return [held.cube[:, held.valid > 0].T.float() for held in self.scenes]

    def mean(self) -> Tensor:
        """(B,) mean spectrum of all valid pixels, scenes by their weights."""
        means = torch.stack([spectra.mean(0) for spectra in self.spectra()])
        share = torch.tensor(self.share, dtype=torch.float32, device=means.device)
        return share @ means


def _held(scene: TrainingScene, bands: Bands, side: int, device: torch.device) -> _Held:
    matrix, covered = resampling_matrix(scene.bands, bands)
    if not covered.all():
        raise UsageError(
            "a scene that a fusion model learns from has every band of the model",
            where=scene.name,
            got=f"{int(covered.sum())} of {len(bands)}",
            remedy="leave it out, or choose other bands",
        )
    cube = np.tensordot(matrix.astype(np.float32), scene.cube.astype(np.float32), 1)
    # Masked pixels hold the scene's mean: the PSF mixes them into pixels that count.
    cube = np.where(scene.valid, cube, cube[:, scene.valid].mean(1)[:, None, None])
    missing = [(0, max(side - extent, 0)) for extent in scene.valid.shape]
    cube = np.pad(cube, [(0, 0), *missing], mode="symmetric")
    valid = np.pad(scene.valid, missing).astype(np.float32)
    return _Held(torch.from_numpy(cube).half().to(device), torch.from_numpy(valid).to(device))
