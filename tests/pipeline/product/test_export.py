from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
import zarr

from spectile.catalog.errors import BlockError, CubeError, StoreError, UsageError
from spectile.pipeline.product import export as exporting
from spectile.pipeline.product import formats as export_formats
from spectile.pipeline.product.export import FORMATS, export_cube
from spectile.pipeline.store.opening import open_storage
from tests.pipeline.product.exports import ENDMEMBERS, SHAPE, TARGETS, make_cube, read


@pytest.fixture(scope="module")
def cube(tmp_path_factory) -> Path:
    return make_cube(tmp_path_factory.mktemp("cube") / "cube.zarr")


@pytest.fixture(scope="module")
def counts(cube) -> np.ndarray:
    return np.asarray(zarr.open_group(cube, mode="r")["reflectance"][:])


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
def test_shares_are_exported_with_the_names_of_their_spectra(cube, tmp_path, to):
    facts = export_cube(cube, tmp_path / TARGETS[to], to=to, layer="abundance")
    assert facts["shape"] == [2, *SHAPE]
    shares = read(tmp_path / TARGETS[to], to, "abundance")
    np.testing.assert_array_equal(shares, zarr.open_group(cube, mode="r")["abundance"][:])
    if to in ("netcdf", "zarr2"):
        with xr.open_dataset(tmp_path / TARGETS[to], decode_coords="all",
                             engine="h5netcdf" if to == "netcdf" else "zarr") as opened:  # fmt: skip
            assert opened.endmember.values.tolist() == list(ENDMEMBERS)
    else:
        with rasterio.open(tmp_path / TARGETS[to]) as dataset:
            # A header of ENVI separates names by commas.
            assert [name.replace(":", ",") for name in dataset.descriptions] == list(ENDMEMBERS)
    with pytest.raises(UsageError, match="no bands to choose"):
        export_cube(cube, tmp_path / "no.tif", to="geotiff", layer="abundance", bands="550")


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
        ({"layer": "q05"}, r"no such layer \(got q05, expected abundance, reflectance, sd, valid\)"),
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


@pytest.mark.parametrize("to", FORMATS)
def test_no_file_of_an_export_tells_the_folder_where_it_was_made(cube, tmp_path, to):
    export_cube(cube, tmp_path / TARGETS[to], to=to)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or tmp_path.name.encode() not in path.read_bytes(), path
    if to == "envi":
        title = "Synthetic hyperspectral reflectance estimated from a scene of few bands"
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


def test_a_cube_by_url_is_exported_as_one_of_files(cube, counts, tmp_path, object_server):
    files, there = open_storage(cube), open_storage("s3://bucket/out/cube.zarr")
    for key in files.walk():
        there.put(key, files.get(key) or b"")
    export_cube("s3://bucket/out/cube.zarr", tmp_path / "e.tif", to="geotiff", bands="650")
    np.testing.assert_array_equal(read(tmp_path / "e.tif", "geotiff")[0], counts[2])
