"""Made-up places, whose spectra follow from a few materials."""

from __future__ import annotations

import numpy as np

from spectile.catalog.bands import VNIR48
from spectile.model.data.crops import TrainingScene

NM = np.asarray(VNIR48.centre_nm)
SOIL = 0.1 + 0.3 * (NM - 380.0) / 670.0
LEAF = 0.05 + 0.05 * np.exp(-(((NM - 550.0) / 30.0) ** 2)) + 0.4 / (1.0 + np.exp(-(NM - 715.0) / 12.0))
WATER = 0.08 * np.exp(-(NM - 380.0) / 150.0)


def place(site: str, seed: int, *, edge: float = 1.0, first: int = 0, size: int = 24) -> TrainingScene:
    """Mixtures of soil, leaves and water; ``edge`` multiplies the leaves' infrared; bands from ``first``."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet((0.5, 0.5, 0.3), (size, size)).astype(np.float32)
    leaf = np.where(NM > 700.0, LEAF * edge, LEAF)
    cube = np.einsum("yxm,mb->byx", share, np.stack([SOIL, leaf, WATER]).astype(np.float32))
    bands = VNIR48.subset(list(range(first, 48)))
    return TrainingScene(f"{site}/0", cube[first:], bands, np.ones((size, size), bool), 1.0, site)
