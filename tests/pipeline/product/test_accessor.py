from __future__ import annotations

import dask
import numpy as np
import pytest
import rasterio.warp
import rioxarray  # noqa: F401
import xarray as xr
from affine import Affine
from shapely.geometry import LineString, Point, Polygon, box

import spectile.pipeline.product.accessor  # noqa: F401
from spectile.catalog.bands import SENSORS, VNIR48, Bands, resampling_matrix
from spectile.catalog.colour import linear_to_srgb, true_colour
from spectile.catalog.errors import UsageError
from spectile.catalog.indices import INDICES
from spectile.pipeline.plan.quality_layers import quality_attributes

ROWS, COLS = 9, 12
NORTH_UP = Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000)
HOLE = (slice(0, 2), slice(0, 3))
CENTRES = np.array(VNIR48.centre_nm)


def make_cube(transform: Affine = NORTH_UP, bands: Bands = VNIR48) -> xr.Dataset:
    """A cube as ``open_cube`` gives one, of random spectra; HOLE is not valid."""
    rng = np.random.default_rng(3)
    values = rng.uniform(0.02, 0.6, (len(bands), ROWS, COLS)).astype(np.float32)
    valid = np.ones((ROWS, COLS), np.uint8)
    valid[HOLE] = 0
    values[:, valid == 0] = np.nan
    dims = ("wavelength", "y", "x")
    cube = xr.Dataset(
        {
            "reflectance": (dims, values, {"units": "1", "long_name": "estimated surface reflectance"}),
            "reflectance_sd": (dims, np.where(np.isnan(values), np.nan, values / 10)),
            "valid": (("y", "x"), valid),
        },
        coords={
            "wavelength": ("wavelength", list(bands.centre_nm), {"units": "nm"}),
            "fwhm": ("wavelength", list(bands.fwhm_nm), {"units": "nm"}),
        },
    )
    if transform.b == 0:
        cube = cube.assign_coords(
            y=transform.f + transform.e * (np.arange(ROWS) + 0.5),
            x=transform.c + transform.a * (np.arange(COLS) + 0.5),
        )
    placed = cube.rio.write_crs("EPSG:32619").rio.write_transform(transform)
    return placed.chunk(wavelength=16, y=4, x=5).assign_coords(fwhm=cube.fwhm)


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    return make_cube()


@pytest.fixture(scope="module")
def values(cube) -> np.ndarray:
    return cube.reflectance.values


def at(nm: float) -> int:
    return int(np.abs(CENTRES - nm).argmin())


def refuse_to_compute(graph, keys, **options):
    raise AssertionError("something was computed")


def test_every_result_is_lazy_float32_and_lies_where_the_cube_does(cube):
    with dask.config.set(scheduler=refuse_to_compute):
        lazy = cube.spectile
        results = {
            "band": lazy.band(860), "rgb": lazy.rgb(), "false_colour": lazy.false_colour(),
            "index": lazy.index("ndvi"), "to_sensor": lazy.to_sensor("sentinel2"),
            "mask": lazy.mask(max_sd=0.03).reflectance,
        }  # fmt: skip
        polygon = box(320_000, 4_880_997, 320_003, 4_881_000)
        places = [lazy.spectrum(320_001, 4_880_999), lazy.spectrum(polygon)]
    for name, found in results.items():
        assert found.chunks is not None, name
        assert found.dtype == (np.uint8 if name in ("rgb", "false_colour") else np.float32), name
        assert found.rio.crs.to_epsg() == 32619, name
        assert found.rio.transform() == NORTH_UP, name
        assert found.rio.shape == (ROWS, COLS), name
        assert found.encoding["grid_mapping"] == "spatial_ref", name
        assert found.chunksizes["y"] == cube.chunksizes["y"], name
    assert places[0].dtype == places[1]["mean"].dtype == places[1]["sd"].dtype == np.float32
    for found in places:
        assert dask.is_dask_collection(found)


