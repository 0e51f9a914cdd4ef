"""Files and their drivers; what is hostile is in tests/hostile."""

import numpy as np
import pytest
import rasterio

from spectile.catalog.errors import SceneError
from spectile.pipeline.files import opening
from spectile.pipeline.files.opening import (
    block_bytes,
    check_listed,
    check_size,
    gdal_errors,
    is_tiff,
    open_raster,
)

PLACE = rasterio.Affine(1, 0, 5, 0, -1, 9)


@pytest.mark.parametrize(
    ("driver", "name", "listed"),
    [("GTiff", "a.dat", True), ("JP2OpenJPEG", "a.jp2", True), ("PNG", "a.tif", False),
     ("ENVI", "a.img", False)],
)  # fmt: skip
def test_the_driver_is_told_by_the_first_bytes_not_by_the_name(tmp_path, driver, name, listed):
    path = tmp_path / name
    options = {"photometric": "RGB"} if driver == "GTiff" else {}
    with rasterio.open(
        path, "w", driver=driver, count=3, height=8, width=9, dtype="uint8", crs="EPSG:32619",
        transform=PLACE, **options,
    ) as made:  # fmt: skip
        made.write(np.full((3, 8, 9), 7, np.uint8))
    with open_raster(str(path)) as dataset:
        assert dataset.driver == driver
        assert dataset.shape == (8, 9)
    assert is_tiff(path) == (driver == "GTiff")
    if listed:
        check_listed(path)
    else:
        with pytest.raises(SceneError, match="may not name a file of this format"):
            check_listed(path)


def test_what_is_no_raster_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "a.tif").write_text("not a picture")
    with pytest.raises(SceneError, match=r"not a raster that can be opened .*rio convert"):
        open_raster(str(tmp_path / "a.tif"))
    with pytest.raises(SceneError, match="no such file"):
        open_raster(str(tmp_path / "b.tif"))


def test_a_block_is_as_large_as_the_bands_that_are_stored_together(tmp_path):
    for interleave, together in (("band", 1), ("pixel", 3)):
        path = tmp_path / f"{interleave}.tif"
        rasterio.open(
            path, "w", driver="GTiff", count=3, height=64, width=64, dtype="uint16", tiled=True,
            blockxsize=32, blockysize=16, interleave=interleave, transform=PLACE,
        ).close()  # fmt: skip
        with rasterio.open(path) as dataset:
            assert block_bytes(dataset) == 32 * 16 * 2 * together


def test_what_is_too_large_is_refused_before_it_is_read(make_scene, monkeypatch):
    with rasterio.open(make_scene()) as dataset:
        check_size(dataset, dataset.name)
        for limit, why in (
            ("MOST_PIXELS", "the scene is too large"),
            ("MOST_BLOCK_BYTES", "too large to read"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(opening, limit, 10)
                with pytest.raises(SceneError, match=why):
                    check_size(dataset, dataset.name)


def test_an_error_of_gdal_is_told_in_a_line_and_a_bug_is_not_hidden():
    with pytest.raises(SceneError, match="a: damaged"), gdal_errors("a", "damaged"):
        raise rasterio.errors.RasterioIOError("one\ntwo")
    with pytest.raises(ZeroDivisionError), gdal_errors("a", "damaged"):
        1 / 0  # noqa: B018
