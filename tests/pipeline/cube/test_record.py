import json
import shutil
from dataclasses import replace

import numpy as np
import odc.geo.xr  # noqa: F401
import pytest
import rasterio
import xarray as xr
import zarr
from affine import Affine

from spectile.catalog.bands import Bands
from spectile.catalog.errors import CubeError, StoreError
from spectile.pipeline.block.mosaic import Mosaic
from spectile.pipeline.cube.finish import finalise
from spectile.pipeline.cube.layout import lay_out
from spectile.pipeline.cube.record import (
    Cube,
    finished_blocks,
    is_laid_out,
    load_plan,
    open_cube,
    read_status,
    shard_keys,
)
from spectile.pipeline.cube.verify import inspect_cube, verify_cube
from spectile.pipeline.cube.write import create_cube, write_block
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.cost import Workload
from spectile.pipeline.plan.counts import NODATA, encode
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.product.quicklook import quicklook_names, write_quicklook
from spectile.pipeline.store.local import LocalStorage
from spectile.pipeline.store.opening import open_storage
from tests.pipeline.fakes import NORTH_UP, UTM, Positional

BANDS = Positional().bands
ROTATED = Affine.translation(320_000, 4_881_000) @ Affine.rotation(25) @ Affine.scale(0.5, -0.5)


def content(window: Window, samples: int = 1) -> Mosaic:
    """Spectra that name their place, with a masked corner of the scene."""
    rows = np.arange(window.row, window.row_stop)[:, None]
    cols = np.arange(window.col, window.col_stop)
    base = 0.1 + 1e-4 * (rows % 700) + 2e-4 * (cols % 300)
    spectra = np.stack([base + 0.01 * b for b in range(len(BANDS))])
    layers = np.stack([spectra + 0.02 * k for k in range(samples)]).astype(np.float32)
    return Mosaic(layers, (rows + cols) > 40, 9, 1)


def make(
    tmp_path, *, shape=(600, 1100), samples=1, layers=(), transform=NORTH_UP, window=None, finished=True,
    quality=(),
) -> Cube:  # fmt: skip
    grid = Grid(shape, transform, UTM)
    plan = Plan(
        grid, window or grid.window, Tiling(shape), 512, len(BANDS), samples, layers, {"seed": 0}, (), quality
    )  # fmt: skip
    cube = create_cube(open_storage(tmp_path / "cube.zarr"), plan, BANDS)
    if finished:
        for block in plan.blocks:
            write_block(cube, block, content(block.window, samples))
        write_quicklook(cube.storage)
        finalise(cube, attributes={"tiles": 9})
    return cube


def test_what_was_written_is_read_back_to_half_a_count(tmp_path):
    cube = make(tmp_path)
    expected = content(cube.plan.window)
    found = open_cube(cube.storage.root)
    assert found.reflectance.dtype == np.float32
    assert found.reflectance.dims == ("wavelength", "y", "x")
    values = found.reflectance.values
    np.testing.assert_allclose(
        values[:, expected.valid], expected.samples[0][:, expected.valid], atol=0.51e-4
    )
    assert np.isnan(values[:, ~expected.valid]).all()
    np.testing.assert_array_equal(found.valid.values.astype(bool), expected.valid)
    np.testing.assert_allclose(found.wavelength, BANDS.centre_nm)
    np.testing.assert_allclose(found.fwhm, BANDS.fwhm_nm)


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED, Affine(0.5, 0, 3e5, 0, 0.25, 4e6)])
def test_the_cube_lies_where_the_scene_lies_for_every_reader(tmp_path, transform):
    cube = make(tmp_path, transform=transform)
    plain = xr.open_zarr(cube.storage.root)
    for dataset in (plain, open_cube(cube.storage.root)):
        assert dataset.reflectance.rio.crs.to_epsg() == 32619
        assert dataset.reflectance.rio.transform() == transform
        assert ("x" in dataset.coords) == cube.plan.grid.is_axis_aligned
        if cube.plan.grid.is_axis_aligned:
            box = dataset.reflectance.odc.geobox
            assert tuple(box.affine)[:6] == pytest.approx(tuple(transform)[:6])
            assert box.crs.epsg == 32619
    assert plain.attrs["spatial:transform"] == list(transform)[:6]
    assert "units" in plain.wavelength.attrs


