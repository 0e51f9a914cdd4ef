import pytest
from affine import Affine
from rasterio.crs import CRS

from spectile.catalog.errors import SceneError
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.places import check_place

UTM = CRS.from_epsg(32619).to_wkt()
DEGREES = CRS.from_epsg(4326).to_wkt()
SITE = 'LOCAL_CS["site",UNIT["metre",1]]'


def test_a_scene_on_the_globe_needs_no_notice():
    assert check_place(Grid((10, 10), Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000), UTM), "a.tif") is None


def test_a_site_with_a_crs_of_its_own_is_told_and_taken():
    notice = check_place(Grid((10, 10), Affine(1, 0, 0, 0, -1, 0), SITE), "folder/a.tif")
    assert notice is not None
    assert notice.startswith("a.tif: it cannot be drawn on the globe")


def test_a_climate_grid_may_have_the_centres_of_pixels_on_the_poles():
    assert check_place(Grid((181, 360), Affine(1, 0, -180.5, 0, -1, 90.5), DEGREES), "a.tif") is None


@pytest.mark.parametrize(
    ("transform", "wkt", "got"),
    [
        (Affine(0.5, 0, float("nan"), 0, -0.5, 0), UTM, "a transform of"),
        (Affine(0, 0, 320_000, 0, -0.5, 4_881_000), UTM, "pixels of 0"),
        (Affine(1e-10, 0, 320_000, 0, -1e-10, 4_881_000), UTM, "pixels of 1e-10"),
        (Affine(0.1, 0, 0, 0, -0.1, 92), DEGREES, "latitudes of 91 to 92"),
        (Affine(1, 0, 0, 0, -1, 0), CRS.from_epsg(4978).to_wkt(), "geocentric"),
    ],
)  # fmt: skip
def test_a_place_that_is_none_is_refused_with_the_remedy(transform, wkt, got):
    with pytest.raises(SceneError, match=rf"a\.tif: the scene's georeference .*{got}.*rio edit-info"):
        check_place(Grid((10, 10), transform, wkt), "a.tif")
