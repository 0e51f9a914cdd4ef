import numpy as np
import pytest

from spectile.catalog.errors import SceneError
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.pair.sample import (
    MOST_WINDOWS,
    SIDE,
    candidates,
    digest_of,
    read_window,
    sample_windows,
)
from spectile.pipeline.pair.source import open_pair
from tests.flows.run.pairs import HSI, MSI, NORTH_UP, RATIO, Affine, write_bands, write_pair


def test_a_small_scene_is_one_window(tmp_path):
    hsi, msi, _ = write_pair(tmp_path, (20, 24))
    pair = open_pair(hsi, msi)
    (only,) = sample_windows(pair, 0)
    assert only.window == Window(0, 0, 20, 24)
    assert digest_of([only]) == digest_of([read_window(pair, only.window)])
    assert digest_of([only]) != digest_of([read_window(pair, Window(0, 0, 20, 23))])


@pytest.mark.parametrize("extent", [Window(0, 0, 4000, 4000), Window(7, 9, 200, 9000), Window(0, 0, 150, 5)])
def test_windows_are_bounded_spread_and_the_same_for_a_seed(extent):
    windows = candidates(extent, 4, 3)
    assert windows == candidates(extent, 4, 3)
    assert all(extent.contains(window) for window in windows)
    assert max(max(window.shape) for window in windows) <= SIDE
    if extent.size > 1e6:
        assert windows != candidates(extent, 4, 4)
        first = windows[:MOST_WINDOWS]
        longest = max(extent.shape)
        places = [window.row + window.col for window in first]
        assert np.ptp(places) > longest / 3


def test_scenes_that_are_valid_in_different_places_are_refused(tmp_path):
    values = np.full((12, 20, 24), 0.2)
    values[:, :, :15] = np.nan
    hsi = write_bands(tmp_path / "hsi.tif", values, HSI, NORTH_UP)
    values = np.full((4, 80, 96), 0.2)
    values[:, :, 36:] = -1
    msi = write_bands(tmp_path / "msi.tif", values, MSI, NORTH_UP @ Affine.scale(1 / RATIO), nodata=-1)
    with pytest.raises(
        SceneError, match=r"no window in which both scenes are valid \(got at most 38% of the HSI and 38% of"
    ):
        sample_windows(open_pair(hsi, msi), 0)
