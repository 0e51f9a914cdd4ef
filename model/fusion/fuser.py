"""A pair's windows fused by name: every method from the same few matrices of the pair.

Works on windows of one size, mirrored by a margin so that the periodic solver sees no jump at their borders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectile.model.data.degrade import REACH, sampling_matrix, strips
from spectile.model.data.pairs import interpolate
from spectile.model.fusion.mixture import Mixture
from spectile.model.fusion.pair import PairModel
from spectile.model.fusion.posterior import PixelPosterior
from spectile.model.fusion.solve import Solver

Floats = NDArray[np.float64]

KEPT = 4
"""Sizes and kinds of windows whose filters are kept."""


class Sharp(NamedTuple):
    """A fused window before it is turned into spectra: what samples are drawn about."""

    mean: Tensor
    """(p, H, W) rotated coefficients."""
    scale: Tensor
    """(p, H, W) their standard deviation before the coarse scene was seen, over its average; or (p, 1, 1)."""


@dataclass(frozen=True)
class Window:
    """A window of a pair with its margin, calibrated and filled."""

    hsi: Tensor
    """(B, h, w)."""
    msi: Tensor
    """(C, H, W): (Z − offset) / gain."""
    trusted: Tensor
    """(h, w) 1 where the coarse pixel is valid, else 0."""
    differs: Tensor
    """(h, w) bool, where the two scenes differ."""
    changed: Tensor
    """(H, W) 1 where they do, with ramps to 0."""


class Fuser:
    """The closed forms of one pair on one device."""

    def __init__(self, pair: PairModel, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.pair, self.device, self.dtype = pair, torch.device(device), dtype
        self.margin = int(np.ceil(REACH * max(pair.psf_sigma) / pair.ratio)) + 1
        mixture = Mixture(pair.weights, pair.means, pair.covariances)
        matrix = pair.response @ pair.basis
        noise = np.diag(np.square(pair.msi_noise / pair.gain))
        pixels = PixelPosterior.of(mixture, matrix, noise, device=device, dtype=dtype)
        self.linear = PixelPosterior.of(mixture.single(), matrix, noise, device=device, dtype=dtype)
        self._moments = mixture.moments()
        self._axes = {
            "mixture": _axes(pair.unexplained), "sylvester": _axes(self.linear.left[0].double().cpu().numpy())
        }  # fmt: skip
        self._turned = {
            kind: posterior.turned(self.tensor(self._axes[kind][1]))
            for kind, posterior in (("mixture", pixels), ("sylvester", self.linear))
        }
        self._filters: dict[tuple[str, tuple[int, int]], Tensor] = {}
        self.spectra = {name: self.tensor(pair.basis @ axes) for name, (_, axes) in self._axes.items()}
        self.analysis = self.tensor((pair.basis / pair.hsi_noise[:, None] ** 2).T)
        self._basis = self.tensor(pair.basis)
        self.centre = self.tensor(pair.mean)[:, None, None]
        self.response = self.tensor(pair.response)
        self.seen_centre = self.tensor(pair.response @ pair.mean)[:, None]

    def tensor(self, values: Floats) -> Tensor:
        """An array of the pair on its device."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, self.dtype)

    def solver(self, shape: tuple[int, int]) -> Solver:
        """For windows of (H, W) fine pixels, margin included."""
        pair = self.pair
        return _solver(
            shape,
            pair.ratio,
            pair.psf_sigma,
            pair.psf_size,
            pair.psf_phase,
            float(pair.smoothness[1]) * pair.ratio,
            str(self.device),
            self.dtype,
        )

    def variances(self, kind: str) -> Tensor:
        """(p, 2) of the correction's components: white, and smooth."""
        values = self.tensor(self._axes[kind][0])
        share = float(self.pair.smoothness[0]) if kind == "mixture" else 0.0
        return torch.stack([values * (1.0 - share), values * share], dim=1)

    def filters(self, kind: str, shape: tuple[int, int]) -> Tensor:
        """The correction's filters for windows of (H, W) fine pixels, margin included; see ``Solver``."""
        key = kind, shape
        if key not in self._filters:
            while len(self._filters) >= KEPT:
                self._filters.pop(next(iter(self._filters)))
            variances = self.variances(kind)
            self._filters[key] = self.solver(shape).filters(variances, torch.ones_like(variances[:, 0]))
        return self._filters[key]

    def coarsen(self, fields: Tensor) -> Tensor:
        """(…, h, w) what the coarse sensor sees of (…, H, W), both with their margins."""
        pair = self.pair
        rows, cols = (
            _sampling(
                fields.shape[axis] // pair.ratio, pair.ratio, sigma, pair.psf_size, pair.psf_phase,
                str(self.device), self.dtype,
            )
            for axis, sigma in zip((-2, -1), pair.psf_sigma, strict=True)
        )  # fmt: skip
        down = torch.cat([part @ fields[..., at, :] for part, at in rows], dim=-2)
        return torch.cat([down[..., at] @ part.T for part, at in cols], dim=-1)

    def mirrored(self, coarse: Tensor) -> Tensor:
        """(K, h, w) with the margin mirrored anew, so that it holds nothing that the window does not know."""
        edge = self.margin
        return self.with_margin(coarse[:, edge:-edge, edge:-edge])

    def with_margin(self, coarse: Tensor) -> Tensor:
        """(K, h + 2·margin, w + 2·margin) coarse pixels (K, h, w), and the mirrored scene's beyond them."""
        rows, cols = (
            _mirror(side, self.margin, self.pair.ratio, self.pair.psf_phase).to(coarse.device)
            for side in coarse.shape[1:]
        )
        return coarse[:, rows][:, :, cols]

    def upsample(self, coarse: Tensor) -> Tensor:
        """(K, H, W) cubic interpolation of (K, h, w) between the centres of coarse pixels."""
        return interpolate(coarse[None], self.pair.ratio, phase=self.pair.psf_phase)[0]

    def pixelwise(self, posterior: PixelPosterior, msi: Tensor) -> tuple[Tensor, Tensor]:
        """(p, n) expected a of pixels (C, H, W), and (C, n) z: them beside the mean."""
        z = msi.reshape(len(msi), -1) - self.seen_centre
        return posterior.moments(z)[0], z

    def cubic(self, window: Window) -> Tensor:
        """The HSI, interpolated."""
        return self.upsample(window.hsi)

    def per_pixel(self, window: Window) -> Tensor:
        """Linear regression of spectra on the MSI's pixels, with the HSI's and the MSI's own moments."""
        return self.spectra_of(window.msi)

    def spectra_of(self, msi: Tensor) -> Tensor:
        """(B, …) the regression of calibrated pixels (C, …) of either grid."""
        mean, _ = self.pixelwise(self.linear, msi)
        spectra: Tensor = self.centre + torch.tensordot(self._basis, mean.reshape(-1, *msi.shape[1:]), 1)
        return spectra

    def glp_hs(self, window: Window) -> Tensor:
        """Hypersharpening (Selva et al. 2015): X̂ = ↑Y + P − ↑(P ∗ h)↓, with P the regression on the MSI."""
        sharp = self.per_pixel(window)
        return sharp + self.upsample(window.hsi - self.coarsen(sharp))

    def gsa(self, window: Window) -> Tensor:
        """Adaptive Gram–Schmidt (Aiazzi et al. 2007), each band sharpened by the MSI's band most like it.

        X̂_b = ↑Y_b + g_b (Z_c − ↑(R Y)_c) with g_b = cov(X_b, (R X)_c) / var((R X)_c).
        """
        pair = self.pair
        covariance = pair.basis @ self._moments[1] @ pair.basis.T
        joint = pair.response @ covariance
        power = np.maximum(np.einsum("cb,cb->c", joint, pair.response), 1e-12)
        spread = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
        chosen = (joint / np.sqrt(power)[:, None] / spread).argmax(axis=0)
        gain = joint[chosen, np.arange(len(chosen))] / power[chosen]
        details = window.msi - self.upsample(torch.tensordot(self.response, window.hsi, 1))
        index = torch.from_numpy(chosen).to(self.device)
        return self.upsample(window.hsi) + self.tensor(gain)[:, None, None] * details[index]

    def solve(self, window: Window, kind: str, *, spread: bool = False) -> Sharp:
        """The posterior given both scenes: pixel by pixel, then one exact correction by the HSI.

        Parameters
        ----------
        kind : ``mixture``, or ``sylvester`` for one Gaussian and a white correction (FUSE, Wei et al. 2015).
        spread : whether the scale is wanted; else it is one everywhere.
        """
        shape = (window.msi.shape[1], window.msi.shape[2])
        z = window.msi.reshape(len(window.msi), -1) - self.seen_centre
        mean, variance = self._turned[kind].moments(z, spread=spread)
        values, axes = (self.tensor(part) for part in self._axes[kind])
        scale = torch.ones_like(mean[:, :1]) if variance is None else variance.div_(values[:, None]).sqrt_()
        sharp = mean.reshape(-1, *shape)
        coarse = torch.tensordot(axes.T @ self.analysis, window.hsi - self.centre, 1)
        if window.changed.any():
            # What the MSI says of a changed place is not used.
            sharp = torch.lerp(sharp, self.upsample(coarse), window.changed)
        missing = self.mirrored((coarse - self.coarsen(sharp)) * window.trusted)
        sharp = sharp + self.solver(shape).filtered(missing, self.filters(kind, shape))
        return Sharp(sharp, scale.reshape(len(sharp), *(shape if spread else (1, 1))))

    def to_spectra(self, sharp: Tensor, kind: str) -> Tensor:
        """(B, H, W) reflectance of rotated coefficients."""
        spectra: Tensor = self.centre + torch.tensordot(self.spectra[kind], sharp, 1)
        return spectra

    def sylvester(self, window: Window) -> Tensor:
        """FUSE: one Gaussian in the subspace, and an exact solution of its Sylvester equation."""
        return self.to_spectra(self.solve(window, "sylvester").mean, "sylvester")

    def mixture(self, window: Window) -> Tensor:
        """A Gaussian mixture in the subspace, and a correction that varies as smoothly as what is missing."""
        return self.to_spectra(self.solve(window, "mixture").mean, "mixture")

    def residual(self, scale: Tensor, white: Tensor, coarse: Tensor) -> Tensor:
        """(p, H, W) one draw of the mixture's error, by conditioning (Matheron's rule).

        A draw of the prior minus what the coarse scene would have corrected of it: for one Gaussian this is
        exact.

        Parameters
        ----------
        scale : as of ``Sharp``.
        white : (p, 2, H, W) standard normal.
        coarse : (p, h, w) standard normal: the coarse scene's noise.
        """
        height, width = scale.shape[-2:]
        solver, variances = self.solver((height, width)), self.variances("mixture")
        drawn = torch.stack(
            [solver.colour(fields, variance) for fields, variance in zip(white, variances, strict=True)]
        )
        drawn = drawn * scale
        seen = solver.coarsen(drawn) + coarse
        return drawn - solver.filtered(seen, self.filters("mixture", (height, width)))


