"""Fused tiles as the pipeline asks for them."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace

import numpy as np
import pytest

from spectile.catalog.errors import UsageError
from spectile.catalog.inputs import Batch, Raster
from spectile.model.data.degrade import Sampling, degrade
from spectile.model.fusion.estimate import estimate_pair
from spectile.model.fusion.fuser import KEPT
from spectile.model.fusion.pair import PairWindow
from spectile.model.fusion.predictor import FusionPredictor, load_fusion, method_names
from spectile.pipeline.block.predict import Predictor
from tests.model.fusion.scenes import HSI, MSI, RATIO, SIGMA, batch_of, case, pair_of, rmse


def _mean(method: str, window: PairWindow) -> np.ndarray:
    predictor = load_fusion(method, pair_of(), device="cpu")
    return next(predictor.predict(batch_of(window, predictor), range(1)))[0]


def _cut(window: PairWindow, rows: slice, cols: slice) -> PairWindow:
    fine = tuple(slice(one.start * RATIO, one.stop * RATIO) for one in (rows, cols))
    return PairWindow(
        window.hsi[:, rows, cols], window.hsi_valid[rows, cols],
        window.msi[(slice(None), *fine)], window.msi_valid[fine],
    )  # fmt: skip


def test_it_has_the_shape_of_a_predictor() -> None:
    predictor: Predictor = load_fusion("fuse", pair_of(), device="cpu")
    assert predictor.bands == HSI
    assert (predictor.stride, predictor.inputs[1].ratio) == (RATIO, RATIO)
    assert predictor.reach is not None
    assert predictor.reach % RATIO == 0
    assert json.loads(json.dumps(dict(predictor.settings)))["digest"] == pair_of().digest
    assert predictor.memory(256) > predictor.memory(64)


@pytest.mark.parametrize("method", method_names())
def test_every_method_gives_spectra_of_the_tile(method: str) -> None:
    fused = _mean(method, case().window)
    assert (fused.shape, fused.dtype) == ((len(HSI), 64, 64), np.float32)
    assert rmse(fused, case().truth) < 0.1


def test_the_default_is_what_the_pair_says() -> None:
    pair = replace(pair_of(), method="cubic")
    predictor = load_fusion("fuse", pair, device="cpu")
    assert predictor.settings["name"] == "fuse:cubic"
    fused = next(predictor.predict(batch_of(case().window, predictor), range(1)))[0]
    np.testing.assert_array_equal(fused, _mean("fuse:cubic", case().window))


def test_a_tile_is_that_part_of_the_whole_where_its_halo_reaches() -> None:
    window = case(128).window
    predictor = load_fusion("fuse:mixture", pair_of(128), device="cpu")
    whole = next(predictor.predict(batch_of(window, predictor), range(1)))[0]
    part = _cut(window, slice(4, 24), slice(6, 26))
    tile = next(predictor.predict(batch_of(part, predictor, (16, 24)), range(1)))[0]
    reach = predictor.reach
    inner = (slice(None), slice(reach, -reach), slice(reach, -reach))
    apart = np.abs(tile - whole[:, 16:96, 24:104])[inner]
    # Counts are 1e-4.
    assert apart.max() < 1e-4


def test_samples_hang_on_seed_number_and_position_alone() -> None:
    window, pair = case().window, pair_of()
    predictor = load_fusion("fuse:mixture", pair, device="cpu", samples=3)
    first, second, third = (one[0] for one in predictor.predict(batch_of(window, predictor), range(3)))
    (again,) = (one[0] for one in predictor.predict(batch_of(window, predictor), range(1, 2)))
    np.testing.assert_array_equal(second, again)
    assert rmse(first, third) > 1e-3
    other = load_fusion("fuse:mixture", pair, device="cpu", samples=3, seed=1)
    assert rmse(next(other.predict(batch_of(window, other), range(1)))[0], first) > 1e-3


def test_samples_of_overlapping_tiles_agree() -> None:
    window = case(128).window
    predictor = load_fusion("fuse:mixture", pair_of(128), device="cpu", samples=2)
    one = _cut(window, slice(0, 20), slice(0, 20))
    other = _cut(window, slice(4, 24), slice(6, 26))
    (left,) = (found[0] for found in predictor.predict(batch_of(one, predictor), range(1)))
    (right,) = (found[0] for found in predictor.predict(batch_of(other, predictor, (16, 24)), range(1)))
    mean = next(
        load_fusion("fuse:mixture", pair_of(128), device="cpu").predict(batch_of(one, predictor), range(1))
    )[0]
    shared = (slice(None), slice(36, 60), slice(44, 60))
    moved = (slice(None), slice(20, 44), slice(20, 36))
    spread = rmse(left[shared], mean[shared])
    assert rmse(left[shared], right[moved]) < 0.05 * spread


def test_the_batch_changes_no_value() -> None:
    window = case().window
    predictor = load_fusion("fuse:mixture", pair_of(), device="cpu")
    one = batch_of(window, predictor)
    twice = {
        name: Raster(raster.values.repeat(2, 0), raster.valid.repeat(2, 0))
        for name, raster in one.rasters.items()
    }
    two = Batch(twice, one.origins.repeat(2, 0), 2)
    both = next(predictor.predict(two, range(1)))
    np.testing.assert_array_equal(both[1], next(predictor.predict(one, range(1)))[0])


def test_findings_tell_difference_and_changes_on_the_fine_grid() -> None:
    window = case().window
    msi = window.msi.copy()
    msi[:, 24:40, 24:40] += 0.15
    predictor = load_fusion("fuse:mixture", pair_of(), device="cpu")
    batch = batch_of(replace(window, msi=msi), predictor)
    found = predictor.inspect(batch, next(predictor.predict(batch, range(1))))
    assert found.changed[0, 26:38, 26:38].all()
    assert found.changed.mean() < 0.3
    assert 0.3 * case().noise[0] < np.median(found.hsi_difference) < 1.5 * case().noise[0]
    assert (found.hsi_difference[0, :4, :4] == found.hsi_difference[0, 0, 0]).all()


def test_calibration_belongs_to_samples_of_a_judged_pair() -> None:
    pair = replace(pair_of(), wald={"mixture": {"psnr": 30.0}})
    assert load_fusion("fuse:mixture", pair, device="cpu").calibration is None
    assert load_fusion("fuse:mixture", pair_of(), device="cpu", samples=4).calibration is None
    calibration = load_fusion("fuse:mixture", pair, device="cpu", samples=4).calibration
    assert calibration is not None
    assert calibration.spread[0] == pytest.approx(np.sqrt(1.25))
    assert calibration.high[0] == pytest.approx(1.645 * np.sqrt(1.25))


def test_what_cannot_be_used_is_refused_in_a_line() -> None:
    with pytest.raises(UsageError, match="unknown method"):
        load_fusion("fuse:magic", pair_of())
    with pytest.raises(UsageError, match="no samples"):
        load_fusion("fuse:cubic", pair_of(), samples=4)
    with pytest.raises(UsageError, match="batch"):
        load_fusion("fuse", pair_of(), batch=0)
    predictor: FusionPredictor = load_fusion("fuse", pair_of(), device="cpu")
    batch = batch_of(case().window, predictor)
    msi = batch.rasters["msi"]
    odd = {**batch.rasters, "msi": Raster(msi.values[..., :-2], msi.valid[..., :-2])}
    with pytest.raises(UsageError, match="no whole number of coarse pixels"):
        next(predictor.predict(Batch(odd, batch.origins, 1), range(1)))


def test_nothing_of_a_tile_stays_in_memory_and_few_filters_do() -> None:
    predictor = load_fusion("fuse:mixture", pair_of(), device="cpu")
    window, kept = case().window, set()
    for rows in range(16, 16 - 2 * KEPT, -1):
        batch = batch_of(_cut(window, slice(0, rows), slice(0, 16)), predictor)
        tile = (slice(0, RATIO * rows), slice(0, 64))
        counts, _, found = predictor.count_fused(batch, 1, (), tile)
        held = [weakref.ref(array) for array in (batch.rasters["msi"].values, counts["mean"], found.changed)]
        del batch, counts, found
        assert [one() for one in held] == [None] * 3
        kept = set(predictor._fuser._filters)
    assert len(kept) == KEPT


@pytest.mark.parametrize("method", ["fuse:cubic", "fuse:glp-hs", "fuse:mixture"])
def test_a_coarse_scene_sampled_at_first_pixels_is_fused_as_well_as_a_centred_one(method: str) -> None:
    known, inner = case(), np.s_[:, 8:-8, 8:-8]
    errors = []
    for sampling in (Sampling(size=7, phase=None), Sampling(size=7, phase=0.0)):
        seen = degrade(known.truth, RATIO, SIGMA, known.response, snr_db=(35.0, 40.0), seed=0, **sampling)
        window = replace(known.window, hsi=seen.hsi.astype(np.float32), msi=seen.msi.astype(np.float32))
        pair = estimate_pair(
            [window], RATIO, HSI, MSI, response=known.response, psf=SIGMA, sampling=sampling, scaled=False
        )
        predictor = load_fusion(method, pair, device="cpu")
        fused = next(predictor.predict(batch_of(window, predictor), range(1)))[0]
        errors.append(rmse(fused[inner], known.truth[inner]))
    # The two have other pixels and another noise; a centre that is taken for the middle costs 3 dB and more.
    assert abs(20.0 * np.log10(errors[0] / errors[1])) < 0.3
