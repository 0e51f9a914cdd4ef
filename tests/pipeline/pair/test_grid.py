import pytest
from affine import Affine
from rasterio.crs import CRS

from spectile.catalog.errors import SceneError
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.pair.grid import choose_ratio, divided, overlap

UTM = CRS.from_epsg(32633).to_wkt()
AT = Affine.translation(400_000, 5_800_000)


def grid(side: float, shape=(60, 60), degrees: float = 0.0, at=(0.0, 0.0), crs=UTM) -> Grid:
    return Grid(
        shape, AT @ Affine.translation(*at) @ Affine.rotation(degrees) @ Affine.scale(side, -side), crs
    )


@pytest.mark.parametrize(("hsi", "msi", "ratio"), [(30, 3.6, 8), (30, 10, 3), (1, 0.1, 10), (30, 12, 2)])
def test_the_ratio_is_the_nearest_whole_number(hsi, msi, ratio):
    assert choose_ratio(grid(hsi), grid(msi)) == ratio
    assert choose_ratio(grid(hsi, degrees=30), grid(msi, degrees=-75)) == ratio


def test_another_ratio_may_be_asked_for():
    assert choose_ratio(grid(30), grid(0.2), 16) == 16


@pytest.mark.parametrize(
    ("hsi", "msi", "line"),
    [
        (
            10,
            30,
            r"^the HSI is sharper than the MSI \(got 0.333 .*2 or more\)",
        ),
        (30, 25, r"^the MSI is not sharper than the HSI \(got 1.2 "),
        (30, 0.2, r"^the MSI is too sharp for the HSI \(got 150 .*; give --ratio 64 or less"),
    ],
)
def test_no_pair_is_refused_in_one_line(hsi, msi, line):
    with pytest.raises(SceneError, match=line):
        choose_ratio(grid(hsi), grid(msi))


def test_the_whole_affine_is_divided():
    coarse = grid(30, (20, 30), degrees=33)
    fine = divided(coarse, 4)
    assert fine.shape == (80, 120)
    for row, col in ((0, 0), (7, 11), (20, 30)):
        assert fine.transform @ (4 * col, 4 * row) == pytest.approx(coarse.transform @ (col, row))


def test_the_overlap_is_whole_pixels_of_the_hsi():
    fine = divided(grid(30, (20, 30)), 3)
    # 105 m to the right and 65 m below, 200 m wide and 100 m high.
    msi = grid(10, (10, 20), at=(105, -65))
    assert overlap(fine, msi, 3) == Window(6, 9, 12, 24)
    assert overlap(fine, grid(10, (200, 200), at=(-300, 300)), 3) == fine.window


def test_scenes_apart_are_refused_in_one_line():
    fine = divided(grid(30, (20, 30)), 3)
    with pytest.raises(SceneError, match=r"^HSI and MSI do not overlap \(got HSI x 400000 to 400900"):
        overlap(fine, grid(10, (10, 10), at=(5000, 0)), 3)


def test_another_crs_overlaps_where_it_lies():
    fine = divided(grid(30, (20, 30)), 3)
    degrees = Grid((100, 100), Affine(1e-4, 0, 13.53, 0, -1e-4, 52.342), CRS.from_epsg(4326).to_wkt())
    found = overlap(fine, degrees, 3)
    assert found.size
    assert fine.window.contains(found)
