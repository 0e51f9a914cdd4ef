import pickle
from dataclasses import replace

import numpy as np
import pytest
from affine import Affine

from spectile.catalog.errors import SceneError
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.pair.drift import Drift
from spectile.pipeline.pair.source import open_pair
from tests.flows.run.pairs import HSI, MSI, NORTH_UP, RATIO, write_bands, write_pair


def test_a_pair_lies_on_the_divided_grid_of_its_hsi(tmp_path):
    hsi, msi, _ = write_pair(tmp_path, (20, 24))
    pair = open_pair(hsi, msi)
    assert (pair.ratio, pair.grid.shape, pair.extent) == (RATIO, (80, 96), Window(0, 0, 80, 96))
    assert (pair.hsi_bands, pair.msi_bands) == (HSI, MSI)
    window = Window(8, 12, 20, 24)
    read = {
        name: source.read(window if name == "msi" else window.coarser(RATIO))
        for name, source in pair.sources.items()
    }
    assert (read["msi"].values.shape, read["hsi"].values.shape) == ((4, 20, 24), (12, 5, 6))
    again = pickle.loads(pickle.dumps(pair)).sources["msi"].read(window)
    np.testing.assert_array_equal(again.values, read["msi"].values)


def test_the_facts_name_files_and_no_folders(tmp_path):
    hsi, msi, _ = write_pair(tmp_path, (20, 24))
    facts = replace(open_pair(hsi, msi), drift=Drift(0.25, -0.5)).facts(("hsi.tif", "msi.tif"))
    assert str(tmp_path) not in repr(facts)
    assert [file["name"] for file in facts["scene"]["files"]] == ["hsi.tif", "msi.tif"]
    assert facts["pair"]["shift"] == [0.25, -0.5]
    assert all(len(file["sha256"]) == 64 for file in facts["scene"]["files"])


@pytest.mark.parametrize("degrees", [0.0, 40.0])
def test_the_frame_of_a_flight_line_survives(tmp_path, degrees):
    """A turned HSI with an MSI along the map shows the same place as one that is turned with it."""
    turned = NORTH_UP @ Affine.rotation(degrees)
    hsi, msi, _ = write_pair(tmp_path, (20, 24), transform=turned, noise=0.0)
    pair = open_pair(hsi, msi)
    assert pair.grid.transform.b == pytest.approx(turned.b / RATIO)
    averaged = pair.sources["msi"].read(Window(20, 20, 40, 40)).values
    folder = tmp_path / "map"
    folder.mkdir()
    # The same MSI, sampled along the map at a quarter of its pixels.
    side = 30 / RATIO / 4
    along = Affine(side, 0, turned.c - 450, 0, -side, turned.f + 50)
    rows, cols = np.meshgrid(np.arange(620) + 0.5, np.arange(640) + 0.5, indexing="ij")
    to_fine = ~pair.grid.transform @ along
    at_cols, at_rows = (
        to_fine.a * cols + to_fine.b * rows + to_fine.c,
        to_fine.d * cols + to_fine.e * rows + to_fine.f,
    )
    inside = (at_rows >= 0) & (at_rows < 80) & (at_cols >= 0) & (at_cols < 96)
    sharp = open_pair(hsi, msi).msi.read(Window(0, 0, 80, 96)).values
    index = np.where(inside, at_rows, 0).astype(int), np.where(inside, at_cols, 0).astype(int)
    values = np.where(inside, sharp[(slice(None), *index)], np.nan).astype(np.float32)
    other = write_bands(folder / "msi.tif", values, MSI, along, nodata=float("nan"))
    found = open_pair(hsi, other, ratio=RATIO).sources["msi"].read(Window(20, 20, 40, 40)).values
    np.testing.assert_allclose(found, averaged, atol=0.05)
    assert np.abs(found - averaged).mean() < 4e-3


def test_an_msi_of_another_place_is_refused(tmp_path):
    hsi, _, _ = write_pair(tmp_path, (20, 24))
    far = NORTH_UP @ Affine.translation(500, 0) @ Affine.scale(1 / RATIO)
    msi = write_bands(tmp_path / "far.tif", np.full((4, 40, 40), 0.1), MSI, far)
    with pytest.raises(SceneError, match=r"^HSI and MSI do not overlap"):
        open_pair(hsi, msi)


def test_counts_of_which_nobody_says_what_they_mean_are_refused(tmp_path):
    _, msi, _ = write_pair(tmp_path, (20, 24))
    hsi = write_bands(tmp_path / "counts.tif", np.full((12, 20, 24), 900), HSI, NORTH_UP, dtype="int16")
    with pytest.raises(SceneError, match=r"counts.tif: "):
        open_pair(hsi, msi)
    assert open_pair(hsi, msi, hsi_radiometry="dn:0,0.0001").ratio == RATIO


def test_a_crs_that_is_on_no_map_is_refused_in_one_line(tmp_path):
    hsi, _, _ = write_pair(tmp_path, (20, 24))
    local = 'LOCAL_CS["site",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    at = NORTH_UP @ Affine.scale(1 / RATIO)
    msi = write_bands(tmp_path / "local.tif", np.full((4, 80, 96), 0.1), MSI, at, crs=local)
    with pytest.raises(SceneError, match=r"no transformation from the HSI's CRS|do not overlap") as caught:
        open_pair(hsi, msi)
    assert "\n" not in str(caught.value)


def test_an_msi_without_a_valid_pixel_is_refused_in_one_line(tmp_path):
    hsi, _, _ = write_pair(tmp_path, (20, 24))
    at = NORTH_UP @ Affine.scale(1 / RATIO)
    msi = write_bands(tmp_path / "empty.tif", np.full((4, 80, 96), -1.0), MSI, at, nodata=-1)
    with pytest.raises(SceneError, match=r"empty.tif: the scene has no valid pixel"):
        open_pair(hsi, msi)
