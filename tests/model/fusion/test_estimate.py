"""What is estimated of a pair against what it was made with, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spectile.catalog.bands import Bands
from spectile.catalog.errors import SceneError, UsageError
from spectile.model.fusion.estimate import COMPONENTS, estimate_pair
from spectile.model.fusion.fuser import CLOSED, Fuser
from spectile.model.fusion.window import prepare
from tests.model.fusion.scenes import HSI, MSI, RATIO, SIGMA, case, pair_of, rmse


def test_noise_and_subspace_are_found() -> None:
    pair = pair_of()
    np.testing.assert_allclose(np.median(pair.hsi_noise), case().noise[0], rtol=0.1)
    assert 3 <= pair.basis.shape[1] <= 8
    assert len(pair.weights) <= COMPONENTS
    whitened = pair.basis / pair.hsi_noise[:, None]
    np.testing.assert_allclose(whitened.T @ whitened, np.eye(whitened.shape[1]), atol=1e-9)


def test_everything_can_be_estimated_from_the_pair_alone() -> None:
    known = case()
    msi = (1.15 * known.window.msi + 0.02).astype(np.float32)
    window = replace(known.window, msi=msi)
    pair = estimate_pair([window], RATIO, HSI, MSI)
    np.testing.assert_allclose(pair.psf_sigma, SIGMA, rtol=0.1)
    fuser = Fuser(pair)
    edge = fuser.margin * RATIO
    fused = CLOSED["mixture"].fuse(fuser, prepare(fuser, window))[:, edge:-edge, edge:-edge].numpy()
    best = Fuser(pair_of())
    ideal = CLOSED["mixture"].fuse(best, prepare(best, known.window))[:, edge:-edge, edge:-edge].numpy()
    assert rmse(fused, known.truth) < 1.5 * rmse(ideal, known.truth)


def test_clean_spectra_from_elsewhere_make_it_better() -> None:
    known = case()
    clean = case(64, 5).truth.reshape(len(HSI), -1)
    pair = estimate_pair(
        [known.window], RATIO, HSI, MSI, response=known.response, psf=SIGMA, scaled=False, clean=clean
    )
    assert len(pair.weights) > COMPONENTS
    errors = []
    for one in (pair, pair_of()):
        fuser = Fuser(one)
        edge = fuser.margin * RATIO
        fused = CLOSED["mixture"].fuse(fuser, prepare(fuser, known.window))[:, edge:-edge, edge:-edge].numpy()
        errors.append(rmse(fused, known.truth))
    assert errors[0] < 1.05 * errors[1]


def test_the_same_windows_and_seed_give_the_same_pair() -> None:
    known = case()
    again = estimate_pair([known.window], RATIO, HSI, MSI, response=known.response, psf=SIGMA, scaled=False)
    assert again.digest == pair_of().digest


def test_what_cannot_be_used_is_refused_in_a_line() -> None:
    window, known = case().window, case()
    with pytest.raises(UsageError, match="no window"):
        estimate_pair([], RATIO, HSI, MSI)
    with pytest.raises(UsageError, match="another ratio"):
        estimate_pair([window], 2, HSI, MSI)
    with pytest.raises(UsageError, match="other bands"):
        estimate_pair([window], RATIO, MSI, MSI)
    with pytest.raises(UsageError, match="another shape"):
        estimate_pair([window], RATIO, HSI, MSI, response=known.response.T)
    with pytest.raises(UsageError, match="fit, table"):
        estimate_pair([window], RATIO, HSI, MSI, response="guess")
    with pytest.raises(UsageError, match="clean spectra"):
        estimate_pair([window], RATIO, HSI, MSI, clean=np.zeros((3, 9)))
    infrared = Bands((490.0, 560.0, 665.0, 2200.0), (60.0, 40.0, 40.0, 100.0))
    with pytest.raises(SceneError, match="does not cover"):
        estimate_pair([window], RATIO, HSI, infrared, response="table")


def test_a_band_that_no_table_reaches_is_learned() -> None:
    infrared = Bands((490.0, 560.0, 665.0, 2200.0), (60.0, 40.0, 40.0, 100.0))
    pair = estimate_pair([case().window], RATIO, HSI, infrared, psf=SIGMA)
    seen = np.tensordot(pair.response, case().truth, 1) + pair.offset[:, None, None]
    assert rmse(seen, case().window.msi) < 0.02


def test_what_masked_pixels_hold_has_no_part_in_it() -> None:
    known = case()
    hsi, msi = known.window.hsi.copy(), known.window.msi.copy()
    hsi_valid, msi_valid = known.window.hsi_valid.copy(), known.window.msi_valid.copy()
    hsi_valid[2:5, 9:12] = False
    msi_valid[40:50, 4:20] = False
    pairs = []
    for value in (np.nan, 7.0):
        hsi[:, ~hsi_valid], msi[:, ~msi_valid] = value, value
        window = replace(known.window, hsi=hsi, msi=msi, hsi_valid=hsi_valid, msi_valid=msi_valid)
        pairs.append(estimate_pair([window], RATIO, HSI, MSI, response=known.response))
    assert pairs[0].digest == pairs[1].digest
    np.testing.assert_allclose(pairs[0].gain, 1.0, rtol=0.05)
    np.testing.assert_allclose(pairs[0].psf_sigma, SIGMA, rtol=0.1)
