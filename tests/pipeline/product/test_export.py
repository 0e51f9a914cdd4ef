from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
import zarr
from affine import Affine
from rasterio.crs import CRS

from spectile.catalog.bands import Bands
from spectile.catalog.errors import BlockError, CubeError, StoreError, UsageError
from spectile.pipeline.block.mosaic import Mosaic
from spectile.pipeline.cube.write import create_cube, write_block
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.product import export as exporting
from spectile.pipeline.product import formats as export_formats
from spectile.pipeline.product.export import FORMATS, export_cube
from spectile.pipeline.store.opening import open_storage

SHAPE = (530, 560)
NORTH_UP = Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000)
ROTATED = Affine.translation(320_000, 4_881_000) @ Affine.rotation(20) @ Affine.scale(0.5, -0.5)
BANDS = Bands((450.0, 550.0, 650.0, 850.0), (20.0, 20.0, 30.0, 40.0))
TARGETS = {"cog": "e.tif", "geotiff": "e.tif", "envi": "e.img", "netcdf": "e.nc", "zarr2": "e.zarr"}


def make_cube(path: Path, transform: Affine = NORTH_UP, *, status: str = "complete", crs: str = "") -> Path:
    """A cube of two samples whose every pixel and band differs; its first rows are masked."""
    wkt = crs or CRS.from_epsg(32619).to_wkt()
    grid = Grid(SHAPE, transform, wkt)
    plan = Plan(grid, grid.window, Tiling(SHAPE, 256, 32), 512, len(BANDS), samples=2, layers=("sd",))
    cube = create_cube(open_storage(path), plan, BANDS)
    rows, cols = np.indices(SHAPE, dtype=np.float32)
    for block in plan.blocks:
        at = block.window.slices
        base = (rows[at] * 560 + cols[at]) % 60_000 * np.float32(1e-4) / 2
        samples = base + np.arange(4, dtype=np.float32)[:, None, None] * np.float32(0.01)
        valid = rows[at] >= 9
        write_block(cube, block, Mosaic(np.stack([samples, samples + np.float32(0.002)]), valid, 1, 0))
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"]["spectile"]["status"] = status
    (path / "zarr.json").write_text(json.dumps(root))
    return path


@pytest.fixture(scope="module")
def cube(tmp_path_factory) -> Path:
    return make_cube(tmp_path_factory.mktemp("cube") / "cube.zarr")


@pytest.fixture(scope="module")
def counts(cube) -> np.ndarray:
    return np.asarray(zarr.open_group(cube, mode="r")["reflectance"][:])


def read(path: Path, to: str, layer: str = "reflectance") -> np.ndarray:
    if to in ("netcdf", "zarr2"):
        engine = "h5netcdf" if to == "netcdf" else "zarr"
        with xr.open_dataset(path, engine=engine, mask_and_scale=False, decode_coords="all") as opened:
            return opened[layer].values
    with rasterio.open(path) as dataset:
        return dataset.read()


@pytest.mark.parametrize("to", FORMATS)
def test_bands_and_region_are_those_of_the_cube_count_by_count(cube, counts, tmp_path, to):
    # Over the seam of two shards, and off the lattice of chunks.
    region = (320_000 + 100.5, 4_881_000 - 262, 320_000 + 270, 4_881_000 - 3)
    facts = export_cube(cube, tmp_path / TARGETS[to], to=to, bands="840,500-700", region=region)
    assert facts["shape"] == [3, 518, 339]
    np.testing.assert_array_equal(read(tmp_path / TARGETS[to], to), counts[[3, 1, 2], 6:524, 201:540])
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {TARGETS[to], "e.hdr", "e.img.aux.xml"}, "nothing unfinished is left"
    if to in ("netcdf", "zarr2"):
        with xr.open_dataset(tmp_path / TARGETS[to], decode_coords="all",
                             engine="h5netcdf" if to == "netcdf" else "zarr") as opened:  # fmt: skip
            assert opened.wavelength.values.tolist() == [850, 550, 650]
            assert opened.fwhm.values.tolist() == [40, 20, 30]
            assert opened.rio.bounds() == region
            assert opened.attrs["spectile_digest"]
    else:
        with rasterio.open(tmp_path / TARGETS[to]) as dataset:
            assert dataset.descriptions == ("850 nm", "550 nm", "650 nm")
            assert tuple(dataset.bounds) == region
            assert dataset.tags(1, ns="IMAGERY") == {"CENTRAL_WAVELENGTH_UM": "0.85", "FWHM_UM": "0.04"}


