"""The step that brings an estimate into agreement with the coarse scene: one Wiener filter with aliases.

With periodic borders, blur and decimation are diagonal in the Fourier domain but for aliases, so that the
Sylvester equation of FUSE (Wei, Dobigeon and Tourneret 2015) has an exact solution by a handful of
transforms. Here the prior of the correction may have any spectrum over space, not only a white one; with it,
the solution is that of area-to-point kriging with a nugget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spectile.model.data.degrade import taps


@dataclass(frozen=True)
class Solver:
    """Blur and decimation of windows of one size, in the Fourier domain."""

    ratio: int
    """Fine pixels along a coarse one."""
    transfer: Tensor
    """(H, W) complex64 or complex128: the transfer function of blur and sampling phase."""
    colours: Tensor
    """(S, H, W) power spectra over space of unit variance: that of white noise, then smoother ones."""
    aliased: Tensor
    """(S, h, w) mean over each frequency's aliases of colour · |transfer|²: the variance of a coarse
    pixel."""

    @classmethod
    def of(
        cls,
        shape: tuple[int, int],
        ratio: int,
        sigma: tuple[float, float],
        *,
        ranges: tuple[float, ...] = (),
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        size: int | None = None,
        phase: float | None = None,
    ) -> Solver:
        """The solver of windows of ``shape`` fine pixels.

        Parameters
        ----------
        shape : (H, W), multiples of the ratio.
        sigma : of the PSF along rows and columns, fine pixels.
        ranges : of exponential covariances exp(−d / range), fine pixels; one smooth colour for each.
        size, phase : as of ``degrade.taps``.
        """
        rows, cols = (
            _transfer(side, ratio, spread, size, phase) for side, spread in zip(shape, sigma, strict=True)
        )
        transfer = rows[:, None] * cols[None, :]
        squared = (
            torch.fft.fftfreq(shape[0], dtype=torch.float64)[:, None] ** 2
            + torch.fft.fftfreq(shape[1], dtype=torch.float64)[None, :] ** 2
        )
        colours = [torch.ones(shape, dtype=torch.float64)]
        for extent in ranges:
            # The two-dimensional transform of exp(−d / range).
            colour = (1.0 + squared * (2.0 * math.pi * extent) ** 2) ** -1.5
            colours.append(colour / colour.mean())
        stacked = torch.stack(colours)
        aliased = _alias_mean(stacked * transfer.abs().square(), ratio)
        return cls(
            ratio,
            transfer.to(device, dtype.to_complex()),
            stacked.to(device, dtype),
            aliased.to(device, dtype),
        )

    def coarsen(self, fields: Tensor) -> Tensor:
        """(…, h, w) what the coarse sensor sees of fields (…, H, W), with periodic borders."""
        spectrum = torch.fft.rfft2(fields)
        # Rows first: half of the columns are known by their mirror image.
        spectrum *= self.transfer[:, : spectrum.shape[-1]]
        height = spectrum.shape[-2] // self.ratio
        rows = spectrum.unflatten(-2, (self.ratio, height)).mean(-3)
        width = self.transfer.shape[1]
        fine = torch.fft.irfft2(rows, s=(height, width))
        coarse: Tensor = fine[..., :: self.ratio]
        return coarse

    def filters(self, variances: Tensor, noise: Tensor) -> Tensor:
        """(K, H, W // 2 + 1) complex, all of ``correct`` that does not hang on what is missing.

        In the Fourier domain, of which real fields have one half.

        Parameters
        ----------
        variances, noise : as of ``correct``.
        """
        half = self.transfer.shape[1] // 2 + 1
        gain = torch.einsum("ks,shw->khw", variances, self.aliased) + noise[:, None, None]
        gain = gain.clamp_min(torch.finfo(gain.dtype).tiny)
        spectrum = torch.einsum("ks,shw->khw", variances, self.colours[:, :, :half])
        filters: Tensor = self.transfer[:, :half].conj() * (spectrum / _repeated(gain, self.ratio, half))
        return filters

    def filtered(self, missing: Tensor, filters: Tensor) -> Tensor:
        """(…, K, H, W) the correction of ``missing`` (…, K, h, w) by what ``filters`` gave."""
        # The transform of a field with zeros between the samples repeats over the aliases.
        spread = _repeated(torch.fft.fft2(missing), self.ratio, filters.shape[-1])
        size = self.transfer.shape
        correction: Tensor = torch.fft.irfft2(spread.mul_(filters), s=(size[0], size[1]))
        return correction

    def correct(self, missing: Tensor, variances: Tensor, noise: Tensor) -> Tensor:
        """(…, K, H, W) the expected correction of a fine estimate whose coarse image lacks ``missing``.

        δ = S Bᵀ Dᵀ (D B S Bᵀ Dᵀ + σ²)⁻¹ y for each of K independent components, where S is the covariance of
        the correction: a sum of the solver's colours.

        Parameters
        ----------
        missing : (…, K, h, w) y: the coarse scene minus the coarse image of the estimate.
        variances : (K, S) of the correction in each colour.
        noise : (K,) variance σ² of the coarse scene's noise.
        """
        return self.filtered(missing, self.filters(variances, noise))

    def colour(self, white: Tensor, variances: Tensor) -> Tensor:
        """(…, H, W) noise with the prior's covariance, from S independent white ones (S, …, H, W).

        Parameters
        ----------
        variances : (S,) of each colour.
        """
        # The first colour is white already.
        total = white[0] * variances[0].sqrt()
        half = white.shape[-1] // 2 + 1
        for field, colour, variance in zip(white[1:], self.colours[1:], variances[1:], strict=True):
            spectrum = torch.fft.rfft2(field).mul_((colour[:, :half] * variance).sqrt())
            total += torch.fft.irfft2(spectrum, s=(field.shape[-2], field.shape[-1]))
        return total


def _transfer(side: int, ratio: int, sigma: float, size: int | None, phase: float | None) -> Tensor:
    """(side,) complex128: around a ring, coarse pixel i is Σ_k weight_k · x(r·i + first + k)."""
    first, weight = taps(ratio, sigma, size=size, phase=phase)
    ring = torch.zeros(side, dtype=torch.float64)
    at = (torch.arange(len(weight)) + first) % side
    ring.index_add_(0, at, torch.from_numpy(weight))
    transfer: Tensor = torch.fft.fft(ring).conj()
    return transfer


def _alias_mean(spectrum: Tensor, ratio: int) -> Tensor:
    """(…, h, w) the mean over the ratio² frequencies that become one when every ratio-th sample is kept."""
    *lead, height, width = spectrum.shape
    return spectrum.reshape(*lead, ratio, height // ratio, ratio, width // ratio).mean((-4, -2))


def _repeated(coarse: Tensor, ratio: int, columns: int) -> Tensor:
    """(…, H, columns) the first columns of a spectrum (…, h, w) that repeats ratio times along both axes."""
    at = torch.arange(columns, device=coarse.device) % coarse.shape[-1]
    return coarse[..., at].repeat(*[1] * (coarse.dim() - 2), ratio, 1)
