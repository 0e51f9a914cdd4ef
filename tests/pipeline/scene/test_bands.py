"""Which bands of a file feed a model."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from spectile.catalog.bands import SENSORS, Bands
from spectile.catalog.errors import SceneError, UsageError
from spectile.catalog.inputs import RGB_SCENE, InputSpec
from spectile.catalog.sensors import FILE_SENSORS
from spectile.pipeline.scene.bands import FileBand, as_sensor, choose_bands, find_sensor
from spectile.pipeline.scene.source import open_source
from tests.pipeline.fakes import NORTH_UP

RED, GREEN, BLUE, ALPHA, NIR = (
    getattr(ColorInterp, name) for name in ("red", "green", "blue", "alpha", "nir")
)
UNKNOWN = ColorInterp.undefined


def spec_of(bands: Bands, name: str = "scene") -> InputSpec:
    return InputSpec(name, bands, (0.1,) * len(bands))


def named(*colours: str) -> list[FileBand]:
    return [FileBand(at, colour=colour, alpha=colour == "alpha") for at, colour in enumerate(colours, 1)]


def at(*centre_nm: float) -> list[FileBand]:
    return [FileBand(number, centre_nm=nm) for number, nm in enumerate(centre_nm, 1)]


def of(sensor: str) -> list[FileBand]:
    found = find_sensor(sensor)
    return list(as_sensor([FileBand(n + 1) for n in range(len(found.names))], found, "x.tif"))


RGBN = spec_of(FILE_SENSORS["rgbn"].bands)
TEN = spec_of(find_sensor("sentinel2:B02,B03,B04,B05,B06,B07,B08,B8A,B11,B12").bands)
NARROW = spec_of(SENSORS["sentinel2"], "rgb")


@pytest.mark.parametrize(
    ("bands", "spec", "numbers"),
    [
        (named("red", "green", "blue"), RGB_SCENE, (1, 2, 3)),
        (named("", "", ""), RGB_SCENE, (1, 2, 3)),
        (named("", "", "", "alpha"), NARROW, (1, 2, 3)),
        (named("blue", "green", "red", "nir"), RGB_SCENE, (3, 2, 1)),
        (named("blue", "green", "red", "nir", "alpha"), RGBN, (3, 2, 1, 4)),
        (at(484.3, 558.4, 646.5, 804.6), RGBN, (3, 2, 1, 4)),
        (at(484.3, 558.4, 646.5, 804.6), RGB_SCENE, (3, 2, 1)),
        (at(484.3, 558.4, 646.5), RGB_SCENE, (3, 2, 1)),
        (at(*range(400, 1000, 10)), RGB_SCENE, (21, 15, 7)),
        (of("sentinel2"), RGB_SCENE, (4, 3, 2)),
        (of("sentinel2"), RGBN, (4, 3, 2, 8)),
        (of("sentinel2"), TEN, (2, 3, 4, 5, 6, 7, 8, 9, 12, 13)),
        # Its yellow band lies nearer to the camera's red than its red band does.
        (of("worldview3"), RGB_SCENE, (5, 3, 2)),
        (of("planetscope"), RGBN, (6, 4, 2, 8)),
        (of("landsat8"), spec_of(FILE_SENSORS["landsat8"].bands), (1, 2, 3, 4, 5, 6, 7, 8)),
        (of("sentinel2"), spec_of(find_sensor("landsat8:B5,B4").bands), (9, 4)),
        (of("sentinel2:B08,B04,B03,B02"), RGBN, (2, 3, 4, 1)),
    ],
)
def test_bands_feed_the_channels_that_they_are(bands, spec, numbers):
    assert tuple(band.number for band in choose_bands(bands, spec, None, "x.tif").bands) == numbers


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [((4, 3, 2, 8), (4, 3, 2, 8)), (("B4", "b03", "B02", "B8A"), (4, 3, 2, 9)),
     (("red", "green", "blue", "nir"), (4, 3, 2, 8))],
)  # fmt: skip
def test_bands_are_taken_by_number_by_name_and_by_colour(asked, numbers):
    found = choose_bands(of("sentinel2"), RGBN, asked, "x.tif")
    assert tuple(band.number for band in found.bands) == numbers
    assert found.feeds[0] == "red (635 nm): band 4 (B04, 664.6 nm)"


@pytest.mark.parametrize(
    ("bands", "spec", "asked", "told"),
    [
        (named("red", "green", "blue"), RGBN, None, r"needs, nir \(845 nm\) \(got band 1 \(red\)"),
        (named("red", "green", "blue", ""), RGBN, None, "nir .*--sensor.*--bands"),
        (named("", "", "", ""), RGB_SCENE, None, r"red \(605 nm\) \(got 4 band\(s\) of which"),
        (of("sentinel2:B02,B03,B04,B08"), TEN, None, r"needs, 704\.1 nm \(got band 1 \(B02, 492\.4 nm\)"),
        (at(490, 560, 660, 840), TEN, None, "704.1 nm"),
        (at(490, 560, 660, 702), spec_of(Bands((700.0, 708.0), (15.0, 15.0))), None, "two channels"),
        (of("sentinel2"), RGBN, (4, 3, 2), "one band for each channel.*expected red .635 nm., green"),
        (of("sentinel2"), RGBN, (4, 3, 2, 14), "no such band .got 14"),
        (of("sentinel2"), RGBN, ("B04", "B03", "B02", "B13"), "no such band .got B13"),
        (named("red", "red", "blue"), RGB_SCENE, ("red", "red", "blue"), "several bands"),
    ],
)  # fmt: skip
def test_what_a_model_needs_and_a_file_lacks_is_named(bands, spec, asked, told):
    with pytest.raises(SceneError, match=told):
        choose_bands(bands, spec, asked, "x.tif")


def test_other_wavelengths_and_unused_bands_are_told_in_a_line_each():
    said = choose_bands(of("sentinel2:B02,B03,B04,B05,B08"), RGB_SCENE, None, "a/x.tif").notices
    assert said == (
        "x.tif: bands at other wavelengths than the model's feed red (605 nm): band 3 (B04, 664.6 nm)",
        "x.tif: the model does not use band 4 (B05, 704.1 nm), band 5 (B08, 832.8 nm)",
    )
    assert choose_bands(named("red", "green", "blue", "alpha"), RGB_SCENE, None, "x.tif").notices == ()


def test_a_sensor_says_what_the_bands_of_a_file_are(tmp_path):
    with pytest.raises(SceneError, match=r"other bands than the sensor.*got 3 bands, expected 13: B01"):
        as_sensor(named("", "", ""), find_sensor("sentinel2"), "x.tif")
    by_name = as_sensor([FileBand(1, "b8a"), FileBand(2, "B04")], find_sensor("sentinel2"), "x.tif")
    assert [band.centre_nm for band in by_name] == [864.7, 664.6]
    with pytest.raises(UsageError, match=r"unknown sensor .got spot"):
        find_sensor("spot")
    curves = "nm,B,G,R\n400,0,0,0\n450,1,0,0\n550,0,1,0\n650,0,0,1\n700,0,0,0\n"
    (tmp_path / "mine.csv").write_text(curves)
    mine = find_sensor(f"{tmp_path}/mine.csv")
    assert mine.names == ("B", "G", "R")
    assert mine.colours == ("blue", "green", "red")


def test_files_tell_their_bands_by_colours_by_names_and_by_wavelengths(write_scene):
    numbers = np.arange(5, dtype=np.uint16)[:, None, None] * 100 + np.zeros((5, 9, 8), np.uint16)
    told = {"radiometry": "dn:0,0.001"}
    naip = write_scene(numbers[:4], "naip.tif", colorinterp=[RED, GREEN, BLUE, UNKNOWN])
    with pytest.raises(SceneError, match="nir"):
        open_source(naip, RGBN, **told)
    assert open_source(naip, RGBN, sensor="rgbn", **told).channels == (1, 2, 3, 4)
    assert open_source(naip, **told).channels == (1, 2, 3)
    drone = numbers.copy()
    drone[4, :2] = 0
    path = write_scene(drone, "drone.tif", colorinterp=[BLUE, GREEN, RED, NIR, ALPHA])
    values, valid = open_source(path, RGBN, **told).read(open_source(path, RGBN, **told).grid.window)
    assert values[:, 5, 5] == pytest.approx([0.2, 0.1, 0, 0.3])
    assert not valid[:2].any()
    assert valid[2:].all()
    for name, tags in {
        "described.tif": lambda dataset: setattr(dataset, "descriptions", ["nir", "Red", "green", "blue"]),
        "waves.tif": lambda dataset: [
            dataset.update_tags(n, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=um, FWHM_UM=0.03)
            for n, um in enumerate((0.84, 0.66, 0.56, 0.48), 1)
        ],
    }.items():
        path = write_scene(numbers[:4], name, photometric="MINISBLACK")
        with rasterio.open(path, "r+") as dataset:
            tags(dataset)
        assert open_source(path, RGBN, **told).channels == (2, 3, 4, 1), name
    with rasterio.open(
        naip.with_name("envi.img"), "w", driver="ENVI", count=4, height=9, width=8, dtype="uint16",
        crs="EPSG:32619", transform=NORTH_UP,
    ) as dataset:  # fmt: skip
        dataset.write(numbers[:4])
    header = naip.with_name("envi.hdr")
    header.write_text(
        header.read_text() + "wavelength units = Micrometers\nwavelength = { 0.48, 0.56, 0.66, 0.84}\n"
    )
    source = open_source(naip.with_name("envi.img"), RGBN, **told)
    assert source.channels == (3, 2, 1, 4)
    assert source.feeds[3] == "nir (845 nm): band 4 (Band 4, 840 nm)"


def test_a_picture_gives_its_colours_only(write_scene):
    picture = write_scene(np.full((4, 9, 8), 90, np.uint8), colorinterp=[RED, GREEN, BLUE, NIR])
    assert open_source(picture).radiometry.kind == "display"
    with pytest.raises(SceneError, match=r"red, green and blue only.*dn:0,0.004"):
        open_source(picture, RGBN)
    found = open_source(picture, RGBN, radiometry="dn:0,0.004")
    assert found.read(found.grid.window)[0][:, 0, 0] == pytest.approx([0.36] * 4)


@pytest.mark.data
def test_a_real_scene_of_four_bands_is_read_by_its_own_wavelengths(data_dir):
    path = data_dir / "berlin_urban_gradient/enmapboxtestdata/HighResolution_BerlinUrbanGradient.bsq"
    source = open_source(path, RGBN, radiometry="dn:0,0.0001")
    assert source.channels == (3, 2, 1, 4)
    values, valid = source.read(source.grid.window)
    with rasterio.open(path) as dataset:
        stored = dataset.read([3, 2, 1, 4])
    np.testing.assert_allclose(values[:, valid], stored[:, valid] * 1e-4, rtol=1e-6)
    assert values[3][valid].mean() > values[0][valid].mean()
