"""The pictures of a cube: in their place, of the pixels that hold something, and never too large."""

import numpy as np
import pytest
import rasterio

from spectile.pipeline.product import quicklook
from spectile.pipeline.product.quicklook import quicklook_names, write_quicklook
from spectile.pipeline.product.report_measures import spread_points
from spectile.pipeline.product.view import open_view
from tests.pipeline.cubes import content, make
from tests.pipeline.fakes import NORTH_UP


def test_the_pictures_stand_beside_the_cube_and_the_cog_lies_in_its_place(cube):
    png, cog = (cube.storage.root.parent / name for name in quicklook_names(cube.storage.name))
    assert write_quicklook(cube.storage) == str(png)
    assert png.read_bytes().startswith(b"\x89PNG")
    with rasterio.open(cog) as dataset:
        assert dataset.shape == (600, 1100)
        assert dataset.crs.to_epsg() == 32619
        assert dataset.transform == cube.plan.grid.transform
        mask = dataset.dataset_mask() > 0
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    np.testing.assert_array_equal(mask, content(cube.plan.window).valid)


def test_pictures_of_a_large_cube_are_averaged_down(tmp_path):
    cube = make(tmp_path, shape=(30, 4200))
    write_quicklook(cube.storage)
    with rasterio.open(cube.storage.root.parent / quicklook_names(cube.storage.name)[1]) as dataset:
        assert dataset.shape == (8, 1050)
        assert dataset.transform.a == pytest.approx(4 * NORTH_UP.a)


def test_it_numbers_the_pixels_that_the_report_numbers(whole):
    view = open_view(whole.storage)
    spectra, points = quicklook._spectra(view.group, 4), spread_points(view)
    assert [(row * 4, col * 4) for row, col, _ in spectra] == [(p.row, p.col) for p in points]
    for (_, _, spectrum), point in zip(spectra, points, strict=True):
        np.testing.assert_allclose(spectrum, point.spectrum.reflectance, atol=1e-6)
