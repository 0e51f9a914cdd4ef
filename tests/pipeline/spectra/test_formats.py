"""Every format gives the same scene, says what is missing in one line, and hides spikes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
import xarray as xr
from scipy.io import savemat

from spectile.catalog.bands import SENSORS, Bands
from spectile.catalog.errors import SceneError
from spectile.pipeline.spectra.formats import Layout
from spectile.pipeline.spectra.hyperspectral import Hyperspectral, read_bands, read_hyperspectral, scene_files

NM = np.array([450.0, 550.0, 650.0, 850.0])
FWHM = np.array([9.0, 10.0, 11.0, 12.0])
COUNTS = np.random.default_rng(0).integers(100, 5000, (4, 5, 6)).astype(np.int16)
HEADER = """ENVI
samples = 6
lines = 5
bands = 4
header offset = 0
file type = ENVI Standard
data type = 2
interleave = {interleave}
byte order = 0
wavelength units = Micrometers
wavelength = {{0.45, 0.55, 0.65, 0.85}}
fwhm = {{0.009, 0.010,
 0.011, 0.012}}
{more}
"""


def _envi(path: Path, interleave: str = "bsq", more: str = "") -> Path:
    order = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}[interleave]
    np.ascontiguousarray(COUNTS.transpose(order)).tofile(path)
    path.with_suffix(".hdr").write_text(HEADER.format(interleave=interleave, more=more))
    return path


def _mat73(path: Path, content: dict[str, np.ndarray]) -> Path:
    # MATLAB's own files are HDF5 with a block of 512 bytes before it, axes reversed.
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in content.items():
            file[name] = np.ascontiguousarray(np.asarray(value).T)
    return path


def _zarr(path: Path, **attributes: object) -> Path:
    array = xr.DataArray(
        COUNTS, dims=("wavelength", "y", "x"), attrs=attributes,
        coords={
            "wavelength": ("wavelength", NM / 1000, {"units": "um"}),
            "fwhm": ("wavelength", FWHM / 1000),
        },
    )  # fmt: skip
    xr.Dataset({"cube": array}).to_zarr(path, consolidated=False)
    return path


def _same(scene: Hyperspectral, *, widths: bool = True) -> None:
    assert scene.bands.centre_nm == pytest.approx(NM)
    if widths:
        assert scene.bands.fwhm_nm == pytest.approx(FWHM)
    np.testing.assert_allclose(scene.cube, COUNTS * 1e-4, rtol=1e-5)
    assert scene.valid.all()


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize("name", ["a.img", "a", "a.bsq"])
def test_an_envi_raster_of_any_interleave_and_name(tmp_path: Path, interleave: str, name: str) -> None:
    _same(read_hyperspectral(_envi(tmp_path / name, interleave), scale=1e-4))


@pytest.mark.parametrize("what", ["scales", "offsets"])
def test_bands_of_different_scales_or_offsets_are_refused(write_scene, what: str) -> None:
    path = write_scene(np.ones((4, 5, 6), np.int16), **{what: [1e-4, 1e-4, 2e-4, 1e-4]})
    with pytest.raises(SceneError, match=f"its bands have different {what}"):
        read_hyperspectral(path, scale=1e-4)


def test_an_envi_header_gives_scale_nodata_and_bad_bands(tmp_path: Path) -> None:
    more = f"reflectance scale factor = 10000\nbbl = {{1, 0, 1, 1}}\ndata ignore value = {COUNTS[2, 3, 4]}"
    scene = read_hyperspectral(_envi(tmp_path / "a.dat", more=more))
    assert scene.bands.centre_nm == pytest.approx(NM[[0, 2, 3]])
    assert not scene.valid[3, 4]
    assert scene.valid.sum() >= 29
    expected = COUNTS[[0, 2, 3]] * 1e-4 * scene.valid
    np.testing.assert_allclose(scene.cube, expected, rtol=1e-5)


def test_a_geotiff_says_its_bad_bands(tmp_path: Path, write_scene: Callable[..., Path]) -> None:
    counts = COUNTS.astype(np.float32)
    counts[1] = -32768.0
    path = write_scene(counts, nodata=-32768.0, scales=[1e-4] * 4)
    with rasterio.open(path, "r+") as file:
        for i, nm in enumerate(NM, start=1):
            file.update_tags(i, wavelength=str(nm), wavelength_units="Nanometers", bbl=str(int(i != 2)))
    scene = read_hyperspectral(path)
    assert scene.bands.centre_nm == pytest.approx(NM[[0, 2, 3]])
    assert scene.valid.all()


@pytest.mark.parametrize("write", [lambda p, c: savemat(p, c) or p, _mat73])
def test_matlab_files_of_both_kinds_with_axes_as_declared(
    tmp_path: Path, write: Callable[[Path, dict[str, np.ndarray]], Path]
) -> None:
    content = {"other": COUNTS, "Y": COUNTS.transpose(2, 0, 1), "nm": NM / 1000, "w": FWHM / 1000}
    path = write(tmp_path / "a.mat", content)
    layout = Layout(dataset="Y", wavelengths="nm", fwhm="w", axes="xby", wavelength_unit="um")
    _same(read_hyperspectral(path, layout=layout, scale=1e-4))
    with pytest.raises(SceneError, match="name its dataset"):
        read_hyperspectral(path, scale=1e-4)
    with pytest.raises(SceneError, match=r"no array Z; it holds .*other"):
        read_hyperspectral(path, layout=Layout(dataset="Z"), scale=1e-4)


def test_any_hdf5_array_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data/cube", data=COUNTS.transpose(1, 2, 0))
        data.attrs["scale_factor"], data.attrs["_FillValue"] = 1e-4, [-1]
        file.create_dataset("info/nm", data=NM / 1000).attrs["units"] = "micrometers"
        file["info/fwhm"] = FWHM / 1000
    layout = Layout(dataset="data/cube", wavelengths="info/nm", fwhm="info/fwhm")
    _same(read_hyperspectral(path, layout=layout))
    with pytest.raises(SceneError, match=r"no array cube; it holds data/cube, info/fwhm, info/nm"):
        read_hyperspectral(path, layout=Layout(dataset="cube"))
    with pytest.raises(SceneError, match="not a NEON file; name its dataset"):
        read_hyperspectral(path)


def test_a_zarr_store_with_a_wavelength_coordinate(tmp_path: Path) -> None:
    _same(read_hyperspectral(_zarr(tmp_path / "a.zarr", scale_factor=1e-4)))
    _same(read_hyperspectral(_zarr(tmp_path / "b.zarr"), scale=1e-4))
    with pytest.raises(SceneError, match="scale"):
        read_hyperspectral(tmp_path / "b.zarr")
    xr.Dataset({"cube": (("b", "y", "x"), COUNTS)}).to_zarr(tmp_path / "c.zarr", consolidated=False)
    with pytest.raises(SceneError, match="no coordinate wavelength"):
        read_hyperspectral(tmp_path / "c.zarr", scale=1e-4)


def test_a_key_that_a_format_has_no_use_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="axes does not apply"):
        read_hyperspectral(_envi(tmp_path / "a.img"), layout=Layout(axes="yxb"), scale=1e-4)


@pytest.mark.parametrize(("unit", "factor"), [("nm", 1e-3), ("um", 1.0)])
def test_a_unit_that_cannot_be_is_never_taken(tmp_path: Path, unit: str, factor: float) -> None:
    savemat(tmp_path / "a.mat", {"cube": COUNTS.transpose(1, 2, 0), "wavelengths": NM * factor})
    with pytest.raises(SceneError, match="wavelength_unit"):
        read_hyperspectral(tmp_path / "a.mat", layout=Layout(wavelength_unit=unit), scale=1e-4)


def test_units_that_are_no_length_are_refused(tmp_path: Path) -> None:
    path = _envi(tmp_path / "a.img")
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text().replace("Micrometers", "Wavenumber"))
    with pytest.raises(SceneError, match="Wavenumber, expected nm or µm"):
        read_hyperspectral(path, scale=1e-4)


def test_an_array_of_another_shape_is_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"Y": COUNTS[0]})
    with pytest.raises(SceneError, match=r"shape \(5, 6\), expected three axes"):
        read_hyperspectral(tmp_path / "a.mat", layout=Layout(dataset="Y"), scale=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -9999.0])
def test_a_scene_without_a_valid_pixel_says_why(tmp_path: Path, value: float) -> None:
    cube = np.moveaxis(COUNTS, 0, -1).astype(np.float32)
    cube[:, :, 1] = value
    savemat(tmp_path / "a.mat", {"cube": cube, "wavelengths": NM})
    with pytest.raises(SceneError, match=r"no pixel is valid.*30 (not finite|nodata)|30 nodata"):
        read_hyperspectral(tmp_path / "a.mat", scale=1e-4, nodata=-9999.0)
    scene = read_hyperspectral(tmp_path / "a.mat", scale=1e-4, nodata=-9999.0, bad_nm=[(500, 600)])
    assert scene.bands.centre_nm == pytest.approx(NM[[0, 2, 3]])
    assert scene.valid.all()


def test_bands_come_from_a_table_or_another_file(tmp_path: Path) -> None:
    table = tmp_path / "bands.csv"
    table.write_text("wavelength,fwhm\n" + "\n".join(f"{a},{b}" for a, b in zip(NM, FWHM, strict=True)))
    assert read_bands(table) == Bands(tuple(NM), tuple(FWHM))
    assert read_bands(_envi(tmp_path / "a.img")).centre_nm == pytest.approx(NM)
    table.write_text("nm\n450\n")
    with pytest.raises(SceneError, match="table of bands"):
        read_bands(table)


def test_a_folder_gives_the_files_that_can_be_read(tmp_path: Path) -> None:
    for name in ("b.img", "a.img"):
        _envi(tmp_path / name)
    _zarr(tmp_path / "c.zarr")
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in scene_files(tmp_path, "*")] == ["a.img", "b.img", "c.zarr"]
    assert [path.name for path in scene_files(tmp_path, "b*")] == ["b.img"]
    assert scene_files(tmp_path / "c.zarr", "*") == [tmp_path / "c.zarr"]
    with pytest.raises(SceneError, match=r"no hyperspectral file matches \*.tif"):
        scene_files(tmp_path, "*.tif")


def _smooth(spikes: dict[tuple[int, int, int], float]) -> Hyperspectral:
    """Two materials, noise of NEON's size and spikes at (band, row, column)."""
    rng = np.random.default_rng(1)
    nm = np.linspace(400, 1000, 60)
    plant = 0.05 + 0.4 / (1 + np.exp(-(nm - 715) / 12))
    soil = 0.1 + 0.3 * (nm - 400) / 600
    share = rng.random((20, 20))
    cube = plant[:, None, None] * share + soil[:, None, None] * (1 - share)
    cube += 0.003 * rng.standard_normal(cube.shape)
    for place, value in spikes.items():
        cube[place] = value
    return Hyperspectral(cube.astype(np.float32), Bands.from_arrays(nm), np.ones((20, 20), bool))


