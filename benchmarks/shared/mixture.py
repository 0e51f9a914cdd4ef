"""The posterior of a Gaussian mixture of spectra, given the channels, that models are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spectile.catalog.bands import resampling_matrix
from spectile.model.cascade.means import training_pixels
from spectile.model.closed.regressions import Floats, pixels_of
from spectile.model.data.crops import CropSource, TrainingScene
from spectile.model.fusion.mixture import Seen, fit_mixture
from spectile.model.fusion.posterior import PixelPosterior
from spectile.model.system import Config

DIRECTIONS = 8
"""Of the spectra that are kept."""
COMPONENTS = (10, 30, 60)
PIXELS = 20_000


@dataclass(frozen=True, eq=False)
class MixturePosterior:
    """The expected spectrum given the channels of a pixel."""

    posterior: PixelPosterior
    """Of the spectrum's coefficients."""
    basis: NDArray[np.float64]
    """(B, p)."""
    mean: NDArray[np.float64]
    """(B,)."""
    seen: NDArray[np.float64]
    """(C,) the channels of the mean."""

    def predict(self, values: Floats) -> Floats:
        """(B, h, w) float32 of channels (C, h, w)."""
        z = torch.from_numpy(pixels_of(values).T - self.seen[:, None]).double()
        found = self.posterior.mean(z, self.posterior.shares(z)).numpy()
        spectra: Floats = (self.basis @ found + self.mean[:, None]).astype(np.float32)
        return np.clip(spectra, 0.0, None).reshape(-1, *values.shape[1:])


def mixture(
    config: Config, training: Sequence[TrainingScene], validation: Sequence[TrainingScene]
) -> MixturePosterior:
    """Fitted on pixels of the training scenes; the number of Gaussians is chosen on the validation scenes."""
    parts = []
    for scenes, seed in ((training, 0), (validation, 1)):
        values, spectra = training_pixels(CropSource(scenes, config.bands, config.response), seed, None)
        at = np.random.default_rng(seed).permutation(len(values))[:PIXELS]
        parts.append((values.numpy()[at].astype(np.float64), spectra.numpy()[at].astype(np.float64)))
    (values, spectra), (watched, truth) = parts
    mean = spectra.mean(0)
    basis = np.linalg.svd(spectra - mean, full_matrices=False)[2][:DIRECTIONS].T
    inside = (spectra - mean) @ basis
    response = resampling_matrix(config.bands, config.response)[0]
    matrix, seen = response @ basis, response @ mean
    noise = np.cov((values - seen - inside @ matrix.T).T) + 1e-6 * np.eye(len(matrix))
    whole = Seen(inside.T, np.eye(DIRECTIONS), 1e-8 * np.eye(DIRECTIONS), 1.0)
    tried = []
    for components in COMPONENTS:
        fitted = fit_mixture(
            [whole], np.cov(inside.T), components=components, strength=20.0, start=inside.T, seed=0
        )
        posterior = PixelPosterior.of(fitted, matrix, noise, dtype=torch.float64)
        rung = MixturePosterior(posterior, basis, mean, seen)
        estimate = rung.predict(watched.T[:, :, None].astype(np.float32))[:, :, 0].T
        tried.append((float(np.square(estimate - truth).mean()), rung))
    return min(tried, key=lambda pair: pair[0])[1]
