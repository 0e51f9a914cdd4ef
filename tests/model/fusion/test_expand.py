"""Counts of a tile against the spectra that the same predictor gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spectile.catalog.counts import Moments, stored_parts
from spectile.model.fusion.predictor import FusionPredictor, load_fusion
from tests.model.fusion.scenes import batch_of, case, pair_of

CUT = (slice(8, 56), slice(16, 48))


def _dark() -> FusionPredictor:
    """A fusion whose spectra fall below zero in places: its mean spectrum is darker than the scene's."""
    pair = pair_of()
    return load_fusion("fuse:mixture", replace(pair, mean=pair.mean - 0.12), device="cpu")


@pytest.mark.parametrize("method", ["fuse:mixture", "fuse:cubic"])
def test_counts_and_findings_are_those_of_the_spectra(method: str) -> None:
    window = case().window
    msi = window.msi.copy()
    msi[:, 24:40, 24:40] += 0.15
    predictor = load_fusion(method, pair_of(), device="cpu")
    for part in (window, replace(window, msi=msi)):
        batch = batch_of(part, predictor)
        (spectra,) = predictor.predict(batch, range(1))
        counts, finite, found = predictor.count_fused(batch, 1, (), CUT)
        expected = spectra[(..., *CUT)] * 1e4
        assert np.abs(counts["mean"] - expected).max() <= 0.51
        assert finite.tolist() == [True]
        whole = predictor.inspect(batch, spectra)
        np.testing.assert_allclose(
            found.hsi_difference, whole.hsi_difference[(..., *CUT)], rtol=1e-3, atol=2e-6
        )
        np.testing.assert_array_equal(found.changed, whole.changed[(..., *CUT)])


def test_bands_that_are_cut_to_the_range_of_a_reflectance_are_averaged_as_they_are_stored() -> None:
    predictor, everything = _dark(), (slice(0, 64), slice(0, 64))
    batch = batch_of(case().window, predictor)
    (spectra,) = predictor.predict(batch, range(1))
    assert 0.001 < (spectra == 0.0).mean() < 0.5
    counts, _, found = predictor.count_fused(batch, 1, (), everything)
    assert np.abs(counts["mean"] - spectra * 1e4).max() <= 0.51
    np.testing.assert_allclose(
        found.hsi_difference, predictor.inspect(batch, spectra).hsi_difference, rtol=1e-3, atol=2e-6
    )


def test_layers_of_samples_are_those_of_the_samples_spectra() -> None:
    pair = replace(pair_of(), wald={"mixture": {"psnr": 30.0}})
    predictor = load_fusion("fuse:mixture", pair, device="cpu", samples=3)
    batch = batch_of(case().window, predictor)
    counts, _, found = predictor.count_fused(batch, 3, ("sd", "q95"), CUT)
    moments: Moments[np.ndarray] = Moments()
    for sample in predictor.predict(batch, range(3)):
        moments.add(sample)
    for part, band, values in stored_parts(
        moments, ("sd", "q95"), predictor.calibration, len(predictor.bands)
    ):
        assert np.abs(counts[part][:, band] - values[(..., *CUT)]).max() <= 1
    assert counts["sd"].std() > 1
    whole = predictor.inspect(batch, moments.mean())
    np.testing.assert_allclose(found.hsi_difference, whole.hsi_difference[(..., *CUT)], rtol=1e-3, atol=2e-6)


def test_a_tile_that_is_not_finite_is_told() -> None:
    window = case().window
    msi = window.msi.copy()
    msi[0, 30, 30] = np.nan
    predictor = load_fusion("fuse:mixture", pair_of(), device="cpu")
    assert predictor.count(batch_of(replace(window, msi=msi), predictor), 1, (), CUT)[1].tolist() == [False]