def test_the_nearest_band_is_taken_within_the_tolerance(cube, values):
    found = cube.spectile.band(860)
    assert found.wavelength == CENTRES[at(860)]
    np.testing.assert_array_equal(found.values, values[at(860)])
    assert found.attrs == cube.reflectance.attrs
    assert cube.reflectance.spectile.band(371).wavelength == 380
    with pytest.raises(UsageError, match=r"no band at 369 nm .*the nearest at 380 nm"):
        cube.spectile.band(369)
    wide = make_cube(bands=Bands((500.0, 800.0), (40.0, 100.0))).spectile
    assert wide.band(849).wavelength == 800
    with pytest.raises(UsageError, match="851"):
        wide.band(851)


@pytest.mark.parametrize("name", sorted(INDICES.keys() - {"ndwi_gao", "nbr"}))
def test_an_index_is_its_formula_on_the_nearest_bands(cube, values, name):
    index = INDICES[name]
    found = cube.spectile.index(name)
    bands = [values[at(nm)] for nm in index.wavelength_nm]
    np.testing.assert_array_equal(found.values, index.of(*bands))
    assert found.dims == ("y", "x")
    assert np.isnan(found.values[HOLE]).all()
    assert np.isfinite(found.values[2:]).all()
    assert found.name == name
    assert found.attrs["formula"] == index.formula
    assert found.attrs["bands_nm"] == pytest.approx([CENTRES[at(nm)] for nm in index.wavelength_nm], abs=1e-3)


@pytest.mark.parametrize("name", ["ndwi_gao", "nbr"])
def test_an_index_beyond_the_bands_is_refused_in_one_line(cube, name):
    with pytest.raises(UsageError, match=rf"^{name}: the cube has no band at (1240|2200) nm .*1050 nm\)$"):
        cube.spectile.index(name)


def test_indices_that_are_unknown_or_that_wide_bands_blur_are_refused(cube):
    with pytest.raises(UsageError, match=r"unknown index .*ndwi_mcfeeters, ndwi_gao"):
        cube.spectile.index("ndwi")
    wide = make_cube(bands=Bands((550.0, 660.0, 860.0), (100.0, 60.0, 100.0)))
    assert wide.spectile.index("ndvi").shape == (ROWS, COLS)
    with pytest.raises(UsageError, match=r"pri: .*550, 550 nm for 531, 570 nm"):
        wide.spectile.index("pri")


def test_pictures_show_white_as_white_and_masked_pixels_as_nodata(cube, values, tmp_path):
    camera = true_colour(cube.spectile.bands)
    seen = camera.of(values[list(camera.bands)])
    for found, light, white in (
        (cube.spectile.rgb(), seen, 0.4),
        (cube.spectile.false_colour(white=0.3), values[[at(nm) for nm in (860, 650, 550)]], 0.3),
    ):
        expected = 1 + np.rint(254 * linear_to_srgb(light / np.float32(white)))
        expected[np.isnan(expected)] = 0
        np.testing.assert_array_equal(found.values, expected)
        assert (found.values[:, *HOLE] == 0).all()
        assert found.values[:, 2:].min() > 0
        assert found.values.max() == 255
        assert found.dims == ("band", "y", "x")
        assert list(found.band.values) == ["red", "green", "blue"]
        assert found.rio.nodata == 0
    with pytest.raises(UsageError, match="white"):
        cube.spectile.rgb(white=0)
    with pytest.raises(UsageError, match="does not reach the bands of true colour"):
        make_cube(bands=Bands.evenly_spaced(900, 1000, 6)).spectile.rgb()
    other = Bands((650.0, 560.0, 480.0), (60.0, 60.0, 60.0))
    told = {"plan": {"settings": {"response": other.to_json()}}}
    own, camera = cube.assign_attrs(spectile=told).spectile.rgb(), true_colour(cube.spectile.bands, other)
    expected = 1 + np.rint(254 * linear_to_srgb(camera.of(values[list(camera.bands)]) / np.float32(0.4)))
    np.testing.assert_allclose(own.values[:, 3:], expected[:, 3:], atol=1)


@pytest.mark.parametrize("turn", [0, 30])
def test_a_point_gives_the_spectrum_of_its_pixel_in_any_crs(turn):
    transform = NORTH_UP @ Affine.rotation(turn)
    cube = make_cube(transform)
    values = cube.reflectance.values
    for row, col in ((0, 0), (5, 7), (ROWS - 1, COLS - 1)):
        x, y = transform @ (col + 0.7, row + 0.2)
        found = cube.spectile.spectrum(x, y)
        np.testing.assert_array_equal(found.values, values[:, row, col])
        assert found.dims == ("wavelength",)
        (lon,), (lat,) = rasterio.warp.transform("EPSG:32619", "EPSG:4326", [x], [y])
        same = cube.reflectance.spectile.spectrum(lon, lat, crs="EPSG:4326")
        np.testing.assert_array_equal(same.values, values[:, row, col])


