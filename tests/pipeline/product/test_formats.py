"""Each format holds the cube's values in their place, is written square by square, and fails in one line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
import zarr
from rasterio.crs import CRS

from spectile.catalog.counts import NODATA
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.product import export as exporting
from spectile.pipeline.product.export import FORMATS, _select, export_cube
from spectile.pipeline.product.formats import write_cog
from tests.pipeline.product.exports import ROTATED, SHAPE, TARGETS, make_cube, read


@pytest.fixture(scope="module")
def cube(tmp_path_factory) -> Path:
    return make_cube(tmp_path_factory.mktemp("cube") / "cube.zarr")


@pytest.fixture(scope="module")
def counts(cube) -> np.ndarray:
    return np.asarray(zarr.open_group(cube, mode="r")["reflectance"][:])


@pytest.mark.parametrize("to", FORMATS)
def test_float32_is_reflectance_with_nan_for_none(cube, counts, tmp_path, to):
    export_cube(cube, tmp_path / TARGETS[to], to=to, dtype="float32", bands="550")
    found = read(tmp_path / TARGETS[to], to)
    assert found.dtype == np.float32
    assert np.isnan(found[0, :9]).all()
    np.testing.assert_allclose(found[0, 9:], counts[1, 9:] * 1e-4, rtol=1e-6)
    if to not in ("netcdf", "zarr2"):
        with rasterio.open(tmp_path / TARGETS[to]) as dataset:
            assert np.isnan(dataset.nodata)
            assert dataset.scales == (1.0,)


@pytest.mark.parametrize("to", FORMATS)
def test_rotation_and_a_crs_without_code_are_kept_where_the_format_can(tmp_path, to):
    wkt = CRS.from_proj4("+proj=tmerc +lat_0=1 +lon_0=-69.5 +k=0.9 +x_0=5 +ellps=GRS80 +units=m").to_wkt()
    turned = make_cube(tmp_path / "cube.zarr", ROTATED, crs=wkt)
    path = tmp_path / TARGETS[to] if to != "zarr2" else tmp_path / "two.zarr"
    export_cube(turned, path, to=to, bands="550")
    if to in ("netcdf", "zarr2"):
        with xr.open_dataset(path, engine="h5netcdf" if to == "netcdf" else "zarr",
                             decode_coords="all") as opened:  # fmt: skip
            transform, crs = opened.rio.transform(), opened.rio.crs
    else:
        with rasterio.open(path) as dataset:
            transform, crs = dataset.transform, dataset.crs
    assert np.allclose(transform, ROTATED, rtol=0, atol=1e-6)
    assert CRS.from_user_input(crs).to_dict()["lon_0"] == -69.5
    assert CRS.from_user_input(crs).to_epsg() is None


@pytest.mark.parametrize("name", ["e.img", "e.dat", "e.raw", "e.bil", "e.IMG", "plain", "scene.v1.img"])
def test_spectral_python_finds_the_data_of_an_envi_header(cube, tmp_path, name):
    from spectral.io import envi

    export_cube(cube, tmp_path / name, to="envi")
    [header] = tmp_path.glob("*.hdr")
    opened = envi.open(header)
    assert Path(opened.filename) == tmp_path / name
    assert opened.shape == (*SHAPE, 4)


def test_a_write_that_fails_ends_in_one_line_and_leaves_nothing(cube, tmp_path):
    # In a process of its own: HDF5 used to crash at its end.
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); "
        "from spectile.flows.commands import app; folder = sys.argv[1]; "
        "print([app.main(sys.argv[2:] + ['--to', to, '--out', f'{folder}/{name}']) "
        f"for to, name in {[(to, TARGETS[to]) for to in ('cog', 'geotiff', 'envi', 'netcdf')]}])"
    )
    arguments = (tmp_path, "export", cube, "--dtype", "float32")
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[1, 1, 1, 1]\n"), done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("spectile: error:")]
    assert len(errors) == 4
    assert all("written" in line for line in errors)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", FORMATS)
def test_every_square_is_read_once_by_itself_and_counted(cube, tmp_path, monkeypatch, to):
    held, told = [], []
    read_square = exporting.Part.read

    def read_and_note(part, square):
        values = read_square(part, square)
        held.append(values.shape)
        return values

    monkeypatch.setattr(exporting.Part, "read", read_and_note)
    export_cube(cube, tmp_path / TARGETS[to], to=to, progress=lambda *counts: told.append(counts))
    assert sorted(held, reverse=True) == [(4, 512, 512), (4, 512, 48), (4, 18, 512), (4, 18, 48)]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(("side", "factors"), [(300, [2]), (600, [2]), (1100, [2, 4])])
def test_the_overviews_of_a_cog_are_means_of_what_is_not_nodata(cube, tmp_path, side, factors):
    part = _select(str(cube), "550", None, None, "reflectance", "stored", False)
    grid = Grid((64, side), part.grid.transform, part.grid.crs_wkt)
    counts = np.random.default_rng(0).integers(0, 9000, (1, *grid.shape)).astype(np.uint16)
    counts[np.random.default_rng(1).random(counts.shape) < 0.2] = NODATA
    grown = replace(part, window=grid.window, grid=grid)
    write_cog(grown, tmp_path / "e.tif", lambda at: counts[:, *at.slices])
    held = np.where(counts[0] == NODATA, np.nan, counts[0]).reshape(32, 2, side // 2, 2)
    with rasterio.open(tmp_path / "e.tif") as dataset:
        assert dataset.overviews(1) == factors
    with rasterio.open(tmp_path / "e.tif", overview_level=0) as dataset:
        found = dataset.read(1)
    known = ~np.isnan(held).all(axis=(1, 3))
    np.testing.assert_array_equal(found != NODATA, known)
    np.testing.assert_allclose(found[known], np.nanmean(held.swapaxes(1, 2)[known], axis=(1, 2)), atol=1)
    assert [path.name for path in tmp_path.iterdir()] == ["e.tif"]
