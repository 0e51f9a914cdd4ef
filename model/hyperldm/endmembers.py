"""Which spectra of a library a HyperLDM mixes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.errors import UsageError


def choose_endmembers(spectra: NDArray[np.float32], count: int) -> list[int]:
    """Positions of ``count`` of the spectra (N, B) that cover them.

    The darkest, then always the one that is farthest from all that are chosen (Gonzalez 1985).

    Raises
    ------
    UsageError : there are not so many.
    """
    if count > len(spectra):
        raise UsageError("spectra in the library", got=len(spectra), expected=f"{count} or more")
    chosen = [int(spectra.sum(axis=1).argmin())]
    nearest = np.full(len(spectra), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, np.linalg.norm(spectra - spectra[chosen[-1]], axis=1))
        chosen.append(int(nearest.argmax()))
    return chosen