@pytest.mark.parametrize(
    ("x", "y", "crs"),
    [(319_999.9, 4_880_999, None), (320_001, 4_881_000.1, None), (-70, 44, None), (-70, 10, "EPSG:4326"),
     (np.nan, 1, None), (0, 95, "EPSG:4326")],
)  # fmt: skip
def test_a_point_outside_is_refused(cube, x, y, crs):
    with pytest.raises(UsageError, match="outside the cube"):
        cube.spectile.spectrum(x, y, crs=crs)


@pytest.mark.parametrize("turn", [0, 30])
@pytest.mark.parametrize("kind", ["shapely", "geojson", "feature", "lonlat"])
def test_a_polygon_gives_mean_sd_and_number_of_its_pixels(turn, kind):
    transform = NORTH_UP @ Affine.rotation(turn)
    cube = make_cube(transform)
    # It holds the centres of the pixels (1, 2), (1, 3) and (2, 2); the first is in HOLE.
    polygon = Polygon([transform @ corner for corner in ((1.9, 0.9), (4.9, 0.9), (1.9, 3.9))])
    held = [(1, 3), (2, 2)]
    shape, crs = polygon, None
    if kind in ("geojson", "feature"):
        shape = {"type": "Polygon", "coordinates": [list(map(list, polygon.exterior.coords))]}
        shape = {"type": "Feature", "properties": {}, "geometry": shape} if kind == "feature" else shape
    if kind == "lonlat":
        crs = "EPSG:4326"
        shape = rasterio.warp.transform_geom("EPSG:32619", crs, polygon.__geo_interface__)
    found = cube.spectile.spectrum(shape, crs=crs)
    spectra = np.array([cube.reflectance.values[:, row, col] for row, col in held], np.float64)
    np.testing.assert_allclose(found["mean"].values, spectra.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found["sd"].values, spectra.std(axis=0, ddof=1), rtol=1e-5)
    assert (found.pixels.values == len(held)).all()
    assert found["mean"].dims == ("wavelength",)
    assert found["mean"].attrs["units"] == "1"


def test_a_polygon_takes_the_pixels_it_touches_when_told_and_is_cut_off_at_the_border(cube, values):
    sliver = box(320_002.1, 4_880_996.9, 320_002.4, 4_880_997.1)  # about (row 6, col 4), no centre inside
    with pytest.raises(UsageError, match="all_touched=True"):
        cube.spectile.spectrum(sliver)
    touched = cube.spectile.spectrum(sliver, all_touched=True)
    np.testing.assert_allclose(touched["mean"].values, values[:, 5:7, 4].mean(axis=1), rtol=1e-6)
    beyond = cube.spectile.spectrum(box(320_005, 4_880_000, 330_000, 4_880_996.5))
    np.testing.assert_allclose(beyond["mean"].values, values[:, 7:, 10:].mean(axis=(1, 2)), rtol=1e-6)


def test_few_pixels_have_no_sd_and_masked_ones_no_mean(cube):
    one = cube.spectile.spectrum(box(320_002, 4_880_997, 320_002.5, 4_880_997.5))
    assert (one.pixels.values == 1).all()
    assert np.isfinite(one["mean"].values).all()
    assert np.isnan(one["sd"].values).all()
    none = cube.spectile.spectrum(box(320_000, 4_880_999.5, 320_001, 4_881_000))
    assert (none.pixels.values == 0).all()
    assert np.isnan(none["mean"].values).all()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Point(320_001, 4_880_999), r"not a polygon .*Point"),
        (LineString([(0, 0), (1, 1)]), r"not a polygon .*LineString"),
        (Polygon(), "empty"),
        (box(0, 0, 1, 1), "outside the cube"),
        ({"type": "Polygon", "coordinates": [[1, 2], [3, 4]]}, "damaged"),
        ({"type": "FeatureCollection", "features": []}, "not a polygon"),
        (3.5, r"not a polygon .*float"),
    ],
)
def test_what_is_no_polygon_of_the_cube_is_refused(cube, shape, message):
    with pytest.raises(UsageError, match=message):
        cube.spectile.spectrum(shape)


