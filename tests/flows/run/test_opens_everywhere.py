"""One cube, opened with what people use: the same place and the same reflectance everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import odc.geo.xr  # noqa: F401  (adds the .odc accessor)
import pytest
import rasterio
import rioxarray
import xarray as xr
from rasterio.crs import CRS

import spectile
from spectile.flows.commands import app as cli
from spectile.pipeline.product.export import FORMATS, export_cube
from spectile.pipeline.simulate.scene import Simulator

SCENES = ("simulated", pytest.param("real", marks=pytest.mark.data))
NAMES = {"cog": "c.tif", "geotiff": "g.tif", "envi": "e.img", "netcdf": "n.nc", "zarr2": "z.zarr"}
BART = "neon/2019_BART_5_320000_4881000_image_crop.tif"
NODATA = 65535


@dataclass(frozen=True)
class Made:
    """A cube, its exports, and what all of them must say."""

    cube: Path
    exports: dict[str, Path]
    crs: CRS
    bounds: tuple[float, float, float, float]
    wavelength: np.ndarray
    points: list[tuple[float, float]]
    spectra: np.ndarray


def make(scene: Path, folder: Path, *options: str) -> Made:
    cube = folder / "cube.zarr"
    run = ("run", scene, "--out", cube, "--model", "bands-repeat", "--block", "512", *options)
    assert cli.main([str(argument) for argument in run]) == 0
    exports = {to: folder / NAMES[to] for to in FORMATS}
    for to, path in exports.items():
        export_cube(cube, path, to=to)
    with spectile.open_cube(cube) as opened:
        counts = opened.reflectance.load()
        rows, cols = np.linspace(0.1, 0.9, 10), np.roll(np.linspace(0.1, 0.9, 10), 3)
        at = [(int(row * counts.sizes["y"]), int(col * counts.sizes["x"])) for row, col in
              zip(rows, cols, strict=True)]  # fmt: skip
        points = [counts.rio.transform() @ (col + 0.5, row + 0.5) for row, col in at]
        spectra = np.stack([counts.values[:, row, col] for row, col in at])
        assert np.isfinite(spectra).all()
        assert np.ptp(spectra, axis=0).min() > 0, "places differ, so that a wrong one is found"
        bounds = counts.rio.bounds()
        return Made(cube, exports, CRS(counts.rio.crs), bounds, opened.wavelength.values, points, spectra)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("simulated")
    Simulator(seed=3, shape=(270, 301)).write_rgb(folder / "scene.tif", nodata_border=5)
    return make(folder / "scene.tif", folder)


@pytest.fixture(scope="module")
def real(data_dir, tmp_path_factory) -> Made:
    scene = data_dir / BART
    with rasterio.open(scene) as dataset:
        left, top = dataset.transform @ (200, 100)
        right, bottom = dataset.transform @ (500, 370)
    region = f"{left},{bottom},{right},{top}"
    return make(scene, tmp_path_factory.mktemp("real"), "--radiometry", "display", "--region", region)


@pytest.fixture(params=SCENES)
def made(request) -> Made:
    found: Made = request.getfixturevalue(request.param)
    return found


def same(made: Made, crs: object, bounds: object, wavelength: object, spectra: object) -> None:
    assert CRS.from_user_input(crs) == made.crs
    np.testing.assert_allclose(np.ravel(bounds), made.bounds, rtol=0, atol=1e-6)
    np.testing.assert_allclose(wavelength, made.wavelength, rtol=1e-6)
    # A tenth of a stored count: decoders multiply in float32 or float64.
    np.testing.assert_allclose(np.asarray(spectra, np.float64), made.spectra, rtol=0, atol=1e-5)


def nearest(array: xr.DataArray, points: list[tuple[float, float]]) -> np.ndarray:
    x, y = (xr.DataArray(list(side), dims="point") for side in zip(*points, strict=True))
    return array.sel(x=x, y=y, method="nearest").transpose("point", ...).values


@pytest.mark.parametrize("name", ["cube", "zarr2", "netcdf"])
def test_xarray_rioxarray_and_odc_geo_open_it(made: Made, name: str):
    engine = "h5netcdf" if name == "netcdf" else "zarr"
    path = made.cube if name == "cube" else made.exports[name]
    with xr.open_dataset(path, engine=engine, decode_coords="all") as opened:
        array = opened.reflectance
        assert opened.wavelength.units == "nm"
        assert opened.fwhm.dims == ("wavelength",)
        same(made, array.rio.crs, array.rio.bounds(), opened.wavelength, nearest(array, made.points))
        box = opened.odc.geobox
        same(made, str(box.crs), box.boundingbox.bbox, opened.wavelength, nearest(array, made.points))
        assert array.rio.transform() == box.transform


@pytest.mark.parametrize("name", FORMATS)
def test_rasterio_opens_every_export(made: Made, name: str):
    path = made.exports[name]
    with rasterio.open(f"netcdf:{path}:reflectance" if name == "netcdf" else path) as dataset:
        assert dataset.nodata == NODATA
        assert set(dataset.scales) == {1e-4}
        assert set(dataset.offsets) == {0.0}
        assert set(dataset.dtypes) == {"uint16"}
        counts = np.array(list(dataset.sample(made.points)))
        bands = range(1, dataset.count + 1)
        if name in ("cog", "geotiff", "envi"):
            told = [dataset.tags(band, ns="IMAGERY") for band in bands]
            nm = [1000 * float(tags["CENTRAL_WAVELENGTH_UM"]) for tags in told]
            assert [float(text.removesuffix(" nm")) for text in dataset.descriptions] == pytest.approx(
                nm, 1e-5
            )
            assert all(float(tags["FWHM_UM"]) > 0 for tags in told)
        else:
            key = "NETCDF_DIM_wavelength" if name == "netcdf" else "DIM_wavelength_VALUE"
            nm = [float(dataset.tags(band)[key]) for band in bands]
        same(made, dataset.crs, dataset.bounds, nm, counts * 1e-4)


def test_rioxarray_opens_the_cog(made: Made):
    with rioxarray.open_rasterio(made.exports["cog"], mask_and_scale=True) as array:
        same(made, array.rio.crs, array.rio.bounds(), made.wavelength, nearest(array, made.points))


def test_the_cog_is_one(made: Made):
    from rio_cogeo import cog_validate

    assert cog_validate(made.exports["cog"], strict=True) == (True, [], [])


def test_spectral_python_opens_the_envi_file(made: Made):
    from spectral.io import envi

    opened = envi.open(made.exports["envi"].with_suffix(".hdr"), made.exports["envi"])
    assert opened.bands.band_unit == "Nanometers"
    assert len(opened.bands.bandwidths) == len(made.wavelength)
    assert opened.metadata["data ignore value"] == str(NODATA)
    left, top, width, height = (float(opened.metadata["map info"][at]) for at in (3, 4, 5, 6))
    rows, cols, _ = opened.shape
    bounds = (left, top - rows * height, left + cols * width, top)
    pixels = [(int((top - y) / height), int((x - left) / width)) for x, y in made.points]
    wkt = ",".join(opened.metadata["coordinate system string"])
    # Esri's dialect of WKT, which the header has, names no authority.
    assert CRS.from_wkt(wkt).to_epsg(confidence_threshold=20) == made.crs.to_epsg()
    spectra = np.array([opened.read_pixel(*pixel) for pixel in pixels])
    same(made, made.crs, bounds, opened.bands.centers, spectra)


def test_titiler_reads_the_cube_where_it_lies_and_serves_it(made: Made):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient
    from titiler.xarray.factory import TilerFactory
    from titiler.xarray.io import Reader

    with Reader(src_path=str(made.cube), variable="reflectance") as reader:
        spectra = [reader.point(*point, coord_crs=made.crs).data for point in made.points]
        same(made, reader.crs, reader.bounds, reader.input.wavelength, spectra)
    app = FastAPI()
    app.include_router(TilerFactory().router)
    x, y = made.points[4]
    query = {"url": str(made.cube), "variable": "reflectance", "coord_crs": made.crs.to_string()}
    with TestClient(app) as client:
        answer = client.get(f"/point/{x},{y}", params=query)
        assert answer.status_code == 200, answer.text
        np.testing.assert_allclose(answer.json()["values"], made.spectra[4], rtol=0, atol=1e-5)
        box = ",".join(map(str, made.bounds))
        shown = {**query, "sel": "wavelength=nearest::640", "rescale": "0,1"}
        picture = client.get(f"/bbox/{box}.png", params=shown)
        assert picture.status_code == 200, picture.text
        assert picture.content.startswith(b"\x89PNG")
