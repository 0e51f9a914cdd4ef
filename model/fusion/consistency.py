"""How well a fused window agrees with both scenes that it was made of: maps, and indices without a truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from spectile.model.data.degrade import coarsen, project
from spectile.model.fusion.pair import PairModel, PairWindow
from spectile.model.fusion.radiometry import averaged
from spectile.model.measure.metrics import uiqi, uiqi_by_band

Floats = NDArray[np.float32]

WINDOW = 8
"""Pixels along a window of the quality index, on the coarse grid; on the fine one, ratio times as many."""
BANDS = 24
"""Bands of the HSI, evenly chosen, that D_s is averaged over."""


def hsi_difference(pair: PairModel, window: PairWindow, spectra: Floats) -> Floats:
    """(h, w) root mean square over bands of Y − X B D, reflectance; NaN where the HSI is not valid.

    Parameters
    ----------
    spectra : (B, H, W) what was fused of the window.
    """
    return difference(window, coarsen(spectra, pair.ratio, pair.psf_sigma, **pair.sampling))


def difference(window: PairWindow, seen: Floats) -> Floats:
    """The same where X B D, (B, h, w), is known."""
    found: Floats = np.sqrt(np.square(window.hsi - seen).mean(axis=0))
    return np.where(window.hsi_valid, found, np.float32(np.nan))


def msi_difference(pair: PairModel, window: PairWindow, spectra: Floats) -> Floats:
    """(H, W) root mean square over bands of Z − (gain · R X + offset), reflectance; NaN as above."""
    left = window.msi - project(spectra, pair.response, pair.gain, pair.offset)
    found: Floats = np.sqrt(np.square(left).mean(axis=0))
    return np.where(window.msi_valid, found, np.float32(np.nan))


class Indices(NamedTuple):
    """Indices of a fused window without a truth; 0 is best. NaN where no window of the index is valid."""

    d_lambda: float
    """1 − Q(Y, X B D): spectral distortion, by reprojection (Khan et al. 2009)."""
    d_s: float
    """Mean |Q(X_b, Z_c) − Q(Y_b, Z_c averaged)| over bands: spatial distortion, as in QNR (Alparone et al.
    2008)."""


def indices(pair: PairModel, window: PairWindow, spectra: Floats) -> Indices:
    """D_λ and D_s with windows of ``WINDOW`` coarse pixels."""
    seen = coarsen(spectra, pair.ratio, pair.psf_sigma, **pair.sampling)
    sharp, _, both = averaged(window, pair.ratio, pair.psf_sigma, pair.sampling)
    valid = torch.from_numpy(both)
    hsi = torch.from_numpy(window.hsi)
    spectral = 1.0 - uiqi(hsi, torch.from_numpy(seen), valid, window=WINDOW)
    chosen = np.unique(np.linspace(0, len(seen) - 1, BANDS).round().astype(int))
    fine_valid, fused = torch.from_numpy(window.msi_valid), torch.from_numpy(spectra[chosen])
    apart = []
    for fine, coarse in zip(window.msi, sharp, strict=True):
        there = uiqi_by_band(fused, torch.from_numpy(fine)[None], fine_valid, window=WINDOW * pair.ratio)
        here = uiqi_by_band(hsi[chosen], torch.from_numpy(coarse)[None], valid, window=WINDOW)
        apart.append(float((there - here).abs().mean()))
    return Indices(float(spectral), float(np.mean(apart)))
