import numpy as np
import pytest
from affine import Affine

from spectile.catalog.bands import Bands
from spectile.catalog.errors import SceneError
from spectile.pipeline.pair.bands import hsi_bands, msi_bands
from tests.flows.run.pairs import HSI, MSI, write_bands

AT = Affine(30.0, 0.0, 400_000.0, 0.0, -30.0, 5_800_000.0)


def zeros(count: int) -> np.ndarray:
    return np.full((count, 4, 5), 0.1, dtype=np.float32)


def test_bands_come_in_the_order_of_their_wavelengths(tmp_path):
    turned = HSI.subset(range(len(HSI))[::-1])
    found = hsi_bands(write_bands(tmp_path / "a.tif", zeros(12), turned, AT))
    assert found.numbers == tuple(range(12, 0, -1))
    assert found.bands == HSI


def test_an_envi_header_says_which_bands_are_bad_and_what_counts_mean(tmp_path):
    path = write_bands(tmp_path / "a.bsq", zeros(12), None, AT, driver="ENVI", dtype="int16")
    header = tmp_path / "a.hdr"
    said = {
        "wavelength": ", ".join(f"{nm / 1000:.4f}" for nm in HSI.centre_nm),
        "bbl": ", ".join("0" if at == 3 else "1" for at in range(12)),
    }
    text = header.read_text() + "wavelength units = Micrometers\nreflectance scale factor = 10000\n"
    header.write_text(text + "".join(f"{key} = {{{value}}}\n" for key, value in said.items()))
    found = hsi_bands(path)
    assert found.numbers == (1, 2, 3, *range(5, 13))
    assert found.left_out == ("band 4",)
    assert found.scale == pytest.approx(1e-4)


def test_wavelengths_may_be_given(tmp_path):
    path = write_bands(tmp_path / "a.tif", zeros(12), None, AT)
    with pytest.raises(
        SceneError, match=r"the HSI does not say its wavelengths \(got 12 bands\); give them with --w"
    ):
        hsi_bands(path)
    table = tmp_path / "bands.csv"
    rows = zip(HSI.centre_nm, HSI.fwhm_nm, strict=True)
    table.write_text("wavelength,fwhm\n" + "".join(f"{centre},{width}\n" for centre, width in rows))
    assert hsi_bands(path, wavelengths=str(table)).bands == HSI
    with pytest.raises(
        SceneError, match=r"wavelengths and bands of the HSI do not match \(got 12 wavelengths, exp"
    ):
        hsi_bands(write_bands(tmp_path / "b.tif", zeros(9), None, AT), wavelengths=str(table))


def test_few_bands_are_no_spectrum(tmp_path):
    path = write_bands(tmp_path / "a.tif", zeros(4), MSI, AT)
    with pytest.raises(
        SceneError, match=r"too few bands for a spectrum \(got 4 good bands, .*is it the MSI\?"
    ):
        hsi_bands(path)


def test_bands_of_an_msi_lie_in_the_range_of_the_hsi(tmp_path):
    wide = Bands((*MSI.centre_nm, 1610.0), (*MSI.fwhm_nm, 90.0))
    found = msi_bands(write_bands(tmp_path / "a.tif", zeros(5), wide, AT), HSI)
    assert found.bands == MSI
    assert found.left_out == ("band 5 (1610 nm)",)
    only = Bands((1610.0, 2190.0), (90.0, 180.0))
    with pytest.raises(
        SceneError, match=r"MSI and HSI have no wavelengths in common \(got MSI bands at 1610, 2190 nm"
    ):
        msi_bands(write_bands(tmp_path / "b.tif", zeros(2), only, AT), HSI)


def test_a_sensor_or_colours_say_what_a_silent_file_sees(tmp_path):
    silent = write_bands(tmp_path / "a.tif", zeros(4), None, AT, photometric="MINISBLACK")
    with pytest.raises(SceneError, match=r"nobody says what band 1 of the MSI sees .*--sensor"):
        msi_bands(silent, HSI)
    assert len(msi_bands(silent, HSI, sensor="rgbn").bands) == 4
    assert msi_bands(silent, HSI, sensor="rgbn", asked=("nir", "red")).numbers == (4, 1)
    coloured = write_bands(tmp_path / "b.tif", zeros(3), None, AT, photometric="RGB")
    assert msi_bands(coloured, HSI).bands.centre_nm == (635.0, 555.0, 465.0)
