"""Where the sharp scene lies against the coarse one, and how wide the coarse sensor's PSF is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import minimize

from spectile.catalog.bands import FWHM_PER_SIGMA
from spectile.catalog.errors import SceneError
from spectile.model.data.degrade import REACH
from spectile.model.fusion.pair import PairWindow
from spectile.model.fusion.radiometry import COVERED, averaged

Floats = NDArray[np.float64]

PLACE = 16
"""Coarse pixels along a place of the shift field."""
STEPS = 8
"""Of the refinement; it has converged after three or four."""
ALIKE = 0.4
"""Correlation below which two scenes do not show the same."""
NARROWEST, WIDEST = 0.15, 1.5
"""Bounds of the PSF's standard deviation, coarse pixels."""


def default_psf(ratio: int) -> tuple[float, float]:
    """(rows, cols) standard deviation of a PSF whose full width at half maximum is one coarse pixel."""
    return (ratio / FWHM_PER_SIGMA,) * 2


def psf_of_mtf(ratio: int, mtf: tuple[float, float]) -> tuple[float, float]:
    """(rows, cols) standard deviation, fine pixels, of a Gaussian PSF with an MTF at the Nyquist frequency.

    σ = r·√(−2 ln G) / π for G in (0, 1).

    Raises
    ------
    SceneError : an MTF is outside.
    """
    if not all(0.0 < one < 1.0 for one in mtf):
        raise SceneError("MTF at the Nyquist frequency", got=mtf, expected="more than 0 and less than 1")
    rows, cols = (float(ratio * np.sqrt(-2.0 * np.log(one)) / np.pi) for one in mtf)
    return rows, cols


def estimate_shift(
    windows: Sequence[PairWindow],
    ratio: int,
    response: Floats | None = None,
    *,
    psf: tuple[float, float] | None = None,
) -> tuple[tuple[float, float], Floats]:
    """Where the MSI lies against the HSI: one shift (row, col) for all windows, and a field (n, 4) of places.

    What is at (row, col) of the HSI, on the fine grid, is found at (row + drow, col + dcol) of the MSI. The
    start is the highest correlation of R·HSI with the averaged MSI over all shifts by whole fine pixels;
    least squares on the MSI's gradients (Lucas and Kanade 1981) then find its fraction. A place of the field
    is ``PLACE`` coarse pixels wide, and left out where too little is valid or alike.

    Parameters
    ----------
    response : (C, B) R; None finds one by regression, and once more after the first alignment, which fails
    where
        the shift is larger than what the scenes show.
    psf : standard deviation of the PSF, fine pixels; None is that of ``default_psf``.

    Raises
    ------
    SceneError : the two scenes do not show the same place, or nothing is valid.
    """
    sigma = psf or default_psf(ratio)
    views = [_View(window.filled(), ratio, sigma) for window in windows]
    weights, shift = response, (0.0, 0.0)
    for _ in range(1 if response is not None else 2):
        if response is None:
            weights = _regressed(views, shift)
        assert weights is not None
        shift, alike = _correlate(views, weights)
        for _ in range(STEPS):
            shift, alike = _refine(views, weights, shift)
    if not alike > ALIKE:
        raise SceneError(
            "the two scenes do not show the same place", got=f"a correlation of {alike:.2f}",
            expected=f"more than {ALIKE}", remedy="check their coordinates and dates",
        )  # fmt: skip
    assert weights is not None
    field = []
    for window, view in zip(windows, views, strict=True):
        for part, centre in view.places():
            here, found = shift, 0.0
            for _ in range(STEPS):
                here, found = _refine([part], weights, here)
            apart = max(abs(one - other) for one, other in zip(here, shift, strict=True))
            if found > max(ALIKE, 0.5 * alike) and apart < ratio:
                at = [ratio * (first + middle) for first, middle in zip(window.origin, centre, strict=True)]
                field.append((*at, *here))
    return shift, np.array(field, dtype=np.float64).reshape(-1, 4)


