"""Scenes are cut as the protocols say, into parts that share no pixel."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from spectile.catalog.errors import SceneError
from spectile.flows.evaluation.protocols import PROTOCOLS, read_counts


def test_pavia_is_cut_as_the_protocol_says() -> None:
    cube = np.arange(1096 * 715, dtype=np.float32).reshape(1, 1096, 715)
    split = PROTOCOLS["pavia-pc40-8"].cut(cube)
    assert [test.shape for test in split.tests] == [(1, 128, 128)] * 8
    parts = [split.training, split.validation, *split.tests]
    pixels = np.concatenate([part.ravel() for part in parts])
    assert len(np.unique(pixels)) == len(pixels) == 1024 * 715
    assert max(test.max() % 715 for test in split.tests) < 128


@pytest.mark.parametrize("shape", [(1, 1202, 2200), (1, 2200, 1202)])
def test_houston_is_cut_into_three_test_patches_that_nothing_else_touches(shape: tuple[int, ...]) -> None:
    cube = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    split = PROTOCOLS["houston-2018"].cut(cube)
    assert [test.shape for test in split.tests] == [(1, 512, 512)] * 3
    tested = np.unique(np.concatenate([test.ravel() for test in split.tests]))
    for part in (split.training, split.validation):
        assert not np.isin(tested, part).any()
    assert not np.isin(split.training[:, :, -1], split.validation).any()


def test_hyperldms_split_of_houston_tests_on_its_twelve_tiles() -> None:
    cube = np.arange(1202 * 4172, dtype=np.float64).reshape(1, 1202, 4172)
    split = PROTOCOLS["houston-2018-hyperldm"].cut(cube)
    assert [test.shape for test in split.tests] == [(1, 256, 256)] * 12
    tested = np.unique(np.concatenate([test.ravel() for test in split.tests]))
    assert len(tested) == 12 * 256**2
    assert sorted({int(test[0, 0, 0] % 4172) for test in split.tests}) == [512, 768, 1536, 1792, 2560, 2816]
    for part in (split.training, split.validation):
        assert not np.isin(tested, part).any()
    assert split.validation.shape == (1, 690, 512)
    with pytest.raises(SceneError, match="at least 1024×3584"):
        PROTOCOLS["houston-2018-hyperldm"].cut(cube[:, :1000])


def test_the_houston_crop_is_cut_at_columns_72_and_96() -> None:
    cube = np.broadcast_to(np.arange(128, dtype=np.float32), (48, 128, 128))
    split = PROTOCOLS["houston-crop"].cut(cube)
    first_and_last = [(part.min(), part.max()) for part in (split.training, split.validation, *split.tests)]
    assert first_and_last == [(0, 71), (72, 95), (96, 127)]


def test_a_scene_of_another_shape_is_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "crop.mat", {"hyprImg": np.zeros((8, 8, 48), np.uint16)})
    with pytest.raises(SceneError, match="one of 102 bands"):
        read_counts(tmp_path / "crop.mat", 102)
    with pytest.raises(SceneError, match="no such file"):
        read_counts(tmp_path / "missing.mat", 48)
    with pytest.raises(SceneError, match="at least 1024×715"):
        PROTOCOLS["pavia-pc40-8"].cut(np.zeros((102, 100, 100), dtype=np.float32))
    (tmp_path / "text.mat").write_text("not a matrix" * 20)
    with pytest.raises(SceneError, match="cannot be read"):
        read_counts(tmp_path / "text.mat", 48)


def test_a_matlab_73_file_is_read_as_the_same_scene(tmp_path: Path) -> None:
    scene = np.random.default_rng(0).integers(0, 2500, (10, 14, 48), dtype=np.uint16)
    savemat(tmp_path / "old.mat", {"cube": scene})
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["cube"] = scene.transpose(2, 1, 0)
    np.testing.assert_array_equal(
        read_counts(tmp_path / "old.mat", 48), read_counts(tmp_path / "new.mat", 48)
    )