def test_spikes_mask_their_pixels_and_alter_no_other_value() -> None:
    # Water bands of NEON reflectance hold counts to 14998 of 10,000 a unit; some are two or three wide.
    spikes = {(0, 3, 3): 1.4998, (59, 4, 4): 1.4998, (30, 5, 5): 1.4998}
    spikes |= {(band, 6, 6): 1.4998 for band in (40, 41, 42)}
    scene = _smooth(spikes)
    clean = scene.despiked(20.0)
    assert {tuple(place) for place in np.argwhere(~clean.valid)} == {(3, 3), (4, 4), (5, 5), (6, 6)}
    np.testing.assert_array_equal(clean.cube[:, clean.valid], scene.cube[:, clean.valid])
    assert not clean.cube[:, ~clean.valid].any()
    assert _smooth({}).despiked(20.0).valid.all()


@pytest.mark.data
def test_real_files_of_every_kind(data_dir: Path) -> None:
    houston = read_hyperspectral(
        data_dir / "houston2018_crop" / "houston_dataset.mat",
        layout=Layout(dataset="hyprImg"), bands=SENSORS["houston2018"], scale=1 / 20_000,
    )  # fmt: skip
    assert houston.cube.shape == (48, 128, 128)
    tiles = scene_files(data_dir / "enmap_potsdam", "*.tif")
    assert len(tiles) == 18
    enmap = read_hyperspectral(tiles[0])
    assert enmap.cube.shape == (218, 32, 32)
    assert enmap.bands.centre_nm[0] == pytest.approx(418.24)
    assert enmap.bands.fwhm_nm[0] == pytest.approx(6.99561)
    assert 0.0 < np.median(enmap.cube[:, enmap.valid]) < 0.6
    folder = data_dir / "berlin_urban_gradient" / "enmapboxtestdata"
    berlin = read_hyperspectral(folder / "EnMAP_BerlinUrbanGradient.bsq", scale=1e-4)
    assert berlin.cube.shape == (177, 80, 60)
    assert berlin.bands.centre_nm[0] == pytest.approx(460.0)
    assert berlin.bands.fwhm_nm[0] == pytest.approx(5.8, abs=0.5)
    muufl = read_hyperspectral(data_dir / "muufl_gulfport" / "an_hsi_image_sub_for_demo.mat", scale=1.0)
    assert muufl.bands.centre_nm[0] == pytest.approx(368, abs=1)
    assert len(muufl.bands) == 72


@pytest.mark.data
def test_spikes_of_real_water_bands_are_found_among_real_spectra(data_dir: Path) -> None:
    whole = read_hyperspectral(data_dir / "neon" / "neonhs_ex.h5")
    water = whole.within(1345, 1440)
    assert water.cube.max() == pytest.approx(1.4998)
    scene = whole.within(400, 1100)
    assert scene.despiked(10.0).valid.all()
    places = np.argwhere((water.cube > 1.0).any(axis=0))[:20]
    for band, (row, col) in enumerate(places, start=5):
        scene.cube[band, row, col] = water.cube[:, row, col].max()
    np.testing.assert_array_equal(np.argwhere(~scene.despiked(10.0).valid), places)