@pytest.mark.parametrize(
    ("crs", "y", "x"),
    [
        ("EPSG:32619", ("projection_y_coordinate", "m"), ("projection_x_coordinate", "m")),
        ("EPSG:2263", ("projection_y_coordinate", "0.304800609601219 m"),
         ("projection_x_coordinate", "0.304800609601219 m")),
        ("EPSG:2222", ("projection_y_coordinate", "0.3048 m"), ("projection_x_coordinate", "0.3048 m")),
        ("EPSG:4326", ("latitude", "degrees_north"), ("longitude", "degrees_east")),
        ("EPSG:4807", ("latitude", "0.0157079632679489 rad"), ("longitude", "0.0157079632679489 rad")),
        ("+proj=ob_tran +o_proj=longlat +o_lat_p=30 +lon_0=10", ("grid_latitude", "degrees"),
         ("grid_longitude", "degrees")),
        ('LOCAL_CS["site",UNIT["kilometre",1000]]', ("projection_y_coordinate", "1000 m"),
         ("projection_x_coordinate", "1000 m")),
    ],
)  # fmt: skip
def test_the_axes_have_the_names_and_units_of_their_crs(crs, y, x):
    wkt = rasterio.crs.CRS.from_user_input(crs).to_wkt()
    grid = Grid((20, 30), Affine(0.001, 0, 10, 0, -0.001, 40), wkt)
    objects = lay_out(Plan(grid, grid.window, Tiling(grid.shape), 512, len(BANDS)), BANDS)
    for axis, expected in (("y", y), ("x", x)):
        said = json.loads(objects[f"{axis}/zarr.json"])["attributes"]
        assert (said["standard_name"], said["units"]) == expected


def test_a_region_lies_where_it_was_cut(tmp_path):
    window = Window(100, 200, 400, 300)
    cube = make(tmp_path, window=window)
    found = open_cube(cube.storage.root)
    assert found.reflectance.rio.transform() == cube.plan.grid[window].transform
    np.testing.assert_allclose(found.reflectance.values, content(window).samples[0], atol=0.51e-4)


def test_several_samples_give_mean_and_standard_deviation(tmp_path):
    found = open_cube(make(tmp_path, samples=3, layers=("sd",)).storage.root)
    expected = content(Window(0, 0, 600, 1100), 3)
    inside = expected.valid
    for name, layer in (
        ("reflectance", expected.samples.mean(axis=0)),
        ("reflectance_sd", expected.samples.std(axis=0, ddof=1)),
    ):
        np.testing.assert_allclose(found[name].values[:, inside], layer[:, inside], atol=0.6e-4)


def test_counts_are_clipped_and_masked():
    values = np.array([[[-0.1, 0.00004, 0.25, 9.0, np.nan]]], np.float32)
    valid = np.array([[True, True, True, True, False]])
    assert encode(values, valid).tolist() == [[[0, 0, 2500, NODATA - 1, NODATA]]]


def test_a_cube_stays_incomplete_until_every_block_is_done(tmp_path):
    cube = make(tmp_path, finished=False)
    first, *rest = cube.plan.blocks
    write_block(cube, first, content(first.window))
    assert list(finished_blocks(cube)) == [first]
    assert read_status(cube.storage)["status"] == "incomplete"
    with pytest.raises(CubeError, match="not finished"):
        open_cube(cube.storage.root)
    with pytest.raises(CubeError, match="blocks are missing"):
        finalise(cube, attributes={})
    assert len(verify_cube(cube.storage)) == len(rest)


@pytest.mark.parametrize(
    ("bands", "chunk", "shard"),
    [
        (6, 6, 6), (16, 16, 16), (17, 16, 32), (48, 16, 48), (102, 16, 112), (103, 16, 112), (191, 16, 192),
    ],
)  # fmt: skip
def test_chunks_are_of_16_bands_whatever_their_number(bands, chunk, shard):
    grid = Grid((600, 600), NORTH_UP, UTM)
    plan = Plan(grid, grid.window, Tiling(grid.shape), 512, bands, 2, ("sd",))
    objects = lay_out(plan, Bands.evenly_spaced(400, 2400, bands))
    for name in ("reflectance", "reflectance_sd", "overviews/2/reflectance"):
        metadata = json.loads(objects[f"{name}/zarr.json"])
        assert metadata["shape"][0] == bands
        assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [shard, 512, 512]
        assert metadata["codecs"][0]["configuration"]["chunk_shape"] == [chunk, 256, 256]
    # The bands that fill a shard up are written as chunks like the others, and so count as memory.
    full = Workload(replace(plan, bands=shard), 3).estimate().peak_memory_bytes
    sums = 512 * 512 * (shard - bands) * 4 * plan.samples
    assert full - Workload(plan, 3).estimate().peak_memory_bytes == sums


