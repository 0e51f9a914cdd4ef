"""Materials have the spectra of their kind, and the sets share none."""

from __future__ import annotations

import numpy as np
import pytest

from spectile.catalog.bands import PAVIA_CENTRE, VNIR48, Bands
from spectile.pipeline.simulate.materials import FAMILIES, MODELS, SETS, draw_materials
from spectile.pipeline.simulate.reflectance import NM


def _band(spectrum: np.ndarray, low: float, high: float) -> np.ndarray:
    return spectrum[..., (low <= NM) & (high >= NM)].mean(axis=-1)


def test_the_sets_share_no_parameter_value_and_demo_has_models_of_its_own() -> None:
    for seed in range(5):
        for name, parity in (("train", 0), ("demo", 1)):
            drawn = draw_materials(seed, name)
            bins = np.floor(16 * np.concatenate([m.parameters for m in drawn])).astype(int)
            assert (bins % 2 == parity).all()
            assert all(m.parameters for m in drawn)
    models = {name: {m.name.rsplit("_", 1)[0] for m in draw_materials(0, name)} for name in SETS}
    assert len(models["demo"] - models["train"]) >= 8
    assert models["train"] | models["demo"] == set(MODELS)


@pytest.mark.parametrize("name", SETS)
def test_every_family_has_materials_in_both_sets(name: str) -> None:
    assert {m.family for m in draw_materials(11, name)} == set(FAMILIES)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("bands", [VNIR48, PAVIA_CENTRE])
def test_spectra_are_reflectances_in_any_band_plan(name: str, bands: Bands) -> None:
    for seed in range(3):
        for material in draw_materials(seed, name):
            spectra = material.resampled(bands)
            assert spectra.shape == (len(material.spectra), len(bands))
            assert np.isfinite(spectra).all()
            assert 0.0 < spectra.min() <= spectra.max() <= 1.0


@pytest.mark.parametrize("name", SETS)
def test_materials_show_the_features_of_their_kind(name: str) -> None:
    for seed in range(4):
        for material in draw_materials(seed, name):
            spectra, model = material.spectra, material.name.rsplit("_", 1)[0]
            red, nir = _band(spectra, 660, 680), _band(spectra, 780, 880)
            ndvi = (nir - red) / (nir + red)
            if model in {"cereal", "beet", "lawn", "broadleaf", "conifer", "copper_tree", "meadow"}:
                assert ndvi[1:].min() > 0.5, material.name
                # Liquid water absorbs near 970 nm: a dip below the line between its shoulders.
                shoulders = 0.5 * (_band(spectra, 885, 905) + _band(spectra, 1050, 1070))
                assert (_band(spectra, 960, 985) < shoulders).all(), material.name
            elif material.family in {"soil", "road", "paving", "marking"}:
                assert np.abs(ndvi).max() < 0.45, material.name
            elif material.family == "water":
                assert nir.max() < 0.05, material.name
                assert (_band(spectra, 960, 985) < _band(spectra, 540, 580)).all(), material.name
            if model in {"laterite", "ferric_clay", "clay_tile"}:
                # Ferric iron: steep in the green, an absorption near 870 to 910 nm.
                dry = spectra[-1]
                assert _band(dry, 620, 640) > 1.5 * _band(dry, 480, 500), material.name
                assert _band(dry, 860, 920) < _band(dry, 1040, 1080), material.name
