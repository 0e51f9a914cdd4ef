import pickle

import numpy as np
import pytest
import rioxarray  # noqa: F401  (adds the .rio accessor)
import xarray as xr

from spectile.catalog.errors import SceneError
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.pair.source import open_pair
from spectile.pipeline.pair.stored import open_stored
from tests.flows.run.pairs import HSI, NORTH_UP, RATIO, write_pair


def store(path, values, *, placed=True, scale=None, **attributes):
    array = xr.DataArray(
        values, dims=("wavelength", "y", "x"), coords={"wavelength": list(HSI.centre_nm)}, attrs=attributes
    )
    dataset = array.to_dataset(name="reflectance").assign_coords(fwhm=("wavelength", list(HSI.fwhm_nm)))
    if placed:
        dataset = dataset.rio.write_crs("EPSG:32633").rio.write_transform(NORTH_UP)
    packed = (
        {}
        if scale is None
        else {"reflectance": {"scale_factor": scale, "_FillValue": 65535, "dtype": "uint16"}}
    )
    dataset.to_zarr(path, encoding=packed, consolidated=False)
    return str(path)


def test_a_store_is_read_as_the_file_is(tmp_path):
    hsi, msi, _ = write_pair(tmp_path, (20, 24))
    of_file = open_pair(hsi, msi)
    values = of_file.hsi.read(Window(0, 0, 20, 24)).values
    values[:, 3, 4] = np.nan
    place = store(tmp_path / "hsi.zarr", values, scale=1e-4)
    pair = open_pair(place, msi)
    assert (pair.ratio, pair.grid, pair.hsi_bands) == (RATIO, of_file.grid, HSI)
    found = pickle.loads(pickle.dumps(pair)).sources["hsi"].read(Window(-2, 1, 10, 12))
    expected = of_file.sources["hsi"].read(Window(-2, 1, 10, 12))
    assert np.count_nonzero(~found.valid) == 1
    np.testing.assert_allclose(found.values[:, found.valid], expected.values[:, found.valid], atol=6e-5)
    assert len(pair.hsi.identity()["sha256"]) == 64
    with pytest.raises(SceneError, match=r"a store states its own wavelengths \(got --wavelengths\)"):
        open_pair(place, msi, wavelengths=hsi)


def test_a_store_that_lies_nowhere_or_says_no_unit_is_refused(tmp_path):
    values = np.full((12, 20, 24), 0.2, dtype=np.float32)
    with pytest.raises(SceneError, match=r"the store does not say where it lies"):
        open_stored(store(tmp_path / "a.zarr", values, placed=False, units="1"))
    with pytest.raises(SceneError, match=r"the store does not say what its numbers mean"):
        open_stored(store(tmp_path / "b.zarr", values))
    with pytest.raises(SceneError, match=r"no such store"):
        open_stored(str(tmp_path / "c.zarr"))
