import numpy as np
import pytest
import torch

from spectile.catalog.calibration import Calibration
from spectile.catalog.counts import NODATA, Moments, stored_parts

FITTED = Calibration(4, (2.0,) * 6, (-3.0,) * 6, (1.0,) * 6)
LAYERS = ("sd", "q05", "q95")


def parts(samples, layers=(), calibration=None, tensors=False):
    moments = Moments()
    for sample in samples:
        moments.add(torch.from_numpy(sample) if tensors else sample)
    found = {}
    for part, band, values in stored_parts(moments, layers, calibration, samples.shape[-3]):
        found.setdefault(part, {})[band] = np.asarray(values)
    counts = {part: np.stack([bands[band] for band in sorted(bands)], -3) for part, bands in found.items()}
    return counts, moments


def test_one_sample_is_its_own_mean():
    sample = np.random.default_rng(0).random((1, 6, 5, 4), np.float32)
    counts, _ = parts(sample)
    assert list(counts) == ["mean"]
    np.testing.assert_array_equal(counts["mean"], np.rint(sample[0] * np.float32(1e4)))


@pytest.mark.parametrize("tensors", [False, True])
def test_the_parts_are_those_of_all_samples_at_once(tensors):
    samples = np.random.default_rng(1).normal(0.3, 0.02, (16, 2, 6, 9, 11)).astype(np.float32)
    counts, _ = parts(samples, LAYERS, FITTED, tensors)
    mean, sd = samples.mean(0, dtype=np.float64), samples.std(0, ddof=1, dtype=np.float64)
    expected = {"mean": mean, "sd": 2 * sd, "q05": mean - 3 * sd, "q95": mean + sd}
    for part, values in expected.items():
        # Half a count, and the rounding of float32.
        assert np.abs(counts[part] - values * 1e4).max() < 0.51, part


def test_arrays_and_tensors_give_the_same_counts():
    samples = np.random.default_rng(2).normal(0.3, 0.02, (5, 1, 6, 20, 20)).astype(np.float32)
    one, other = parts(samples, LAYERS)[0], parts(samples, LAYERS, tensors=True)[0]
    for part in one:
        assert np.abs(one[part] - other[part]).max() <= 1


def test_samples_that_agree_have_no_spread_and_quantiles_at_the_mean():
    counts, _ = parts(np.full((4, 6, 3, 3), 0.25, np.float32), LAYERS, FITTED)
    assert (counts["sd"] == 0).all()
    for part in ("q05", "q95"):
        np.testing.assert_array_equal(counts[part], counts["mean"])


def test_the_spread_of_bright_samples_is_as_exact_as_that_of_dark_ones():
    spread = np.random.default_rng(3).normal(0, 1e-3, (8, 6, 30, 30)).astype(np.float32)
    dark, bright = (parts(spread + np.float32(offset), ("sd",))[0]["sd"] for offset in (0.01, 1.5))
    assert np.abs(dark - bright).max() <= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_known_tile_by_tile(bad):
    samples = np.full((3, 2, 6, 4, 4), 0.25, np.float32)
    samples[1, 1, 3, 2, 2] = bad
    with np.errstate(invalid="ignore"):
        _, moments = parts(samples)
    assert np.isfinite(moments.doubt).tolist() == [True, False]


def test_counts_end_where_nodata_begins():
    counts, _ = parts(np.array([-0.1, 7.0], np.float32).reshape(1, 1, 1, 2))
    assert counts["mean"].tolist() == [[[0, NODATA - 1]]]
