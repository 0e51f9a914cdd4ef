"""Readers of hyperspectral files, on small files made here."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from scipy.io import savemat

from spectile.catalog.bands import Bands
from spectile.catalog.errors import SceneError
from spectile.pipeline.spectra.formats import Layout
from spectile.pipeline.spectra.hyperspectral import read_hyperspectral
from spectile.pipeline.spectra.libraries import Table, read_spectral_library

NM = np.array([450.0, 550.0, 650.0, 850.0])
COUNTS = np.random.default_rng(0).integers(100, 5000, (4, 5, 6)).astype(np.int16)


def _geotiff(path: Path, *, tagged: bool, **profile: object) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", height=5, width=6, count=4, dtype="int16",
        transform=from_origin(500000, 5000000, 1, 1), crs="EPSG:32618", **profile,
    ) as file:  # fmt: skip
        file.write(COUNTS)
        for i, nm in enumerate(NM, start=1):
            if tagged:
                file.update_tags(i, wavelength=str(nm / 1000), wavelength_units="Micrometers")
    return path


def test_a_geotiff_with_wavelength_tags_needs_only_its_scale(tmp_path: Path) -> None:
    scene = read_hyperspectral(_geotiff(tmp_path / "a.tif", tagged=True), scale=1e-4)
    assert scene.bands.centre_nm == pytest.approx(NM)
    assert np.allclose(scene.cube, COUNTS * 1e-4)
    assert scene.valid.all()


def test_nodata_and_padding_are_masked(tmp_path: Path) -> None:
    path = _geotiff(tmp_path / "a.tif", tagged=True, nodata=-9999)
    with rasterio.open(path, "r+") as file:
        counts = file.read()
        counts[2, 0, 0] = -9999
        counts[:, 1, 1] = 0
        file.write(counts)
    scene = read_hyperspectral(path, scale=1e-4)
    assert not scene.valid[0, 0]
    assert not scene.valid[1, 1]
    assert scene.valid.sum() == 28
    assert not scene.cube[:, 0, 0].any()


def test_missing_wavelengths_and_scale_are_asked_for(tmp_path: Path) -> None:
    path = _geotiff(tmp_path / "a.tif", tagged=False)
    with pytest.raises(SceneError, match="wavelengths"):
        read_hyperspectral(path, scale=1e-4)
    with pytest.raises(SceneError, match="scale"):
        read_hyperspectral(path, bands=Bands.from_arrays(NM))
    with pytest.raises(SceneError, match="do not match"):
        read_hyperspectral(path, bands=Bands.from_arrays(NM[:3]), scale=1.0)


def test_a_neon_file_says_everything_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("SITE/Reflectance")
        data = group.create_dataset("Reflectance_Data", data=np.moveaxis(COUNTS, 0, -1).astype(np.int32))
        data.attrs["Scale_Factor"], data.attrs["Data_Ignore_Value"] = [10000.0], [-9999.0]
        group.create_dataset("Metadata/Spectral_Data/Wavelength", data=NM)
    scene = read_hyperspectral(path)
    assert np.allclose(scene.cube, COUNTS * 1e-4)
    assert scene.bands.centre_nm == pytest.approx(NM)


def test_a_matlab_file_is_sorted_by_wavelength(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    savemat(
        path,
        {"cube": np.moveaxis(COUNTS, 0, -1)[:, :, ::-1], "wavelengths": NM[::-1], "mask": np.ones((5, 6))},
    )
    scene = read_hyperspectral(path, scale=1e-4)
    assert scene.bands.centre_nm == pytest.approx(NM)
    assert np.allclose(scene.cube, COUNTS * 1e-4)


def test_bands_outside_a_range_are_left_out(tmp_path: Path) -> None:
    scene = read_hyperspectral(_geotiff(tmp_path / "a.tif", tagged=True), scale=1e-4).within(500, 700)
    assert scene.bands.centre_nm == pytest.approx((550.0, 650.0))
    with pytest.raises(SceneError, match="no band"):
        scene.within(2000, 2500)


@pytest.mark.parametrize("name", ["a.mat", "a.h5", "a.tif"])
def test_a_file_that_is_no_such_file_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not what it says" * 40)
    with pytest.raises(SceneError, match="cannot be read") as caught:
        read_hyperspectral(tmp_path / name, scale=1.0)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="no such file"):
        read_hyperspectral(tmp_path / "none.tif")
    (tmp_path / "a.png").touch()
    with pytest.raises(SceneError, match="unknown kind"):
        read_hyperspectral(tmp_path / "a.png")


def _library(path: Path, rows: list[np.ndarray], names: list[str], more: str = "") -> Path:
    np.stack(rows).astype("<f4").tofile(path)
    path.with_suffix(".hdr").write_text(
        f"ENVI\nsamples = 4\nlines   = {len(rows)}\nbands   = 1\ndata type = 4\nbyte order = 0\n{more}\n"
        f"data ignore value = -1.23e+034\nspectra names = {{\n {', '.join(names)}}}\n"
    )
    return path


def test_a_usgs_library_takes_its_wavelengths_from_its_first_records(tmp_path: Path) -> None:
    spectrum = np.array([0.1, 0.2, -1.23e34, 0.4])
    path = _library(
        tmp_path / "a.sli",
        [NM / 1000, np.full(4, 0.01), spectrum, spectrum * 0],
        ["Wavelengths in microns", "Resolution in microns", "Quartz", "error bars to preceding"],
    )
    library = read_spectral_library(path)
    assert library.names == ("Quartz",)
    assert library.bands.centre_nm == pytest.approx(NM)
    assert library.bands.fwhm_nm == pytest.approx([10.0] * 4)
    assert np.isnan(library.spectra[0]).tolist() == [False, False, True, False]


def test_a_library_with_wavelengths_in_its_header(tmp_path: Path) -> None:
    more = "wavelength units = Nanometers\nwavelength = {450, 550, 650, 850}\nreflectance scale factor = 100"
    path = _library(tmp_path / "a.sli", [np.array([10.0, 20, 30, 40])], ["Leaf"], more)
    library = read_spectral_library(path)
    assert np.allclose(library.spectra, [[0.1, 0.2, 0.3, 0.4]])
    assert library.bands.centre_nm == pytest.approx(NM)


def test_a_library_without_header_or_wavelengths_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="header"):
        read_spectral_library(tmp_path / "none.sli")
    with pytest.raises(SceneError, match="wavelengths"):
        read_spectral_library(_library(tmp_path / "a.sli", [NM], ["Leaf"]))


@pytest.mark.data
def test_the_real_files_hold_plausible_reflectance() -> None:
    if "SPECTILE_DATA" not in os.environ:
        pytest.skip("SPECTILE_DATA names no data folder")
    data = Path(os.environ["SPECTILE_DATA"])
    scene = read_hyperspectral(data / "neon" / "neonhs_ex.h5").within(400, 1100)
    assert scene.cube.shape[1:] == (30, 30)
    assert 0.0 < scene.cube.mean() < 0.5
    library = read_spectral_library(data / "spectral_libraries" / "s07_AV95_envi.sli")
    assert len(library.names) > 2000
    assert library.bands.centre_nm[0] == pytest.approx(383.15)


def test_libraries_of_every_form_are_read(tmp_path: Path) -> None:
    header = "ENVI\nsamples = 1\nlines = 3\nbands = 5\ndata type = 4\ninterleave = bil\nbyte order = 0\n"
    # Two detectors: unsorted, and one wavelength twice.
    header += "wavelength units = Micrometers\nwavelength = {.45, .65, .55, .65, .85}\n"
    values = np.arange(15, dtype="<f4").reshape(3, 5) / 20
    values.tofile(tmp_path / "raster")
    (tmp_path / "raster.hdr").write_text(header)
    raster = read_spectral_library(tmp_path / "raster")
    assert raster.bands.centre_nm == pytest.approx(NM)
    assert np.allclose(raster.spectra, values[:, [0, 2, 1, 4]])
    assert raster.names == raster.samples == ("1", "2", "3")

    more = "wavelength = {450, 550, 650, 850}"
    library = _library(tmp_path / "b.sli", [NM / 1000], ["Leaf"], more)
    library.with_suffix(".hdr").rename(tmp_path / "b.sli.hdr")
    assert read_spectral_library(library).names == ("Leaf",)

    rows = tmp_path / "rows.csv"
    rows.write_text("tree,x,450,550,650,850\noak,7,10,20,30,40\noak,7,11,,31,41\nelm,7,1,2,3,4\n")
    table = read_spectral_library(rows, scale=0.01, table=Table(sample_column="tree"))
    assert table.samples == ("oak", "oak", "elm")
    assert np.allclose(table.spectra[0], [0.1, 0.2, 0.3, 0.4])
    assert np.isnan(table.spectra[1]).tolist() == [False, True, False, False]

    rows.write_text("band_1,band_2,band_3\n1,2,3\n")
    layout, given = Layout(first_bands=2), Bands.from_arrays(NM)
    table = read_spectral_library(rows, layout=layout, bands=given, table=Table(band_prefix="band_"))
    assert table.bands.centre_nm == (450.0, 550.0)
    assert table.spectra.tolist() == [[1.0, 2.0]]

    columns = tmp_path / "columns.csv"
    columns.write_text('"nm","A1","A2"\n450,10,20\n550,11,21\n')
    table = read_spectral_library(columns, table=Table("columns"))
    assert table.names == ("A1", "A2")
    assert table.spectra.tolist() == [[10.0, 11.0], [20.0, 21.0]]

    for text, given, message in (
        ("tree,450,550\noak,1\n", Table(), "cannot be read as a table of spectra"),
        ("tree,450,550\noak,1,x\n", Table(), "could not convert"),
        ("tree,450,550\noak,1,2\n", Table(sample_column="plot"), "no column plot"),
        ("tree,a\noak,1\n", Table(), "no column is named NUMBER"),
        ("1,2\n3,4\n", Table(), "not plausible"),
        ("", Table(), "cannot be read as a table of spectra"),
        ("", Table("columns"), "cannot be read as a table of spectra"),
    ):
        rows.write_text(text)
        with pytest.raises(SceneError, match=message) as caught:
            read_spectral_library(rows, table=given)
        assert "\n" not in str(caught.value)
    with pytest.raises(SceneError, match="no such file"):
        read_spectral_library(tmp_path / "none")


def test_a_matlab_file_of_numbered_bands_with_pixels_in_one_axis(tmp_path: Path) -> None:
    path, cube = tmp_path / "a.mat", np.arange(1, 25).reshape(4, 3, 2)
    # As MATLAB's reshape makes it: columns of an image follow each other.
    pixels = cube.transpose(0, 2, 1).reshape(4, 6)
    savemat(path, {"Y": pixels, "picked": [[4], [1], [2], [3]], "bbl": [[1, 1, 0, 1]]})
    layout = Layout("Y", axes="bxy", shape=(4, 2, 3), band_numbers="picked", good="bbl")
    scene = read_hyperspectral(path, layout=layout, bands=Bands.from_arrays(NM), scale=1.0)
    assert scene.bands.centre_nm == (450.0, 650.0, 850.0)
    assert np.array_equal(scene.cube, cube[[1, 3, 0]])
    first = read_hyperspectral(path, layout=replace(layout, first_bands=2), bands=scene.bands.subset([0] * 4),
                               scale=1.0)  # fmt: skip
    assert first.cube.shape == (2, 3, 2)
    for changed, message in (
        ({"shape": (4, 2, 4)}, "reshape"),
        ({"good": "none"}, "no array none"),
        ({"first_bands": 9}, "not the first 9"),
    ):
        with pytest.raises(SceneError, match=message):
            read_hyperspectral(
                path, layout=replace(layout, **changed), bands=Bands.from_arrays(NM), scale=1.0
            )
    with pytest.raises(SceneError, match="no such band numbers"):
        read_hyperspectral(path, layout=layout, bands=Bands.from_arrays(NM[:3]), scale=1.0)