class _View:
    """One window, with its MSI blurred by the PSF once, so that it can be sampled at any shift."""

    def __init__(self, window: PairWindow, ratio: int, sigma: tuple[float, float]) -> None:
        self.ratio, self.hsi, self.hsi_valid = ratio, window.hsi.astype(np.float64), window.hsi_valid
        self.first = (0, 0)  # the coarse pixel of the MSI that is the first of the HSI
        valid = window.msi_valid.astype(np.float64)

        def blur(band: Floats) -> Floats:
            blurred: Floats = gaussian_filter(band, sigma, mode="reflect", truncate=REACH)
            return blurred

        self.share = blur(valid)
        clean = np.where(window.msi_valid, window.msi, 0.0).astype(np.float64)
        self.msi = np.stack([blur(band) for band in clean]) / np.maximum(self.share, 1e-6)

    def sample(self, shift: tuple[float, float]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """(C, h, w) the blurred MSI at shifted coarse pixels, its (2, C, h, w) gradient, (h, w) validity."""
        height, width = self.hsi.shape[1:]
        middle = (self.ratio - 1) / 2
        rows = (np.arange(height) + self.first[0]) * self.ratio + middle + shift[0]
        cols = (np.arange(width) + self.first[1]) * self.ratio + middle + shift[1]
        grid = np.meshgrid(rows, cols, indexing="ij")

        def at(band: Floats, row: float, col: float) -> Floats:
            found: Floats = map_coordinates(band, [grid[0] + row, grid[1] + col], order=1, mode="nearest")
            return found

        value = np.stack([at(band, 0.0, 0.0) for band in self.msi])
        down = np.stack([at(band, 0.5, 0.0) - at(band, -0.5, 0.0) for band in self.msi])
        right = np.stack([at(band, 0.0, 0.5) - at(band, 0.0, -0.5) for band in self.msi])
        inside = (grid[0] >= 0) & (grid[0] <= self.msi.shape[1] - 1)
        inside &= (grid[1] >= 0) & (grid[1] <= self.msi.shape[2] - 1)
        ok = self.hsi_valid & inside & (at(self.share, 0.0, 0.0) >= COVERED)
        return value, np.stack([down, right]), ok

    def places(self) -> list[tuple[_View, tuple[float, float]]]:
        """Its parts, each as a view, and their centres on the window's coarse grid."""
        height, width = self.hsi_valid.shape
        found = []
        for row in range(0, height - PLACE + 1, PLACE):
            for col in range(0, width - PLACE + 1, PLACE):
                part = object.__new__(_View)
                part.__dict__ |= self.__dict__
                place = slice(row, row + PLACE), slice(col, col + PLACE)
                part.first, part.hsi, part.hsi_valid = (row, col), self.hsi[:, *place], self.hsi_valid[place]
                if part.hsi_valid.sum() >= PLACE**2 // 4:
                    found.append((part, (row + PLACE / 2, col + PLACE / 2)))
        return found


def _regressed(views: Sequence[_View], shift: tuple[float, float]) -> Floats:
    """(C, B) the response that tells the averaged MSI best, by ridge regression on the main directions."""
    hsi, msi = [], []
    for view in views:
        value, _, ok = view.sample(shift)
        hsi.append(view.hsi[:, ok])
        msi.append(value[:, ok])
    spectra, seen = np.concatenate(hsi, axis=1), np.concatenate(msi, axis=1)
    if spectra.shape[1] < 8:
        raise SceneError(
            "the two scenes share too few valid pixels", got=spectra.shape[1], expected="8 or more"
        )
    spectra = spectra - spectra.mean(axis=1, keepdims=True)
    # Of a few bands by themselves, which takes a fraction of a decomposition of all pixels.
    power, axes = (part[..., ::-1] for part in np.linalg.eigh(spectra @ spectra.T))
    kept = min(6, int((power > 1e-6 * power[0]).sum()), max(spectra.shape[1] // 4, 1))
    joint = (seen - seen.mean(axis=1, keepdims=True)) @ spectra.T @ axes[:, :kept]
    found: Floats = joint / np.maximum(power[:kept], 1e-24) @ axes[:, :kept].T
    return found


def _correlate(views: Sequence[_View], weights: Floats) -> tuple[tuple[float, float], float]:
    """The shift by whole fine pixels at which R·HSI and the averaged MSI correlate best, summed over bands.

    By transforms: the coarse pixels stand on the fine grid with zeros between them, and so do their masks,
    which gives means and variances of what overlaps. Half of the coarse pixels must overlap.
    """
    best, at = -np.inf, (0.0, 0.0)
    sums: dict[tuple[int, int], list[NDArray[np.complex128]]] = {}
    for view in views:
        projected = np.tensordot(weights, view.hsi, 1)
        height, width = view.msi.shape[1:]
        size = tuple(next_fast_len(2 * side, real=True) for side in (height, width))
        placed = np.zeros((len(weights) + 1, *size))
        middle = (view.ratio - 1) // 2
        grid = (slice(middle, height, view.ratio), slice(middle, width, view.ratio))
        placed[:-1][(slice(None), *grid)] = projected * view.hsi_valid
        placed[-1][grid] = view.hsi_valid
        inside = view.share >= COVERED
        fine = np.zeros((len(weights) + 1, *size))
        fine[:-1, :height, :width] = view.msi * inside
        fine[-1, :height, :width] = inside

        # Each transform once; what all windows of a size add up to is transformed back once, too.
        counted, known, squared = (
            np.conj(np.fft.rfft2(part)) for part in (placed[-1:], placed[:-1], np.square(placed[:-1]))
        )
        mask, msi, power = (np.fft.rfft2(part) for part in (fine[-1:], fine[:-1], np.square(fine[:-1])))
        both = (counted, mask), (known, mask), (squared, mask), (counted, msi), (counted, power), (known, msi)
        totals = sums.setdefault((size[0], size[1]), [np.zeros((), dtype=complex)] * len(both))
        for number, (one, other) in enumerate(both):
            totals[number] = totals[number] + one * other
    for size, totals in sums.items():
        (count,), x, xx, y, yy, xy = (np.fft.irfft2(total, s=size) for total in totals)
        safe = np.maximum(count, 1.0)
        joint = xy / safe - x * y / safe**2
        spread = np.maximum(xx / safe - (x / safe) ** 2, 1e-12)
        spread *= np.maximum(yy / safe - (y / safe) ** 2, 1e-12)
        enough = count >= 0.5 * count.max()
        score = np.where(enough, (joint / np.sqrt(spread)).mean(axis=0), -np.inf)
        row, col = np.unravel_index(int(score.argmax()), score.shape)
        if score[row, col] > best:
            best = float(score[row, col])
            # An even ratio has its coarse centres half a fine pixel off the one they were placed at.
            at = (
                float(row if row <= size[0] // 2 else row - size[0]),
                float(col if col <= size[1] // 2 else col - size[1]),
            )
    if not np.isfinite(best):
        raise SceneError("the two scenes share no valid pixels")
    half = ((views[0].ratio - 1) % 2) / 2
    return (at[0] - half, at[1] - half), best


def _refine(
    views: Sequence[_View], weights: Floats, shift: tuple[float, float]
) -> tuple[tuple[float, float], float]:
    """One Gauss–Newton step, at most a fine pixel, with a gain and an offset a band; and the correlation."""
    samples = [(np.tensordot(weights, view.hsi, 1), *view.sample(shift)) for view in views]
    seen = np.concatenate([projected[:, ok] for projected, _, _, ok in samples], axis=1)
    value = np.concatenate([one[:, ok] for _, one, _, ok in samples], axis=1)
    slope = np.concatenate([one[:, :, ok] for _, _, one, ok in samples], axis=2)
    if seen.shape[1] < 8:
        return shift, 0.0
    seen, value = (one - one.mean(axis=1, keepdims=True) for one in (seen, value))
    slope = slope - slope.mean(axis=2, keepdims=True)
    energy = np.maximum(np.square(value).sum(axis=1), 1e-12)
    gain = (seen * value).sum(axis=1) / energy
    alike = (seen * value).sum(axis=1) / np.sqrt(energy * np.maximum(np.square(seen).sum(axis=1), 1e-12))
    left = seen - gain[:, None] * value
    # Each band counts by what it explains; what changed counts less.
    scale = np.maximum(np.square(left).mean(axis=1), 1e-12)
    score = (np.square(left) / scale[:, None]).mean(axis=0)
    trust = 1.0 / (scale[:, None] * (1.0 + score / 4.0))
    moved = gain[None, :, None] * slope
    normal = np.einsum("acn,bcn,cn->ab", moved, moved, trust)
    normal += np.eye(2) * 1e-9 * max(float(np.trace(normal)), 1e-12)
    step = np.linalg.solve(normal, np.einsum("acn,cn,cn->a", moved, left, trust))
    step /= max(1.0, float(np.abs(step).max()))
    return (shift[0] + float(step[0]), shift[1] + float(step[1])), float(alike.mean())


def estimate_psf(windows: Sequence[PairWindow], ratio: int, response: Floats) -> tuple[float, float]:
    """(rows, cols) standard deviation of the Gaussian with which the MSI tells R·HSI best, fine pixels.

    Each band of R·HSI is regressed on the averaged MSI's, so that its own scale does not hang on the width.
    """
    projected = [np.tensordot(response, window.hsi.astype(np.float64), 1) for window in windows]

    def unexplained(logarithms: Floats) -> float:
        sigma = tuple(float(ratio * np.exp(one)) for one in logarithms)
        seen, known = [], []
        for window, band in zip(windows, projected, strict=True):
            mean, _, ok = averaged(window, ratio, (sigma[0], sigma[1]))
            seen.append(mean[:, ok])
            known.append(band[:, ok])
        x, y = np.concatenate(seen, axis=1), np.concatenate(known, axis=1)
        if x.shape[1] < 8:
            return 1.0
        x, y = (one - one.mean(axis=1, keepdims=True) for one in (x, y))
        power = np.maximum(np.square(x).sum(axis=1) * np.square(y).sum(axis=1), 1e-300)
        return float(np.log(np.maximum(1.0 - np.square((x * y).sum(axis=1)) / power, 1e-9)).mean())

    bounds = [(np.log(NARROWEST), np.log(WIDEST))] * 2
    start = np.log(np.array(default_psf(ratio)) / ratio)
    found = minimize(
        unexplained, start, method="Nelder-Mead", bounds=bounds, options={"xatol": 0.01, "fatol": 1e-4}
    ).x
    return float(ratio * np.exp(found[0])), float(ratio * np.exp(found[1]))
