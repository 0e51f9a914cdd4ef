"""Endmembers cover the spectra that they are chosen from."""

from __future__ import annotations

import numpy as np
import pytest

from spectile.catalog.errors import UsageError
from spectile.model.hyperldm.endmembers import choose_endmembers


def test_the_darkest_comes_first_and_then_the_farthest() -> None:
    spectra = np.array([[0.5], [0.1], [0.9], [0.45], [0.2]], dtype=np.float32)
    assert choose_endmembers(spectra, 4) == [1, 2, 0, 4]
    with pytest.raises(UsageError, match="spectra in the library"):
        choose_endmembers(spectra, 6)
