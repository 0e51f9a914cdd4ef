"""Small scenes, shared by the tests of the pipeline."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from tests.pipeline.fakes import NORTH_UP


@pytest.fixture
def write_scene(tmp_path: Path) -> Callable[..., Path]:
    """Write an array (count, rows, cols) as a GeoTIFF; the path."""

    def write(array: np.ndarray, name: str = "scene.tif", **options) -> Path:
        array = np.asarray(array)
        mask, scales, offsets, colours = (
            options.pop(key, None) for key in ("mask", "scales", "offsets", "colorinterp")
        )
        profile = {
            "driver": "GTiff", "count": array.shape[0], "height": array.shape[1], "width": array.shape[2],
            "dtype": array.dtype, "crs": "EPSG:32619", "transform": NORTH_UP, **options,
        }  # fmt: skip
        path = tmp_path / name
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as dataset:
            dataset.write(array)
            if mask is not None:
                dataset.write_mask(mask)
            if scales is not None:
                dataset.scales = scales
            if offsets is not None:
                dataset.offsets = offsets
            if colours is not None:
                dataset.colorinterp = colours
        return path

    return write


@pytest.fixture
def picture() -> np.ndarray:
    """A uint8 RGB picture of awkward size, (3, 150, 210)."""
    rng = np.random.default_rng(7)
    return rng.integers(1, 255, (3, 150, 210), dtype=np.uint8)
