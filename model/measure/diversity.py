"""How diverse samples are: SD and SDM (Liu et al. 2023, III-E), spectral FID, distance to training spectra.

SD and SDM look at spectra through a fixed classifier of single pixels, ``SpectralClassifier``. Both are high
where spectra of one class are classified variously; neither says whether the spectra are right, so they are
read beside the error, the energy score and the cover.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from scipy.spatial import cKDTree
from torch import Tensor, nn

from spectile.catalog.errors import CheckpointError
from spectile.model.checkpoint import Checkpoint, load_module, reading_configuration

Spectra = NDArray[np.floating]

KIND = "pixel-classifier"
WIDTHS = (16, 32, 32, 32)
LEAST_SHARE = 1e-12
"""Probabilities are held above this in logarithms."""
REGULARISATION = 1e-6
"""Added to the variances of the spectral FID, in reflectance²: fewer pixels than bands have none in some
directions."""
CHUNK = 16_384


class SpectralClassifier(nn.Module):
    """Four one-dimensional convolutions along the spectrum and one linear layer [P].

    It gets a spectrum divided by its mean: the classes are told by shape, and light and shade are none.
    """

    def __init__(self, bands: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for width in WIDTHS:
            layers += [nn.Conv1d(before, width, 5, stride=2, padding=2), nn.ReLU()]
            before = width
        self.convolutions = nn.Sequential(*layers)
        along = bands
        for _ in WIDTHS:
            along = (along + 1) // 2
        self.linear = nn.Linear(before * along, classes)

    def forward(self, spectra: Tensor) -> Tensor:
        """Logits (P, classes) of reflectance (P, B)."""
        shape = spectra / spectra.mean(1, keepdim=True).clamp_min(1e-4)
        logits: Tensor = self.linear(self.convolutions(shape[:, None]).flatten(1))
        return logits

    @torch.inference_mode()
    def shares(self, spectra: Spectra) -> NDArray[np.float64]:
        """(P, classes) probabilities, which add up to one, of reflectance (P, B)."""
        device = self.linear.weight.device
        parts = [
            self(torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)).to(device))
            .double()
            .softmax(1)
            for part in np.array_split(spectra, max(len(spectra) // CHUNK, 1))
        ]
        return torch.cat(parts).cpu().numpy()


def load_classifier(loaded: Checkpoint) -> SpectralClassifier:
    """The classifier of a checkpoint, in evaluation mode.

    Raises
    ------
    CheckpointError
        Where the checkpoint is of something else.
    """
    if loaded.metadata.get("kind") != KIND:
        raise CheckpointError(
            "not a classifier of pixels", where=str(loaded.folder), got=loaded.metadata.get("kind")
        )
    preset: Mapping[str, Any] = loaded.metadata.get("preset") or {}
    with reading_configuration(loaded, KIND):
        bands, classes = int(preset["bands"]), len(preset["classes"])
    return load_module(loaded, lambda: SpectralClassifier(bands, classes), KIND)


def spectral_diversity(shares: NDArray[np.float64]) -> float:
    """SD of one image, equations 26 to 28, from the probabilities (P, n_s) of its pixels.

    The mean over classes of exp of the mean divergence of its pixels' probabilities from their mean; a class
    without a pixel counts as 1. In [1, n_s].
    """
    named = shares.argmax(axis=1)
    values = []
    for number in range(shares.shape[1]):
        own = shares[named == number]
        values.append(math.exp(float(_divergence(own, own.mean(axis=0)).mean())) if len(own) else 1.0)
    return float(np.mean(values))


def multiple_diversity(shares: NDArray[np.float64]) -> float:
    """SDM, equation 29, from the probabilities (K, P, n_s) of K samples.

    exp of the mean divergence of a pixel's probabilities in one sample from their mean over samples. In
    [1, min(K, n_s)]: 1 where all samples are classified alike.
    """
    return math.exp(float(_divergence(shares, shares.mean(axis=0)).mean()))


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL(p‖q) over the last axis, nats."""
    ratio = np.maximum(p, LEAST_SHARE) / np.maximum(q, LEAST_SHARE)
    return np.asarray((p * np.log(ratio)).sum(axis=-1))


def spectral_fid(one: Spectra, two: Spectra) -> float:
    """The Fréchet distance of Gaussians fitted to two sets of raw spectra (P, B), in their unit squared."""
    means, covariances = [], []
    for spectra in (one, two):
        values = np.asarray(spectra, dtype=np.float64)
        means.append(values.mean(axis=0))
        covariances.append(np.cov(values.T) + REGULARISATION * np.eye(values.shape[1]))
    root = np.real(sqrtm(covariances[0] @ covariances[1]))
    apart = float(np.square(means[0] - means[1]).sum())
    return max(apart + float(np.trace(covariances[0] + covariances[1] - 2.0 * root)), 0.0)


def nearest_distance(spectra: Spectra, known: Spectra) -> NDArray[np.float64]:
    """(P,) RMS distance over bands of each spectrum (P, B) to the nearest of known ones (Q, B)."""
    return np.asarray(cKDTree(known).query(spectra)[0]) / math.sqrt(spectra.shape[1])


def spread_for(truth: Spectra, samples: Spectra, rmse: float) -> float | None:
    """The factor on the samples' deviations from their mean with which one sample errs by ``rmse``.

    Of samples (K, …) and their truth; exact for the mean over the K samples. None where their mean alone errs
    by more.
    """
    mean = samples.mean(axis=0)
    error, variance = float(np.square(mean - truth).mean()), float(np.square(samples - mean).mean())
    if rmse**2 < error or variance == 0.0:
        return None
    return math.sqrt((rmse**2 - error) / variance)
