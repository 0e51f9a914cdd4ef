"""The check of a scene's wavelengths against what it shows."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from spectile.catalog.bands import Bands
from spectile.catalog.errors import SceneError
from spectile.pipeline.spectra.alignment import check_wavelengths, oxygen_line_nm, red_edge_nm
from spectile.pipeline.spectra.hyperspectral import Hyperspectral

NM = np.arange(400.0, 1000.0, 5.0)


def _scene(spectrum: np.ndarray) -> Hyperspectral:
    cube = np.broadcast_to(spectrum[:, None, None], (len(NM), 6, 6)).astype(np.float32)
    return Hyperspectral(cube, Bands.from_arrays(NM), np.ones((6, 6), dtype=bool))


def _shifted(scene: Hyperspectral, by: float) -> Hyperspectral:
    return replace(scene, bands=Bands.from_arrays(NM + by))


def test_a_shifted_scene_is_refused_by_its_red_edge_or_its_oxygen_line() -> None:
    leaf = _scene(0.05 + 0.4 / (1.0 + np.exp(-(NM - 722.0) / 9.0)))
    assert red_edge_nm(leaf) == pytest.approx(722, abs=2)
    assert oxygen_line_nm(leaf) is None
    soil = _scene((0.1 + 2e-4 * (NM - 400.0)) * (1.0 - 0.15 * np.exp(-(((NM - 761.0) / 4.0) ** 2))))
    assert red_edge_nm(soil) is None
    assert oxygen_line_nm(soil) == pytest.approx(761, abs=2)
    plain = _scene(np.full(len(NM), 0.3))
    for scene in (leaf, soil, plain):
        check_wavelengths(scene, "a.tif")
    for scene, what in ((leaf, "the red edge"), (soil, "the oxygen line")):
        for by in (20.0, -20.0):
            with pytest.raises(SceneError) as caught:
                check_wavelengths(_shifted(scene, by), "a.tif")
            said = re.fullmatch(
                r"a\.tif: .* shifted by about ([-+]\d+) nm: (.*) is elsewhere .*", str(caught.value)
            )
            assert said
            assert (float(said[1]), said[2]) == (pytest.approx(by, abs=3), what)
    check_wavelengths(_shifted(plain, 20), "a.tif")