def test_a_cube_of_a_prime_number_of_bands_is_whole_in_every_respect(tmp_path):
    grid, rng = Grid((600, 530), NORTH_UP, UTM), np.random.default_rng(0)
    plan = Plan(grid, grid.window, Tiling(grid.shape), 512, 19)
    bands = Bands.evenly_spaced(400, 2400, 19)
    cube = create_cube(open_storage(tmp_path / "cube.zarr"), plan, bands)
    counts = rng.integers(0, 9000, (19, *grid.shape)).astype(np.float32)
    for block in plan.blocks:
        part = counts[(slice(None), *block.window.slices)] * np.float32(1e-4)
        write_block(cube, block, Mosaic(part[None], np.ones(block.window.shape, bool), 1, 0))
    write_quicklook(cube.storage)
    finalise(cube, attributes={})
    assert verify_cube(cube.storage) == []
    stored = zarr.open_array(cube.storage.root / "reflectance", mode="r")
    np.testing.assert_array_equal(stored[:], counts)
    np.testing.assert_array_equal(stored[18, 590:, 520:], counts[18, 590:, 520:])
    coarse = open_cube(cube.storage.root, overview=2).reflectance.values
    np.testing.assert_allclose(coarse[:, 7, 9], counts[:, 14:16, 18:20].mean((1, 2)) * 1e-4, atol=0.51e-4)


