import json

import numpy as np
import odc.geo.xr  # noqa: F401
import pytest
import xarray as xr
import zarr
from affine import Affine

from spectile.catalog.errors import CubeError
from spectile.pipeline.cube.record import finished_blocks, load_plan, open_cube, read_status
from spectile.pipeline.cube.write import create_cube
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.store.opening import open_storage
from tests.pipeline.cubes import BANDS, ROTATED, content, make
from tests.pipeline.fakes import NORTH_UP


def test_what_was_written_is_read_back_to_half_a_count(whole):
    expected = content(whole.plan.window)
    found = open_cube(whole.storage.root)
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
    cube = make(tmp_path, shape=(60, 90), transform=transform)
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


def test_a_region_lies_where_it_was_cut(tmp_path):
    window = Window(100, 200, 400, 300)
    cube = make(tmp_path, window=window)
    found = open_cube(cube.storage.root)
    assert found.reflectance.rio.transform() == cube.plan.grid[window].transform
    np.testing.assert_allclose(found.reflectance.values, content(window).samples[0], atol=0.51e-4)


def test_several_samples_give_mean_and_standard_deviation(tmp_path):
    found = open_cube(make(tmp_path, shape=(90, 600), samples=3, layers=("sd",)).storage.root)
    expected = content(Window(0, 0, 90, 600), 3)
    inside = expected.valid
    for name, layer in (
        ("reflectance", expected.samples.mean(axis=0)),
        ("reflectance_sd", expected.samples.std(axis=0, ddof=1)),
    ):
        np.testing.assert_allclose(found[name].values[:, inside], layer[:, inside], atol=0.6e-4)


def test_the_plan_is_read_back_from_the_cube(tmp_path):
    cube = make(tmp_path, transform=ROTATED, finished=False)
    assert load_plan(cube.storage) == cube.plan


def test_a_damaged_marker_makes_its_block_undone(cube):
    marker = cube.storage.root / "ledger" / f"{cube.plan.blocks[0].name}.json"
    for text in (b"", b"{", b"[]", b'"x"', json.dumps({"digest": cube.plan.digest}).encode()):
        marker.write_bytes(text)
        assert len(finished_blocks(cube)) == len(cube.plan.blocks) - 1


def test_places_that_hold_no_cube_are_told(whole, tmp_path):
    with pytest.raises(CubeError, match="no such store"):
        read_status(open_storage(tmp_path / "nothing"))
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(CubeError, match="something else"):
        read_status(open_storage(tmp_path / "other.zarr"))
    with pytest.raises(CubeError, match="exists"):
        create_cube(open_storage(tmp_path / "other.zarr"), whole.plan, BANDS)


def test_a_changed_plan_in_the_attributes_is_found(cube):
    root = json.loads(cube.storage.get("zarr.json"))
    root["attributes"]["spectile"]["plan"]["settings"]["seed"] = 5
    cube.storage.put("zarr.json", json.dumps(root).encode())
    with pytest.raises(CubeError, match="damaged"):
        load_plan(cube.storage)


def test_listing_the_store_meets_nothing_unknown(whole):
    # Warnings are errors: zarr warns of objects that it does not recognise.
    group = zarr.open_group(whole.storage.root, mode="r", use_consolidated=False)
    assert {"reflectance", "valid", "wavelength", "fwhm", "spatial_ref", "ledger"} <= dict(
        group.members()
    ).keys()
