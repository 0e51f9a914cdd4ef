"""Files of data sets as people have them: MATLAB, rasters with wavelengths, folders of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy.io import savemat

from spectile.catalog.bands import Bands
from spectile.catalog.errors import SceneError
from spectile.flows.evaluation.fusion_data import read_scenes
from spectile.flows.evaluation.fusion_protocols import FUSION_PROTOCOLS, FusionProtocol, cut_halves
from spectile.model.fusion.scored import Degradation
from tests.flows.run.pairs import NORTH_UP, write_bands

ANY = FusionProtocol(
    name="wald", data="any", how=Degradation(8, 3.4, None), sensor="ikonos", split="halves",
    cut=lambda scenes: cut_halves(scenes, 8),
)  # fmt: skip
CAVE = FUSION_PROTOCOLS["cave-x32"]


def picture(path: Path, page: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = page.shape
    with rasterio.open(
        path, "w", driver="PNG", height=height, width=width, count=1, dtype=page.dtype.name
    ) as file:
        file.write(page, 1)


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_cave_is_a_folder_with_a_folder_of_pictures_a_scene(tmp_path: Path) -> None:
    for name, kind in (("b_ms", np.uint16), ("a_ms", np.uint8)):
        for band in range(31):
            picture(tmp_path / name / name / f"{band:02}.png", np.full((4, 6), band, kind))
    picture(tmp_path / "b_ms" / "preview.png", np.zeros((4, 6), np.uint8))
    savemat(tmp_path / "c.mat", {"cube": np.ones((4, 6, 31))})
    found = read_scenes(CAVE, tmp_path, None).cubes
    assert [cube.shape for cube in found] == [(31, 4, 6)] * 3
    assert [float(cube[30, 0, 0]) for cube in found] == pytest.approx([30 / 255, 30 / 65535, 1.0])
    picture(tmp_path / "a_ms" / "a_ms" / "30.png", np.zeros((4, 7), np.uint8))
    with pytest.raises(SceneError, match=r"a_ms: the bands of a scene have different sizes"):
        read_scenes(CAVE, tmp_path, None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SceneError, match=r"no scene there .*folders of 31 PNG files"):
        read_scenes(CAVE, tmp_path / "empty", None)


def test_a_raster_keeps_its_wavelengths_and_is_checked_for_its_bands(tmp_path: Path) -> None:
    bands = Bands.evenly_spaced(430.0, 860.0, 103)
    path = Path(write_bands(tmp_path / "paviau.tif", np.ones((103, 8, 8)), bands, NORTH_UP))
    scenes = read_scenes(FUSION_PROTOCOLS["paviau-x8"], path, None)
    assert scenes.bands is not None
    np.testing.assert_allclose(scenes.bands.centre_nm, bands.centre_nm)
    with pytest.raises(SceneError, match=r"not the protocol's scene \(got 103 bands, expected 176 bands"):
        read_scenes(FUSION_PROTOCOLS["ksc"], path, None)
    nothing = np.full((103, 8, 8), np.nan)
    path = Path(write_bands(tmp_path / "nan.tif", nothing, bands, NORTH_UP))
    with pytest.raises(SceneError, match="holds NaN or infinity"):
        read_scenes(FUSION_PROTOCOLS["paviau-x8"], path, None)


def test_any_scene_needs_to_be_valid_everywhere(tmp_path: Path) -> None:
    values = np.ones((12, 8, 8))
    bands = Bands.evenly_spaced(430.0, 860.0, 12)
    path = Path(write_bands(tmp_path / "scene.tif", values, bands, NORTH_UP))
    assert read_scenes(ANY, path, None).cubes[0].shape == (12, 8, 8)
    values[:, 2, 3] = 0.0
    path = Path(write_bands(tmp_path / "hole.tif", values, bands, NORTH_UP))
    with pytest.raises(SceneError, match=r"without masked pixels \(got 1.6% masked"):
        read_scenes(ANY, path, None)


def test_of_several_arrays_the_wavelengths_choose(tmp_path: Path) -> None:
    path, table = tmp_path / "two.mat", tmp_path / "bands.csv"
    savemat(path, {"hsi": np.ones((8, 8, 12)), "rgb": np.ones((16, 16, 3))})
    table.write_text("\n".join(["wavelength,fwhm", *(f"{400 + 40 * band},40" for band in range(12))]))
    assert read_scenes(ANY, path, table).cubes[0].shape == (12, 8, 8)
    with pytest.raises(SceneError, match="no such file"):
        read_scenes(ANY, tmp_path / "none.mat", table)
