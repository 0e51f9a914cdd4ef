"""Errors of spectral cubes, and how well the spread of samples matches the error (formulas: docs/model.md).

All take float arrays or tensors of shape (…, B, h, w), reference first where it matters, and compute in
float64. Pixels are selected by the caller: ``valid`` broadcasts against (…, h, w).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def rmse(truth: Tensor, estimate: Tensor, valid: Tensor) -> float:
    """Root mean squared error over valid pixels × bands, in the unit of the input."""
    return math.sqrt(float(_pixels(truth, valid).sub(_pixels(estimate, valid)).square().mean()))


@dataclass(frozen=True)
class SpectralAngle:
    """The mean spectral angle and what it was taken over."""

    radians: float
    """Mean angle between the spectra, in [0, π]."""
    zero_spectra: int
    """Valid pixels left out because one of the two spectra is zero, which has no direction."""


def spectral_angle(truth: Tensor, estimate: Tensor, valid: Tensor) -> SpectralAngle:
    """The mean angle between spectra (Kruse et al. 1993), in radians."""
    a, b = _pixels(truth, valid), _pixels(estimate, valid)
    length_a, length_b = a.norm(dim=1), b.norm(dim=1)
    keep = (length_a > 0) & (length_b > 0)
    a, b = a[keep] / length_a[keep, None], b[keep] / length_b[keep, None]
    # atan2 of half chords keeps its precision near zero, where the arc cosine loses half the digits.
    angle = 2.0 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))
    return SpectralAngle(float(angle.mean()) if len(angle) else math.nan, int((~keep).sum()))


def mrae(truth: Tensor, estimate: Tensor, valid: Tensor, *, offset: float) -> float:
    """Mean |error| / (truth + offset); the offset is one count in the unit of the input."""
    a, b = _pixels(truth, valid), _pixels(estimate, valid)
    return float(((a - b).abs() / (a + offset)).mean())


def mpsnr(truth: Tensor, estimate: Tensor, valid: Tensor, *, peak: float | Tensor) -> float:
    """Peak signal-to-noise ratio in dB, averaged over bands, at one peak or at those of the B bands."""
    error = (_pixels(truth, valid) - _pixels(estimate, valid)).square().mean(0).clamp_min(1e-300)
    return float((10.0 * torch.log10(peak**2 / error)).mean())


def band_peaks(truth: Tensor, valid: Tensor) -> Tensor:
    """(B,) each band's largest value, float64: the peaks of the tables on fusion, as of SDP."""
    return _pixels(truth, valid).amax(0)


def uiqi(truth: Tensor, estimate: Tensor, valid: Tensor, *, window: int) -> float:
    """The universal image quality index (Wang and Bovik 2002), averaged over windows and bands, in [−1, 1].

    Over all square windows of ``window`` pixels in which every pixel is valid: 4 σ_ab a b / ((σ_a² +
    σ_b²)(a² + b²)). A window in which both are even and dark counts as 1 if they are equal. NaN where there
    is no window.
    """
    inside = torch.as_tensor(valid).bool().expand(truth.shape[:-3] + truth.shape[-2:])
    if min(truth.shape[-2:]) < window:
        return math.nan
    quality, whole = _quality(truth, estimate, inside, window)
    return float(quality.movedim(-3, -1)[whole].mean())


def uiqi_by_band(truth: Tensor, estimate: Tensor, valid: Tensor, *, window: int) -> Tensor:
    """(B,) the same index of each band of (B, h, w), float64; one of the two may have a single band."""
    if min(truth.shape[-2:]) < window:
        return torch.full((max(len(truth), len(estimate)),), math.nan, dtype=torch.float64)
    quality, whole = _quality(truth, estimate, torch.as_tensor(valid).bool(), window)
    return quality[:, whole].mean(-1)


