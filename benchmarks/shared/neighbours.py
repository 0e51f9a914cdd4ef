"""The k nearest neighbours that models are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spectile.model.cascade.means import training_pixels
from spectile.model.closed.regressions import Neighbours
from spectile.model.data.crops import CropSource, TrainingScene
from spectile.model.measure.ladder import fit_neighbours
from spectile.model.system import Config

PIXELS = 40_000
"""Of each part."""


def nearest(
    config: Config, training: Sequence[TrainingScene], validation: Sequence[TrainingScene]
) -> Neighbours:
    """Fitted on pixels of the training scenes, with k chosen on those of the validation scenes."""
    parts = []
    for scenes, seed in ((training, 0), (validation, 1)):
        values, spectra = training_pixels(CropSource(scenes, config.bands, config.response), seed, None)
        at = np.random.default_rng(seed).permutation(len(values))[:PIXELS]
        parts += [values.numpy()[at].T[:, :, None], spectra.numpy()[at].T[:, :, None]]
    return fit_neighbours(*parts, seed=0)
