"""A tile of a pair made ready to be fused: mirrored, calibrated, filled, and compared."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import chi2
from torch import Tensor

from spectile.model.data.pairs import interpolate
from spectile.model.fusion.fuser import Fuser, Window
from spectile.model.fusion.pair import PairWindow
from spectile.model.fusion.radiometry import COVERED, UNCHANGED


def prepare(fuser: Fuser, part: PairWindow) -> Window:
    """The window with a margin of ``fuser.margin`` coarse pixels on each side.

    Masked pixels of one scene take what the other tells of them, so that they pull at nothing beside them:
    the HSI's the regression on the averaged MSI, then the MSI's the projection of the upsampled HSI. A
    changed coarse pixel takes nothing from the MSI; towards the middle of its unchanged neighbours that
    fades out.
    """
    hsi, msi, trusted, sharp = _with_margin(fuser, part)
    changed = fuser.mirrored(_find_changes(fuser, hsi, msi, trusted, sharp)[None])[0]
    if not part.hsi_valid.all():
        regressed = fuser.spectra_of(fuser.coarsen(msi))
        hsi = torch.where(trusted, hsi, regressed)
    if not part.msi_valid.all():
        projected = torch.tensordot(fuser.response, fuser.upsample(hsi), 1)
        msi = torch.where(sharp, msi, projected)
    ramp = torch.zeros(msi.shape[1:], dtype=msi.dtype, device=msi.device)
    if changed.any():
        known = changed[None, None].to(hsi.dtype)
        fine = interpolate(known, fuser.pair.ratio, phase=fuser.pair.psf_phase, mode="bilinear")
        ramp = (2.0 * fine[0, 0]).clamp(max=1.0)
    return Window(hsi, msi, trusted.to(hsi.dtype), changed, ramp)


def changed_pixels(fuser: Fuser, part: PairWindow) -> NDArray[np.bool_]:
    """(h, w) the coarse pixels of a window in which the two scenes differ by more than 3 σ."""
    edge = fuser.margin
    changed = _find_changes(fuser, *_with_margin(fuser, part))[edge:-edge, edge:-edge]
    found: NDArray[np.bool_] = changed.cpu().numpy()
    return found


def _find_changes(fuser: Fuser, hsi: Tensor, msi: Tensor, hsi_valid: Tensor, msi_valid: Tensor) -> Tensor:
    """(h, w) where the scenes (B, h, w) and (C, H, W), calibrated, differ by more than 3 σ.

    And by more than the MSI varies under the PSF: what is smaller is not worth losing that detail. Pixels
    whose PSF lies partly on masked ones are not judged.
    """
    pair = fuser.pair
    if msi_valid.all():
        share = torch.ones((), dtype=msi.dtype, device=msi.device)
        mean, square = fuser.coarsen(torch.stack([msi, msi.square()]))
    else:
        known = msi_valid.to(msi.dtype)
        share = fuser.coarsen(known[None])[0]
        mean, square = fuser.coarsen(torch.stack([msi * known, msi.square() * known])) / share.clamp_min(1e-6)
    variance = (square - mean.square()).clamp_min(0.0)
    gain = fuser.tensor(pair.gain)[:, None, None]
    left = (mean - torch.tensordot(fuser.response, hsi, 1)) * gain
    precision = np.asarray(np.linalg.inv(pair.change), dtype=np.float64)
    distance = torch.einsum("chw,cd,dhw->hw", left, fuser.tensor(precision), left)
    usual = 1.0 / fuser.tensor(np.diag(pair.change)) / len(pair.change)
    uneven = torch.einsum("chw,c->hw", variance * gain.square(), usual)
    limit = float(chi2.ppf(UNCHANGED, len(pair.change)))
    changed = distance > limit * (1.0 + pair.change_slope * uneven)
    changed &= left.square().mean(0) > (variance * gain.square()).mean(0)
    return changed & hsi_valid & (share >= COVERED)


def _with_margin(fuser: Fuser, part: PairWindow) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """HSI, calibrated MSI and both masks, mirrored beyond the window."""
    pair, fine = fuser.pair, fuser.margin * fuser.pair.ratio
    gain, offset = (fuser.tensor(one)[:, None, None] for one in (pair.gain, pair.offset))
    return (
        fuser.with_margin(_on_device(fuser, part.hsi.copy())),
        (_on_device(fuser, _mirrored(part.msi, fine)) - offset) / gain,
        fuser.with_margin(_on_device(fuser, part.hsi_valid[None].copy()))[0] > 0.5,
        _on_device(fuser, _mirrored(part.msi_valid[None], fine))[0] > 0.5,
    )


def _mirrored(values: NDArray[np.generic], edge: int) -> NDArray[np.generic]:
    """(K, …) with a margin, mirrored with the edge pixel repeated."""
    return np.pad(values, ((0, 0), (edge, edge), (edge, edge)), mode="symmetric")


def _on_device(fuser: Fuser, values: NDArray[np.generic]) -> Tensor:
    """An array that may be written to, as torch asks."""
    return torch.from_numpy(values).to(fuser.device, fuser.dtype)