def _quality(truth: Tensor, estimate: Tensor, inside: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """(…, B, h', w') the index of every window, and (…, h', w') where all of its pixels are valid."""
    a, b = (torch.as_tensor(cube).double().where(inside.unsqueeze(-3), 0.0) for cube in (truth, estimate))

    def mean(values: Tensor) -> Tensor:
        return _box_sums(_box_sums(values, window, -2), window, -1) / window**2

    first, second = mean(a), mean(b)
    spread = (mean(a * a) - first**2).clamp_min(0.0) + (mean(b * b) - second**2).clamp_min(0.0)
    joint = mean(a * b) - first * second
    level = first**2 + second**2
    quality = torch.where(level > 0, 2.0 * first * second / level.clamp_min(1e-300), 1.0)
    # Rounding leaves a trace of a variance where there is none.
    even = spread <= 1e-14 * level
    quality = quality * torch.where(even, 1.0, 2.0 * joint / spread.clamp_min(1e-300))
    return quality, mean(inside.double()) > 1.0 - 1e-9


def _box_sums(values: Tensor, window: int, axis: int) -> Tensor:
    """Sums of all ``window`` neighbours along an axis, from sums of 1, 2, 4, … of them."""
    count = values.shape[axis] - window + 1
    total, start, width = torch.zeros((), dtype=values.dtype, device=values.device), 0, 1
    while True:
        if window & width:
            total = total + values.narrow(axis, start, count)
            start += width
        if start == window:
            return total
        length = values.shape[axis] - width
        values = values.narrow(axis, 0, length) + values.narrow(axis, width, length)
        width *= 2


def ergas(truth: Tensor, estimate: Tensor, valid: Tensor, *, ratio: float) -> float:
    """100 / ratio · √mean over bands of (RMSE / mean)² (Wald 2000); the ratio is that of the pixel sizes."""
    a, b = _pixels(truth, valid), _pixels(estimate, valid)
    relative = (a - b).square().mean(0) / a.mean(0).square()
    return 100.0 / ratio * math.sqrt(float(relative.mean()))


def rmse_by_band(truth: Tensor, estimate: Tensor, valid: Tensor) -> Tensor:
    """(B,) root mean squared error of each band over valid pixels, float64."""
    return (_pixels(truth, valid) - _pixels(estimate, valid)).square().mean(0).sqrt()


def mssim(truth: Tensor, estimate: Tensor, valid: Tensor, *, peak: float) -> float:
    """Structural similarity (Wang et al. 2004) at the range ``peak``, averaged over places and bands."""
    return float(ssim_by_band(truth, estimate, valid, peak=peak).mean())


def ssim_by_band(truth: Tensor, estimate: Tensor, valid: Tensor, *, peak: float) -> Tensor:
    """(B,) structural similarity of each band, float64.

    Gaussian windows of 11×11 with σ 1.5, K 0.01 and 0.03, population moments. Only windows that lie
    inside the image and hold valid pixels alone count; NaN where there is none.
    """
    a, b = (torch.as_tensor(cube).double() for cube in (truth, estimate))
    inside = torch.as_tensor(valid).bool().expand(a.shape[:-3] + a.shape[-2:])
    if min(a.shape[-2:]) < SSIM_WINDOW:
        return torch.full((a.shape[-3],), math.nan, dtype=torch.float64)
    # A masked pixel may hold anything, NaN included; its windows do not count.
    a, b = (cube.where(inside.unsqueeze(-3), 0.0) for cube in (a, b))
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    var_a, var_b = _window_mean(a * a) - mean_a**2, _window_mean(b * b) - mean_b**2
    covariance = _window_mean(a * b) - mean_a * mean_b
    c_1, c_2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    luminance = (2.0 * mean_a * mean_b + c_1) / (mean_a**2 + mean_b**2 + c_1)
    similarity = luminance * (2.0 * covariance + c_2) / (var_a + var_b + c_2)
    whole = inside.unfold(-2, SSIM_WINDOW, 1).unfold(-2, SSIM_WINDOW, 1).all(-1).all(-1)
    return similarity.movedim(-3, -1)[whole].mean(0)


def _window_mean(cube: Tensor) -> Tensor:
    """(…, h − 10, w − 10) Gaussian means over the windows inside (…, h, w)."""
    at = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weight = torch.exp(-0.5 * (at / SSIM_SIGMA) ** 2)
    # Sums of shifted views: a convolution in float64 has no fast kernel on a CPU.
    for axis in (-2, -1):
        count = cube.shape[axis] - SSIM_WINDOW + 1
        total = torch.zeros_like(cube.narrow(axis, 0, count))
        for shift, share in enumerate(weight / weight.sum()):
            total.add_(cube.narrow(axis, shift, count), alpha=float(share))
        cube = total
    return cube


def energy_score(truth: Tensor, samples: Tensor, valid: Tensor) -> float:
    """The fair energy score of whole spectra (Gneiting and Raftery 2007), in the unit of the input.

    Mean over pixels of E‖x − y‖ − ½·E‖x − x′‖ over pairs of different samples (K, …, B, h, w), K ≥ 2:
    unlike the CRPS it also judges the correlation of errors between bands.
    """
    reference = _pixels(truth, valid)
    drawn = torch.stack([_pixels(sample, valid) for sample in samples])
    count = len(drawn)
    error = (drawn - reference).norm(dim=-1).mean(0)
    apart = torch.zeros_like(error)
    for i in range(count - 1):
        apart += (drawn[i + 1 :] - drawn[i]).norm(dim=-1).sum(0)
    return float((error - apart / (count * (count - 1))).mean())


@dataclass(frozen=True)
class Reliability:
    """How a set of samples compares with the truth."""

    variance: float
    """Mean variance of the samples about their mean (unbiased)."""
    excess: float
    """Mean squared error of the samples' mean, freed of what their finite number adds; below zero where the
    mean errs by less than that."""
    crps: float
    """Mean fair continuous ranked probability score, in the unit of the input."""
    coverage: dict[int, float]
    """Per cent → share of values within the central interval of that probability."""
    width: dict[int, float]
    """Per cent → mean width of that interval, in the unit of the input."""

    @property
    def spread(self) -> float:
        """Root mean variance of the samples."""
        return math.sqrt(self.variance)

    @property
    def skill(self) -> float:
        """RMSE of the samples' mean, freed of what their finite number adds."""
        return math.sqrt(max(self.excess, 0.0))

    @property
    def spread_skill(self) -> float:
        """Spread ÷ skill: one if the spread matches the error, below one if the spread is too small."""
        return self.spread / self.skill if self.skill > 0 else math.inf


def reliability(
    truth: Tensor, samples: Tensor, valid: Tensor, *, levels: Sequence[int] = (50, 80, 90)
) -> Reliability:
    """Spread–skill, CRPS and coverage of samples (K, …, B, h, w), K ≥ 2, against the truth (…, B, h, w)."""
    count = len(samples)
    reference = _pixels(truth, valid)
    drawn = torch.stack([_pixels(sample, valid) for sample in samples])
    mean, variance = drawn.mean(0), drawn.var(0, unbiased=True)
    # E[(truth − mean of K)²] = skill² + variance / K where truth and samples are exchangeable.
    excess = (reference - mean).square().mean() - variance.mean() / count
    ordered = drawn.sort(dim=0).values
    rank = torch.arange(count, dtype=torch.float64)[:, None, None]
    # Fair CRPS (Ferro 2014): pairs of different samples only; Σ|x_i − x_j| from the order statistics.
    pairs = (ordered * (2.0 * rank - (count - 1))).sum(0) * 2.0
    crps = (drawn - reference).abs().mean(0) - pairs / (2.0 * count * (count - 1))
    inside, width = {}, {}
    for level in levels:
        tail = (100 - level) / 200.0
        low, high = (_quantile(ordered, q) for q in (tail, 1.0 - tail))
        inside[level] = float(((reference >= low) & (reference <= high)).double().mean())
        width[level] = float((high - low).mean())
    return Reliability(
        float(variance.mean()),
        float(excess),
        float(crps.mean()),
        inside,
        width,
    )


@dataclass(frozen=True)
class Structure:
    """How the samples' residuals compare with the true ones, in space and across bands."""

    variogram: dict[int, float]
    """Lag in pixels → semivariance of the samples' residuals ÷ that of the true residuals."""
    spectral_covariance: float
    """‖C_samples − C_true‖ ÷ ‖C_true‖ (Frobenius) of the (B, B) second moments of the residuals."""


def residual_structure(
    truth: Tensor, samples: Tensor, valid: Tensor, *, lags: Sequence[int] = (1, 2, 4, 8)
) -> Structure:
    """Variogram and spectral covariance of residuals of one image.

    Residuals are taken from the mean of samples (K, B, h, w), K ≥ 2; a sample's own share in that mean is
    made up for by √(K / (K − 1)), and the error of the mean of K by √(K / (K + 1)) on the true residual.
    """
    count, mask = len(samples), torch.as_tensor(valid).bool()
    mean = samples.mean(0)
    true = (truth - mean) * math.sqrt(count / (count + 1.0))
    # One sample at a time: all of them in float64 would not fit for a large image.
    false = [(sample - mean) * math.sqrt(count / (count - 1.0)) for sample in samples]
    variogram = {
        lag: sum(_semivariance(part, mask, lag) for part in false) / count / _semivariance(true, mask, lag)
        for lag in lags
    }
    expected = _second_moment(true, mask)
    got = torch.stack([_second_moment(part, mask) for part in false]).mean(0)
    return Structure(variogram, float((got - expected).norm() / expected.norm()))


def _second_moment(residual: Tensor, valid: Tensor) -> Tensor:
    pixels = _pixels(residual, valid)
    return pixels.T @ pixels / len(pixels)


def _semivariance(residual: Tensor, valid: Tensor, lag: int) -> float:
    """½·E(r(x + lag) − r(x))² along both axes over pairs of valid pixels, of (B, h, w); NaN without any."""
    total, pairs = 0.0, 0
    for axis in (-2, -1):
        size = residual.shape[axis] - lag
        if size < 1:
            continue
        both = valid.narrow(axis, 0, size) & valid.narrow(axis, lag, size)
        step = residual.narrow(axis, lag, size) - residual.narrow(axis, 0, size)
        total += float(step[:, both].double().square().sum())
        pairs += int(both.sum()) * len(residual)
    return 0.5 * total / pairs if pairs and total else math.nan


def _quantile(ordered: Tensor, q: float) -> Tensor:
    """The q-quantile of K ordered samples at position q·(K + 1), which the truth falls below with chance q.

    90 % intervals need 19 samples; with fewer the outermost samples bound them and they cover less.
    """
    position = min(max(q * (len(ordered) + 1) - 1.0, 0.0), len(ordered) - 1.0)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return torch.lerp(ordered[below], ordered[above], position - below)


def _pixels(cube: Tensor, valid: Tensor) -> Tensor:
    """(P, B) float64 spectra of the valid pixels."""
    spectra = torch.as_tensor(cube).movedim(-3, -1)
    return spectra[torch.as_tensor(valid).bool().expand(spectra.shape[:-1])].double()
