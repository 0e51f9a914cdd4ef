"""Spectra of which some bands are missing, and their components."""

from __future__ import annotations

import torch
from torch import Tensor


def complete_spectra(spectra: Tensor, bands: Tensor) -> Tensor:
    """(P, B) spectra whose missing bands, zero in ``bands`` (P, B), follow from those they have."""
    whole = bands.min(dim=1).values > 0
    reference = spectra[whole].double()
    filled = spectra.clone()
    for pattern in torch.unique(bands[~whole], dim=0):
        known, rows = pattern > 0, (bands == pattern).all(dim=1)
        centre = reference.mean(0)
        x, y = reference[:, known] - centre[known], reference[:, ~known] - centre[~known]
        gram = x.T @ x
        gram.diagonal().add_(1e-4 * gram.diagonal().mean())
        slope = torch.linalg.solve(gram, x.T @ y)
        likely = centre[~known] + (spectra[rows][:, known].double() - centre[known]) @ slope
        filled[rows.nonzero(), (~known).nonzero()[:, 0]] = likely.clamp_min(0.0).to(spectra.dtype)
    return filled


def components(basis: Tensor, residual: Tensor, bands: Tensor) -> tuple[Tensor, Tensor]:
    """Components (N, K, h, w) of residuals (N, T, h, w) in a basis (T, K), and how far the bands show each.

    Bands that are zero in (N, T) ``bands`` are not known: components are then the most likely ones given the
    others. The second is (N, K), one where a component is wholly known.
    """
    # Noise of 1 % of the smallest component keeps the solution finite where bands are missing.
    floor = 0.01 * basis.square().sum(0).min()
    gram = torch.einsum("tk,nt,tl->nkl", basis, bands, basis)
    inverse = torch.linalg.inv(gram + floor * torch.eye(basis.shape[1], device=basis.device))
    project = torch.einsum("nkl,tl,nt->nkt", inverse, basis, bands)
    known = torch.einsum("nkt,tk->nk", project, basis)
    return torch.einsum("nkt,nthw->nkhw", project, residual), known
