"""What the sharp pixels of a pair tell of the spectra: the mixture's posterior, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectile.model.fusion.mixture import Mixture

Floats = NDArray[np.float64]


PIXELS = 8192
"""Pixels that are worked on at once, so that all that is made of them stays in the processor's cache."""


@dataclass(frozen=True, eq=False)
class PixelPosterior:
    """a given z = H a + n for a of a Gaussian mixture: itself a mixture, with shares that hang on z."""

    gain: Tensor
    """(M, p, C) what a component's mean moves by for a z beside its own."""
    base: Tensor
    """(M, p) its mean for a z of zero."""
    whitening: Tensor
    """(M, C, C) what makes its z white, and …"""
    centre: Tensor
    """(M, C) … the white mean of it."""
    scale: Tensor
    """(M,) logarithm of its weight and of its density's factor."""
    left: Tensor
    """(M, p, p) covariance of a that z leaves."""

    @classmethod
    def of(
        cls,
        mixture: Mixture,
        matrix: Floats,
        noise: Floats,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> PixelPosterior:
        """The posterior of a mixture.

        Parameters
        ----------
        matrix : (C, p) H.
        noise : (C, C) covariance of n.
        """
        joint = mixture.covariances @ matrix.T
        data = matrix @ joint + noise
        gain = joint @ np.linalg.inv(data)
        centre = mixture.means @ matrix.T
        base = mixture.means - np.einsum("mpc,mc->mp", gain, centre)
        scale = np.log(mixture.weights) - 0.5 * np.linalg.slogdet(data)[1]
        whitening = np.linalg.inv(np.linalg.cholesky(data))
        left = mixture.covariances - gain @ joint.transpose(0, 2, 1)
        parts = (gain, base, whitening, np.einsum("mcd,md->mc", whitening, centre), scale, left)
        return cls(*(torch.from_numpy(np.ascontiguousarray(part)).to(device, dtype) for part in parts))

    def turned(self, axes: Tensor) -> PixelPosterior:
        """The posterior of axesᵀ a, for orthonormal columns (p, p)."""
        return replace(self, gain=axes.T @ self.gain, base=self.base @ axes, left=axes.T @ self.left @ axes)

    def shares(self, z: Tensor) -> Tensor:
        """(M, n) probability of each component for pixels z (C, n)."""
        count, channels = self.centre.shape
        white = torch.addmm(self.centre.reshape(-1, 1), self.whitening.flatten(0, 1), z, beta=-1)
        squares = white.square_().reshape(count, channels, -1).sum(1)
        return torch.add(self.scale[:, None], squares, alpha=-0.5).softmax(0)

    def mean(self, z: Tensor, shares: Tensor) -> Tensor:
        """(p, n) expected a."""
        # One product with all components side by side: Σ share · (gain z + base).
        weighed = torch.cat([(shares[:, None] * z).flatten(0, 1), shares])
        return torch.cat([self.gain.transpose(0, 1).flatten(1), self.base.T], dim=1) @ weighed

    def moments(self, z: Tensor, *, spread: bool = False) -> tuple[Tensor, Tensor | None]:
        """(p, n) expected a of pixels z (C, n), and with ``spread`` the (p, n) variance of each number.

        The same as ``mean`` and ``variance``, a few pixels at a time.
        """
        size, count = self.base.shape[1], z.shape[1]
        mean = torch.empty((size, count), dtype=z.dtype, device=z.device)
        variance = torch.empty_like(mean) if spread else None
        step = PIXELS if z.device.type == "cpu" else count
        for first in range(0, count, max(step, 1)):
            part = slice(first, first + step)
            here = z[:, part]
            shares = self.shares(here)
            mean[:, part] = self.mean(here, shares)
            if variance is not None:
                variance[:, part] = self.variance(here, shares, mean[:, part])
        return mean, variance

    def variance(self, z: Tensor, shares: Tensor, mean: Tensor) -> Tensor:
        """(p, n) variance of each number of a, about ``mean`` (p, n)."""
        total = torch.zeros_like(mean)
        for share, gain, base, left in zip(shares, self.gain, self.base, self.left, strict=True):
            apart = torch.addmm(base[:, None] - mean, gain, z)
            total += share * (left.diagonal()[:, None] + apart.square_())
        return total

    def covariance(self, z: Tensor) -> Tensor:
        """(p, p) covariance of a that z leaves, averaged over pixels z (C, n)."""
        shares = self.shares(z)
        mean = self.mean(z, shares)
        total = torch.einsum("m,mpq->pq", shares.mean(1), self.left)
        for share, gain, base in zip(shares, self.gain, self.base, strict=True):
            apart = gain @ z + base[:, None] - mean
            total += (share * apart) @ apart.T / z.shape[1]
        return total