def test_a_region_may_be_in_longitude_and_latitude(cube, tmp_path):
    region = (320_050.0, 4_880_850.0, 320_150.0, 4_880_950.0)
    degrees = rasterio.warp.transform_bounds("EPSG:32619", "EPSG:4326", *region)
    facts = export_cube(cube, tmp_path / "e.tif", to="geotiff", region=degrees, region_crs="EPSG:4326")
    x_min, y_min, x_max, y_max = facts["bounds"]
    assert x_min <= 320_050
    assert y_min <= 4_880_850
    assert x_max >= 320_150
    assert y_max >= 4_880_950
    assert x_max - x_min < 115, "boxes of two CRSs are turned a little"
    with pytest.raises(UsageError, match=r"does not overlap the cube .*--region-crs"):
        export_cube(cube, tmp_path / "no.tif", to="geotiff", region=degrees)
    with pytest.raises(UsageError, match="no place in the cube's CRS"):
        export_cube(cube, tmp_path / "no.tif", to="geotiff", region=degrees, region_crs="EPSG:0")


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
def test_layers_and_maps_without_bands(cube, tmp_path, to):
    export_cube(cube, tmp_path / TARGETS[to], to=to, layer="sd", bands="B002")
    spread = read(tmp_path / TARGETS[to], to, "reflectance_sd")
    assert set(np.unique(spread[0, 9:])) <= {13, 14, 15}, "0.002 / sqrt(2) in counts of 1e-4"
    export_cube(cube, tmp_path / TARGETS[to], to=to, layer="valid", replace=True)
    valid = read(tmp_path / TARGETS[to], to, "valid").reshape(SHAPE)
    assert valid.dtype == np.uint8
    assert not valid[:9].any()
    assert valid[9:].all()


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


@pytest.mark.parametrize("to", ["geotiff", "envi", "zarr2"])
def test_what_is_there_stays_unless_it_is_to_be_replaced(cube, tmp_path, to):
    path = tmp_path / TARGETS[to]
    export_cube(cube, path, to=to, bands="450")
    with pytest.raises(CubeError, match="--replace"):
        export_cube(cube, path, to=to, bands="550")
    export_cube(cube, path, to=to, bands="550,650", replace=True)
    assert read(path, to).shape[0] == 2
    other = tmp_path / ("folder" if to != "zarr2" else "file.zarr")
    if to == "zarr2":
        other.write_text("mine")
    else:
        other.mkdir()
    with pytest.raises(CubeError, match="not an export"):
        export_cube(cube, other, to=to, bands="550", replace=True)
    assert other.exists()


def test_a_folder_that_is_no_export_is_never_replaced(cube, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(CubeError, match="not an export"):
        export_cube(cube, tmp_path / "mine", to="zarr2", replace=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "irreplaceable"
    for out in (cube, cube / "inside.tif", cube.parent):
        with pytest.raises(UsageError, match="overwrite the cube"):
            export_cube(cube, out, to="zarr2", replace=True)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"layer": "q05"}, r"no such layer \(got q05, expected reflectance, sd, valid\)"),
        ({"layer": "valid", "bands": "550"}, "no bands to choose"),
        ({"bands": "700"}, "no band at 700 nm"),
        ({"out": "s3://bucket/e.tif"}, "written to this machine"),
        ({"out": "/no/such/folder/e.tif"}, "folder that exists"),
        ({"out": "e.hdr", "to": "envi"}, r"expected a name that ends in \.img.*name the data e\.img"),
        ({"out": "e.envi", "to": "envi"}, r"name the data e\.envi\.img"),
        ({"out": "scene.2024", "to": "envi"}, r"name the data scene\.2024\.img"),
    ],
)
def test_what_cannot_be_exported_is_refused(cube, tmp_path, monkeypatch, options, error):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=error):
        export_cube(cube, **({"out": "e.tif", "to": "geotiff"} | options))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["e.img", "e.dat", "e.raw", "e.bil", "e.IMG", "plain", "scene.v1.img"])
