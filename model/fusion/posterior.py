"""What the sharp pixels of a pair tell of the spectra: the mixture's posterior, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectile.model.fusion.mixture import Mixture

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PixelPosterior:
    """a given z = H a + n for a of a Gaussian mixture: itself a mixture, with shares that hang on z."""

    gain: Tensor
    """(M, p, C) what a component's mean moves by for a z beside its own."""
    base: Tensor
    """(M, p) its mean for a z of zero."""
    precision: Tensor
    """(M, C, C) inverse covariance of its z."""
    centre: Tensor
    """(M, C) mean of its z."""
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
        precision = np.linalg.inv(data)
        gain = joint @ precision
        centre = mixture.means @ matrix.T
        base = mixture.means - np.einsum("mpc,mc->mp", gain, centre)
        scale = np.log(mixture.weights) - 0.5 * np.linalg.slogdet(data)[1]
        left = mixture.covariances - gain @ joint.transpose(0, 2, 1)
        parts = (gain, base, precision, centre, scale, left)
        return cls(*(torch.from_numpy(np.ascontiguousarray(part)).to(device, dtype) for part in parts))

    def shares(self, z: Tensor) -> Tensor:
        """(M, n) probability of each component for pixels z (C, n)."""
        density = []
        for precision, centre, scale in zip(self.precision, self.centre, self.scale, strict=True):
            apart = z - centre[:, None]
            density.append(scale - 0.5 * (apart * (precision @ apart)).sum(0))
        return torch.stack(density).softmax(0)

    def mean(self, z: Tensor, shares: Tensor) -> Tensor:
        """(p, n) expected a."""
        total = torch.zeros((self.base.shape[1], z.shape[1]), dtype=z.dtype, device=z.device)
        for share, gain, base in zip(shares, self.gain, self.base, strict=True):
            total += share * (gain @ z + base[:, None])
        return total

    def variance(self, z: Tensor, shares: Tensor, mean: Tensor, axes: Tensor) -> Tensor:
        """(p, n) variance of a along the columns of ``axes`` (p, p), about ``mean`` (p, n)."""
        total = torch.zeros_like(mean)
        for share, gain, base, left in zip(shares, self.gain, self.base, self.left, strict=True):
            apart = axes.T @ (gain @ z + base[:, None] - mean)
            total += share * (((axes.T @ left) * axes.T).sum(1)[:, None] + apart.square())
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
