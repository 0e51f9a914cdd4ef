"""Response curves come from libraries and tables as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from spectile.catalog.bands import SENSORS
from spectile.catalog.errors import SceneError
from spectile.pipeline.spectra.libraries import read_responses

NM = np.arange(400.0, 701.0, 10.0)
CURVES = np.array([np.maximum(0.0, 1.0 - np.abs(NM - centre) / 60.0) for centre in (620.0, 540.0, 460.0)])


def _csv(path: Path) -> Path:
    rows = [f"{nm / 1000},{','.join(map(str, curve))}" for nm, curve in zip(NM, CURVES.T, strict=True)]
    path.write_text("wavelength,Red,Green,Blue\n" + "\n".join(rows) + "\n")
    return path


def _sli(path: Path) -> Path:
    CURVES.astype("<f8").tofile(path)
    path.with_suffix(".hdr").write_text(
        f"ENVI\nsamples = {len(NM)}\nlines = 3\ndata type = 5\nwavelength units = Nanometers\n"
        f"wavelength = {{{', '.join(map(str, NM))}}}\nspectra names = {{Red, Green, Blue}}\n"
    )
    return path


def test_curves_by_name_and_by_number_from_any_table(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"response": np.column_stack([NM, CURVES.T])})
    read = [
        read_responses(_csv(tmp_path / "a.csv"), ("Red", "Green", "Blue"), wavelength_unit="um"),
        read_responses(_csv(tmp_path / "a.csv"), (1, 2, "Blue"), wavelength_unit="um"),
        read_responses(_sli(tmp_path / "a.sli"), ("Red", 2, 3)),
        read_responses(tmp_path / "a.mat", (1, 2, 3)),
    ]
    for bands in read:
        assert bands.centre_nm == pytest.approx((620.0, 540.0, 460.0))
        np.testing.assert_allclose(
            np.interp(NM, bands.wavelength_nm, bands.curves[1], left=0, right=0), CURVES[1], atol=1e-6
        )
    swapped = read_responses(_csv(tmp_path / "a.csv"), ("Blue", 2, 1), wavelength_unit="um")
    assert swapped.centre_nm == pytest.approx((460.0, 540.0, 620.0))


@pytest.mark.parametrize("channels", [("Red", "Green", "Ultra"), (1, 2, 4), (0, 1, 2)])
def test_a_curve_that_is_not_there_is_refused(tmp_path: Path, channels: tuple[str | int, ...]) -> None:
    with pytest.raises(SceneError, match=r"no such response curve.*Red, Green, Blue, or 1 to 3"):
        read_responses(_csv(tmp_path / "a.csv"), channels, wavelength_unit="um")


def test_a_file_that_is_no_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="wavelength_unit"):
        read_responses(_csv(tmp_path / "a.csv"), (1, 2, 3))
    for name in ("b.csv", "b.xls", "b.mat"):
        (tmp_path / name).write_bytes(b"not, a\ntable" * 9)
        with pytest.raises(SceneError, match="cannot be read") as caught:
            read_responses(tmp_path / name, (1, 2, 3))
        assert "\n" not in str(caught.value)
    with pytest.raises(SceneError, match="unknown kind"):
        read_responses(tmp_path / "b.txt", (1, 2, 3))


@pytest.mark.data
@pytest.mark.parametrize(
    ("sensor", "file", "channels", "tolerance"),
    [
        ("sentinel2", "Sentinel_2_Multi-Spectral_Instrument.sli", [4, 3, 2], 1),
        ("worldview3", "worldview3.sli", ["Red", "Green", "Blue"], 3),
        ("quickbird", "quickbird.sli", [f"Quickbird Band {i}" for i in (3, 2, 1)], 13),
        ("ikonos", "ikonos_spec_resp.mat", [4, 3, 2], 17),
    ],
)  # fmt: skip
def test_the_gaussians_of_satellites_lie_near_their_measured_curves(
    data_dir: Path, sensor: str, file: str, channels: list[str | int], tolerance: float
) -> None:
    measured = read_responses(data_dir / "srf" / file, channels)
    assert SENSORS[sensor].centre_nm == pytest.approx(measured.centre_nm, abs=tolerance)


@pytest.mark.data
def test_a_cameras_measured_curves_are_read_from_a_sheet(data_dir: Path) -> None:
    camera = read_responses(data_dir / "srf" / "Nikon_D700_Qu.xls", (3, 2, 1))
    assert camera.centre_nm == pytest.approx((637, 543, 459), abs=2)
    assert (camera.wavelength_nm[0], camera.wavelength_nm[-1]) == (400.0, 700.0)