def test_a_point_is_not_touched_and_a_crs_must_be_one(cube):
    with pytest.raises(UsageError, match="all_touched is for polygons"):
        cube.spectile.spectrum(320_001, 4_880_999, all_touched=True)
    with pytest.raises(UsageError, match="not a CRS"):
        cube.spectile.spectrum(1, 2, crs="EPSG:nonsense")
    with pytest.raises(UsageError, match="not a CRS"):
        cube.spectile.spectrum(box(0, 0, 1, 1), crs="EPSG:nonsense")
    bare = cube.reflectance.drop_vars("spatial_ref")
    with pytest.raises(UsageError, match="no CRS"):
        bare.spectile.spectrum(320_001, 4_880_999)


def test_another_sensor_sees_the_weighted_bands(cube, values):
    found = cube.spectile.to_sensor("sentinel2")
    matrix, _ = resampling_matrix(VNIR48, SENSORS["sentinel2"])
    np.testing.assert_allclose(found.values, np.einsum("tb,byx->tyx", matrix, values), rtol=1e-5)
    assert list(found.wavelength.values) == list(SENSORS["sentinel2"].centre_nm)
    assert list(found.fwhm.values) == list(SENSORS["sentinel2"].fwhm_nm)
    assert found.wavelength.attrs["units"] == "nm"
    assert found.attrs["sensor"] == "sentinel2"
    assert found.attrs["not_covered_nm"] == []
    assert found.dims == cube.reflectance.dims


def test_sensor_bands_that_are_not_covered_are_named_and_left_out(cube, values):
    with pytest.warns(UserWarning, match=r"bands at 1373\.5, 1613\.7, 2202\.4 nm") as told:
        found = cube.spectile.to_sensor("sentinel2_msi")
    assert told[0].filename == __file__
    assert found.attrs["not_covered_nm"] == [1373.5, 1613.7, 2202.4]
    assert found.sizes["wavelength"] == 10
    np.testing.assert_array_equal(
        found.spectile.index("ndvi").values,
        INDICES["ndvi"].of(found.sel(wavelength=864.7).values, found.sel(wavelength=664.6).values),
    )
    # Half of a band at the cube's edge lies beyond it.
    with pytest.warns(UserWarning, match="bands at 1050 nm"):
        assert cube.spectile.to_sensor(Bands((800.0, 1050.0), (20.0, 60.0))).sizes["wavelength"] == 1
    with pytest.raises(UsageError, match="covers no band"):
        cube.spectile.to_sensor(Bands((1600.0,), (20.0,)))
    with pytest.raises(UsageError, match=r"unknown sensor .*sentinel2_msi"):
        cube.spectile.to_sensor("sentinel3")


def test_masks_take_out_what_is_not_valid_or_not_sure_band_by_band(cube, values):
    found = cube.spectile.mask(max_sd=0.03)
    keep = values / 10 <= 0.03
    np.testing.assert_array_equal(found.reflectance.values, np.where(keep, values, np.nan))
    np.testing.assert_array_equal(np.isnan(found.reflectance_sd.values), ~keep)
    np.testing.assert_array_equal(found.valid.values, cube.valid.values)
    assert found.reflectance.attrs == cube.reflectance.attrs
    # Pixels that something else has called invalid since.
    shrunk = cube.assign(valid=cube.valid.where(cube.y < 4_880_998, 0))
    plain = shrunk.spectile.mask().reflectance.values
    assert np.isnan(plain[:, :4]).all()
    np.testing.assert_array_equal(plain[:, 4:], values[:, 4:])


def test_masks_by_the_interval_take_its_layers(cube, values):
    with pytest.raises(UsageError, match=r"no layer q95; .*--layers q95"):
        cube.spectile.mask(max_interval=0.1)
    wide = cube.assign(reflectance_q05=cube.reflectance * 0.9, reflectance_q95=cube.reflectance * 1.1)
    found = wide.spectile.mask(max_interval=0.05).reflectance.values
    # Not where rounding decides.
    clear = np.abs(values * 0.2 - 0.05) > 1e-4
    np.testing.assert_array_equal(found[clear], np.where(values * 0.2 <= 0.05, values, np.nan)[clear])
    with pytest.raises(UsageError, match="no layer sd"):
        cube.drop_vars("reflectance_sd").spectile.mask(max_sd=0.1)