def _mirror(count: int, edge: int, ratio: int, phase: float | None) -> Tensor:
    """(count + 2·edge,) which of an axis' coarse pixels stand in it and its margins.

    Fine pixels are mirrored with the edge pixel repeated. A centre in the middle of a coarse pixel falls on
    such a centre; others fall between two, and the nearer stands there.
    """
    centre, fine = (ratio - 1) / 2 if phase is None else phase, count * ratio
    at = (torch.arange(-edge, count + edge, dtype=torch.float64) * ratio + centre + 0.5).remainder(2 * fine)
    at = torch.where(at < fine, at, 2 * fine - at) - 0.5
    return ((at - centre) / ratio).round().long().clamp(0, count - 1)


def _axes(covariance: Floats) -> tuple[Floats, Floats]:
    values, axes = np.linalg.eigh(covariance)
    return np.maximum(values, max(values.max() * 1e-8, 1e-12)), axes


@lru_cache(maxsize=8)
def _solver(
    shape: tuple[int, int],
    ratio: int,
    sigma: tuple[float, float],
    size: int | None,
    phase: float | None,
    extent: float,
    device: str,
    dtype: torch.dtype,
) -> Solver:
    with torch.inference_mode(False):
        return Solver.of(
            shape, ratio, sigma, ranges=(extent,), device=device, dtype=dtype, size=size, phase=phase
        )