def test_the_plan_is_read_back_from_the_cube(tmp_path):
    cube = make(tmp_path, transform=ROTATED)
    assert load_plan(cube.storage) == cube.plan


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "empty"])
@pytest.mark.parametrize("name", ["reflectance", "valid"])
def test_every_damage_to_a_shard_is_found_and_its_block_named(tmp_path, harm, name):
    cube = make(tmp_path)
    assert verify_cube(cube.storage) == []
    block = cube.plan.blocks[1]
    key = next(key for key in shard_keys(cube, block) if key.startswith(name + "/"))
    path = cube.storage.root / key
    value = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    else:
        value[len(value) // 2] ^= 1
        path.write_bytes({"truncate": value[:-7], "flip": value, "empty": b""}[harm])
    (problem,) = verify_cube(cube.storage)
    assert block.name in problem
    assert key in problem


def test_a_damaged_marker_makes_its_block_undone(tmp_path):
    cube = make(tmp_path)
    marker = cube.storage.root / "ledger" / f"{cube.plan.blocks[0].name}.json"
    for text in (b"", b"{", b"[]", b'"x"', json.dumps({"digest": cube.plan.digest}).encode()):
        marker.write_bytes(text)
        assert len(finished_blocks(cube)) == len(cube.plan.blocks) - 1


def test_a_block_is_rebuilt_over_a_truncated_shard(tmp_path):
    cube = make(tmp_path)
    block = cube.plan.blocks[-1]
    for key in shard_keys(cube, block):
        path = cube.storage.root / key
        path.write_bytes(path.read_bytes()[:-20])
    write_block(cube, block, content(block.window))
    assert verify_cube(cube.storage) == []


def test_the_same_block_written_twice_gives_the_same_bytes(tmp_path):
    cube = make(tmp_path)
    block = cube.plan.blocks[0]
    keys = shard_keys(cube, block)
    before = [cube.storage.get(key) for key in keys]
    write_block(cube, block, content(block.window))
    assert [cube.storage.get(key) for key in keys] == before


@pytest.mark.parametrize("puts", [0, 1, 2, 3, 6])
def test_a_cube_that_is_half_replaced_claims_no_block_of_the_old_one(tmp_path, monkeypatch, puts):
    cube = make(tmp_path)
    left = iter(range(puts))
    put = LocalStorage.put

    def killed(self, key, value) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        put(self, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            create_cube(cube.storage, cube.plan, BANDS, replace=True)
    # The same plan: its markers would count, if they were still there once it can be resumed.
    assert is_laid_out(cube.storage) is (puts == 0)
    assert read_status(cube.storage)["status"] == ("incomplete" if puts > 1 else "complete")
    create_cube(cube.storage, cube.plan, BANDS, replace=True)
    assert is_laid_out(cube.storage)
    assert finished_blocks(cube) == {}


def test_a_cube_is_replaced_by_a_smaller_one_with_fewer_layers_without_leftovers(tmp_path):
    make(tmp_path, samples=3, layers=("sd",))
    storage = open_storage(tmp_path / "cube.zarr")
    smaller = Plan(Grid((600, 600), NORTH_UP, UTM), Window(0, 0, 600, 600), Tiling((600, 600)), 1024,
                   len(BANDS), 1, (), {"seed": 0})  # fmt: skip
    cube = create_cube(storage, smaller, BANDS, replace=True)
    for block in smaller.blocks:
        write_block(cube, block, content(block.window))
    left = inspect_cube(storage).extra
    assert {"reflectance_sd/zarr.json", "valid/c/0/2", "ledger/r0001c0001.json"} <= set(left)
    finalise(cube, attributes={})
    assert verify_cube(storage) == []
    assert not list(tmp_path.glob("cube.zarr/reflectance_sd/**/*.*"))
    fresh = create_cube(open_storage(tmp_path / "fresh.zarr"), smaller, BANDS)
    for block in smaller.blocks:
        write_block(fresh, block, content(block.window))
    finalise(fresh, attributes={})
    assert set(storage.walk()) == set(fresh.storage.walk())
    for key in storage.walk():
        if not key.startswith("ledger/r"):  # markers tell seconds
            assert storage.get(key) == fresh.storage.get(key), key


def test_a_block_that_is_masked_all_over_is_written_and_verified(tmp_path):
    cube = make(tmp_path, finished=False)
    block = cube.plan.blocks[0]
    mosaic = content(block.window)
    write_block(cube, block, Mosaic(mosaic.samples, np.zeros_like(mosaic.valid), 0, 10))
    assert block in finished_blocks(cube)
    assert inspect_cube(cube.storage).blocks == list(cube.plan.blocks[1:])


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("zarr.json", "zarr.json is damaged"), ("valid/zarr.json", "valid/zarr.json is damaged"),
        ("wavelength/c/0", "wavelength/c/0 is damaged"), ("ledger/plan.json", "ledger/plan.json is damaged"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("harm", ["flip", "empty"])
def test_damaged_metadata_are_found(tmp_path, key, told, harm):
    cube = make(tmp_path)
    value = bytearray(cube.storage.get(key))
    at = value.find(b"reflectance") if b"reflectance" in value else len(value) // 2
    value[at] ^= 1
    cube.storage.put(key, b"" if harm == "empty" else bytes(value))
    assert told in verify_cube(cube.storage)


def test_places_that_hold_no_cube_are_told(tmp_path):
    with pytest.raises(CubeError, match="no such store"):
        read_status(open_storage(tmp_path / "nothing"))
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(CubeError, match="something else"):
        read_status(open_storage(tmp_path / "other.zarr"))
    with pytest.raises(CubeError, match="exists"):
        create_cube(open_storage(tmp_path / "other.zarr"), make(tmp_path).plan, BANDS)


def test_a_changed_plan_in_the_attributes_is_found(tmp_path):
    cube = make(tmp_path)
    root = json.loads(cube.storage.get("zarr.json"))
    root["attributes"]["spectile"]["plan"]["settings"]["seed"] = 5
    cube.storage.put("zarr.json", json.dumps(root).encode())
    with pytest.raises(CubeError, match="damaged"):
        load_plan(cube.storage)


def test_a_store_that_vanishes_is_an_error_of_one_line(tmp_path):
    cube = make(tmp_path, finished=False)
    shutil.rmtree(cube.storage.root)
    cube.storage.root.write_text("now a file")
    with pytest.raises(StoreError, match="cannot be written"):
        write_block(cube, cube.plan.blocks[0], content(cube.plan.blocks[0].window))


def test_listing_the_store_meets_nothing_unknown(tmp_path):
    # Warnings are errors: zarr warns of objects that it does not recognise.
    group = zarr.open_group(make(tmp_path).storage.root, mode="r", use_consolidated=False)
    assert {"reflectance", "valid", "wavelength", "fwhm", "spatial_ref", "ledger"} <= dict(
        group.members()
    ).keys()


def test_the_pictures_stand_beside_the_cube_and_the_cog_lies_in_its_place(tmp_path):
    cube = make(tmp_path)
    png, cog = (cube.storage.root.parent / name for name in quicklook_names(cube.storage.name))
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
    with rasterio.open(cube.storage.root.parent / quicklook_names(cube.storage.name)[1]) as dataset:
        assert dataset.shape == (8, 1050)
        assert dataset.transform.a == pytest.approx(4 * NORTH_UP.a)
