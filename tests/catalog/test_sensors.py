"""The sensors that files are said to be of."""

import pytest

from spectile.catalog.bands import SENSORS, Bands
from spectile.catalog.errors import UsageError
from spectile.catalog.sensors import FILE_SENSORS, colours_of, plain_name


def test_every_sensor_names_each_of_its_bands_once_and_says_where_it_is_published():
    for sensor in FILE_SENSORS.values():
        assert len(sensor.names) == len(sensor.colours) == len(sensor.bands)
        assert len(set(map(plain_name, sensor.names))) == len(sensor.names)
        assert {"red", "green", "blue"} <= set(sensor.colours)
        assert sensor.source


def test_bands_are_found_by_name_by_colour_and_by_number():
    sensor = FILE_SENSORS["sentinel2"]
    assert sensor.find(["B04", "b3", "blue", 9, "B8A"], "sentinel2") == (3, 2, 1, 8, 8)
    assert sensor.subset((3, 7)).names == ("B04", "B08")
    with pytest.raises(UsageError, match=r"no such band.*got B13, expected B01, B02"):
        sensor.find(["B04", "B13"], "sentinel2")


def test_a_colour_is_a_band_that_is_alone_in_its_range():
    assert colours_of(SENSORS["rgb_camera"]) == ("red", "green", "blue")
    assert colours_of(SENSORS["sentinel2"]) == ("red", "green", "blue")
    assert colours_of(FILE_SENSORS["rgbn"].bands) == ("red", "green", "blue", "nir")
    assert colours_of(FILE_SENSORS["sentinel2"].bands)[6:9] == (None, None, None)
    assert colours_of(Bands((1600.0, 650.0), (90.0, 30.0))) == (None, "red")


@pytest.mark.data
@pytest.mark.parametrize(
    ("sensor", "file", "curves", "tolerance"),
    [
        ("sentinel2", "Sentinel_2_Multi-Spectral_Instrument.sli", range(13), 0.1),
        # The published ranges have sharp edges; the measured curves fall off towards the infrared.
        ("worldview3", "worldview3.sli", range(1, 9), 30.0),
    ],
)
def test_published_bands_are_those_of_the_measured_responses(data_dir, sensor, file, curves, tolerance):
    from spectile.pipeline.scene.bands import find_sensor

    measured = find_sensor(f"{data_dir}/srf/{file}")
    found = [measured.bands.centre_nm[at] for at in curves]
    assert FILE_SENSORS[sensor].bands.centre_nm == pytest.approx(found, abs=tolerance)