@lru_cache(maxsize=8)
def _sampling(
    count: int,
    ratio: int,
    sigma: float,
    size: int | None,
    phase: float | None,
    device: str,
    dtype: torch.dtype,
) -> list[tuple[Tensor, slice]]:
    """``sampling_matrix`` in strips."""
    with torch.inference_mode(False):
        matrix = sampling_matrix(count, ratio, sigma, size=size, phase=phase)
        return [(torch.from_numpy(part).to(device, dtype), at) for part, at in strips(matrix)]


@dataclass(frozen=True)
class Method:
    """One way to fuse."""

    title: str
    """For help and reports."""
    fuse: Callable[[Fuser, Window], Tensor]
    """(B, H, W) spectra of a window, margin included."""
    solves: str | None = None
    """What ``Fuser.solve`` is asked for, where the result is no more than its spectra."""
    draws: bool = False
    """Whether it has samples."""


CLOSED = {
    "cubic": Method("cubic interpolation of the HSI", Fuser.cubic),
    "glp-hs": Method("hypersharpening, GLP-HS", Fuser.glp_hs),
    "gsa": Method("adaptive Gram-Schmidt, GSA", Fuser.gsa),
    "linear": Method("linear regression, pixel by pixel", Fuser.per_pixel),
    "sylvester": Method(
        "one Gaussian in a subspace with a Sylvester solve, FUSE", Fuser.sylvester, solves="sylvester"
    ),
    "mixture": Method(
        "Gaussian mixture in a subspace with a smooth Sylvester solve",
        Fuser.mixture,
        solves="mixture",
        draws=True,
    ),
}
"""The closed forms by name."""