def test_spectral_python_finds_the_data_of_an_envi_header(cube, tmp_path, name):
    from spectral.io import envi

    export_cube(cube, tmp_path / name, to="envi")
    [header] = tmp_path.glob("*.hdr")
    opened = envi.open(header)
    assert Path(opened.filename) == tmp_path / name
    assert opened.shape == (*SHAPE, 4)


@pytest.mark.parametrize("to", FORMATS)
def test_no_file_of_an_export_tells_the_folder_where_it_was_made(cube, tmp_path, to):
    export_cube(cube, tmp_path / TARGETS[to], to=to)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or tmp_path.name.encode() not in path.read_bytes(), path
    if to == "envi":
        title = "Synthetic hyperspectral reflectance estimated from an RGB scene"
        assert f"\ndescription = {{{title}}}\n" in (tmp_path / "e.hdr").read_text()


def test_an_unfinished_cube_is_exported_on_request_with_nodata_where_it_lacks_blocks(tmp_path):
    cube = make_cube(tmp_path / "cube.zarr", status="incomplete")
    shutil.rmtree(cube / "reflectance" / "c" / "0" / "1")
    with pytest.raises(CubeError, match="--allow-incomplete"):
        export_cube(cube, tmp_path / "e.tif", to="geotiff")
    export_cube(cube, tmp_path / "e.tif", to="geotiff", allow_incomplete=True)
    found = read(tmp_path / "e.tif", "geotiff")
    assert (found[:, 512:] == 65535).all()
    assert (found[:, 9:512] != 65535).all()


def test_a_damaged_shard_is_told_and_leaves_nothing(tmp_path):
    cube = make_cube(tmp_path / "cube.zarr")
    shard = cube / "reflectance" / "c" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[-40:] = bytes(40)
    shard.write_bytes(data)
    with pytest.raises(BlockError, match=r"reflectance at row 0, column 0: .*verify --repair"):
        export_cube(cube, tmp_path / "e.tif", to="geotiff")
    assert [path.name for path in tmp_path.iterdir()] == ["cube.zarr"]


@pytest.mark.parametrize(
    ("number", "free", "error"),
    [
        (errno.ENOSPC, 10**9, "no space left"),
        (errno.EIO, 0, "no space left"),
        (errno.EIO, 10**9, "cannot be written .*Input/output"),
    ],
)
def test_a_disk_that_refuses_leaves_the_old_export(cube, tmp_path, monkeypatch, number, free, error):
    path = tmp_path / "e.tif"
    path.write_bytes(b"old")

    def write(part, path, read):
        read(part.windows()[0])
        path.write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(exporting.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setitem(export_formats.WRITERS, "geotiff", write)
    with pytest.raises(StoreError, match=error):
        export_cube(cube, path, to="geotiff", replace=True)
    assert [each.name for each in tmp_path.iterdir()] == ["e.tif"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("to", ["cog", "geotiff", "envi", "netcdf"])
def test_a_write_that_fails_ends_in_one_line_and_leaves_nothing(cube, tmp_path, to):
    # HDF5 used to crash at the end of the process, which only a process of its own shows.
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); "
        "from spectile.flows.commands import app; sys.exit(app.main(sys.argv[1:]))"
    )
    arguments = ("export", cube, "--to", to, "--out", tmp_path / TARGETS[to], "--dtype", "float32")
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("spectile: error:")
    assert "Traceback" not in done.stderr
    assert "written" in done.stderr
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


def test_a_cube_by_url_is_exported_as_one_of_files(cube, counts, tmp_path, object_server):
    files, there = open_storage(cube), open_storage("s3://bucket/out/cube.zarr")
    for key in files.walk():
        there.put(key, files.get(key) or b"")
    export_cube("s3://bucket/out/cube.zarr", tmp_path / "e.tif", to="geotiff", bands="650")
    np.testing.assert_array_equal(read(tmp_path / "e.tif", "geotiff")[0], counts[2])