def test_masks_by_flags_take_out_all_bands_of_a_pixel_that_has_any(cube, values):
    bits = np.random.default_rng(5).integers(0, 32, (ROWS, COLS)).astype(np.uint8)
    flagged = cube.assign(quality=(("y", "x"), bits, quality_attributes("quality")))
    found = flagged.spectile.mask("saturated", "extrapolating")
    gone = bits & (8 | 16) > 0
    np.testing.assert_array_equal(found.reflectance.values, np.where(gone, np.nan, values))
    assert np.isnan(found.reflectance_sd.values[:, gone]).all()
    np.testing.assert_array_equal(found.quality.values, bits)
    both = flagged.spectile.mask("padded", "padded", max_sd=0.03).reflectance.values
    np.testing.assert_array_equal(both, np.where((bits & 2 > 0) | (values / 10 > 0.03), np.nan, values))
    with pytest.raises(UsageError, match=r"unknown flag .*cloud.*nodata, padded, .*saturated"):
        flagged.spectile.mask("cloud")
    with pytest.raises(UsageError, match=r"no layer quality; .*--layers quality"):
        cube.spectile.mask("saturated")


def test_good_wavelengths_are_the_cubes_own_or_those_outside_water_vapour(cube):
    assert cube.spectile.good_wavelengths.values.all()
    long = make_cube(bands=Bands.evenly_spaced(1300, 2000, 15))
    good = long.spectile.good_wavelengths
    assert list(good.wavelength.values[~good.values]) == [1350, 1400, 1800, 1850, 1900, 1950]
    assert list(long.isel(wavelength=good).wavelength.values) == list(good.wavelength.values[good.values])
    own = cube.assign_coords(good_wavelengths=("wavelength", np.arange(48) % 2))
    assert list(own.spectile.good_wavelengths.values) == [False, True] * 24
    assert list(own.reflectance.spectile.good_wavelengths.values) == [False, True] * 24


def test_what_holds_no_spectra_in_nm_is_refused(cube):
    with pytest.raises(UsageError, match=r"no reflectance here .*valid"):
        cube[["valid"]].spectile.band(500)
    with pytest.raises(UsageError, match="expected a dimension wavelength"):
        cube.valid.spectile.index("ndvi")
    micrometres = cube.assign_coords(wavelength=("wavelength", CENTRES / 1000, {"units": "um"}))
    with pytest.raises(UsageError, match=r"not nm .*got um"):
        micrometres.spectile.rgb()
    one_pixel = cube.reflectance.isel(y=3, x=3)
    assert float(one_pixel.spectile.index("ndvi")) == pytest.approx(float(cube.spectile.index("ndvi")[3, 3]))
    with pytest.raises(UsageError, match="no map here"):
        one_pixel.spectile.spectrum(1, 2)


def test_widths_are_the_spacing_where_there_are_none(cube):
    bare = cube.reflectance.drop_vars("fwhm")
    assert bare.spectile.bands.centre_nm == cube.spectile.bands.centre_nm
    assert bare.spectile.bands.fwhm_nm == pytest.approx(VNIR48.fwhm_nm)


def test_results_keep_their_place_in_files(cube, tmp_path):
    cube.spectile.index("ndvi").to_zarr(tmp_path / "ndvi.zarr", consolidated=False)
    read = xr.open_zarr(tmp_path / "ndvi.zarr", decode_coords="all", consolidated=False).ndvi
    assert read.rio.crs.to_epsg() == 32619
    assert read.rio.transform() == NORTH_UP
    np.testing.assert_array_equal(read.values, cube.spectile.index("ndvi").values)
    cube.spectile.rgb().rio.to_raster(tmp_path / "rgb.tif")
    with rasterio.open(tmp_path / "rgb.tif") as dataset:
        assert dataset.transform == NORTH_UP
        assert dataset.nodata == 0
        np.testing.assert_array_equal(dataset.read(), cube.spectile.rgb().values)
