"""Which bands the files of a sensor have, by name, in the order in which its products hold them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from spectile.catalog.bands import RGB_CAMERA, SENSORS, Bands
from spectile.catalog.errors import UsageError

COLOURS = {"blue": (420.0, 510.0), "green": (510.0, 590.0), "red": (590.0, 700.0), "nir": (750.0, 1000.0)}
"""The colours of cameras, and the range in which the centre of a band lies that is called so, nm.

The ranges are wider than those of STAC's common names: they tell the four apart, and nothing else.
"""


def colour_at(centre_nm: float) -> str | None:
    """The colour of a wavelength, None beyond all of them."""
    return next((name for name, (low, high) in COLOURS.items() if low <= centre_nm < high), None)


def colours_of(bands: Bands) -> tuple[str | None, ...]:
    """The colour of each band that is alone in its range; None of bands that only wavelengths tell apart."""
    found = [colour_at(centre) for centre in bands.centre_nm]
    return tuple(colour if found.count(colour) == 1 else None for colour in found)


def plain_name(name: str) -> str:
    """A band's name without case, marks and leading zeros: ``B04``, ``B4`` and ``b_4`` are one."""
    return re.sub(r"(?<=[a-z])0+(?=\d)", "", re.sub(r"[^a-z0-9]", "", name.lower()))


@dataclass(frozen=True)
class Sensor:
    """The bands of a sensor's files."""

    names: tuple[str, ...]
    """Name of each band."""
    colours: tuple[str, ...]
    """What each is called in common: red, green, blue, nir, or another name."""
    bands: Bands
    """Centre and width of each."""
    source: str = ""
    """Where the numbers are published."""

    def find(self, names: Sequence[str | int], where: str) -> tuple[int, ...]:
        """The positions of bands that are given by name, by colour, or by number from 1.

        Raises
        ------
        UsageError : there is no such band.
        """
        known = {plain_name(name): at for at, name in [*enumerate(self.colours), *enumerate(self.names)]}
        known |= {str(at + 1): at for at in range(len(self.names))}
        found = [known.get(plain_name(str(name))) for name in names]
        if None in found:
            raise UsageError(
                "the sensor has no such band", where=where, got=str(names[found.index(None)]),
                expected=", ".join(self.names),
            )  # fmt: skip
        return tuple(at for at in found if at is not None)

    def subset(self, at: Sequence[int]) -> Sensor:
        """The bands at these positions, in their order."""
        names, colours = ([each[i] for i in at] for each in (self.names, self.colours))
        return Sensor(tuple(names), tuple(colours), self.bands.subset(list(at)), self.source)


def _sensor(names: str, colours: str, bands: Bands, source: str) -> Sensor:
    return Sensor(tuple(names.split()), tuple(colours.split()), bands, source)


FILE_SENSORS: dict[str, Sensor] = {
    "rgb": _sensor("red green blue", "red green blue", RGB_CAMERA, "a colour camera, nominal"),
    "rgbn": _sensor(
        "red green blue nir", "red green blue nir",
        Bands((635.0, 555.0, 465.0, 845.0), (32.0, 60.0, 60.0, 74.0)),
        "Leica ADS100 data sheet; one of the cameras of NAIP",
    ),
    "sentinel2": _sensor(
        "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12",
        "coastal blue green red rededge071 rededge075 rededge078 nir nir08 nir09 cirrus swir16 swir22",
        SENSORS["sentinel2_msi"], "ESA, Sentinel-2 user guide, MSI of Sentinel-2A",
    ),
    "landsat8": _sensor(
        "B1 B2 B3 B4 B5 B6 B7 B9", "coastal blue green red nir swir16 swir22 cirrus",
        SENSORS["landsat8_oli"], "Barsi et al. 2014, Remote Sens. 6, table 1; without the panchromatic band",
    ),
    "worldview3": _sensor(
        "coastal blue green yellow red rededge nir1 nir2", "coastal blue green yellow red rededge nir nir09",
        Bands(
            (425.0, 480.0, 545.0, 605.0, 660.0, 725.0, 832.5, 950.0),
            (50.0, 60.0, 70.0, 40.0, 60.0, 40.0, 125.0, 180.0),
        ),
        "Maxar, WorldView-3 data sheet: the ranges of the eight bands",
    ),
    "ikonos": _sensor(
        "blue green red nir", "blue green red nir",
        Bands((480.5, 550.5, 665.0, 805.0), (71.0, 89.0, 66.0, 96.0)),
        "GeoEye, IKONOS product guide: the ranges of the four bands",
    ),
    "planetscope": _sensor(
        "coastal_blue blue green_i green yellow red rededge nir",
        "coastal blue green_i green yellow red rededge nir",
        Bands(
            (441.5, 490.0, 531.0, 565.0, 610.0, 665.0, 705.0, 865.0),
            (21.0, 50.0, 36.0, 36.0, 20.0, 30.0, 16.0, 40.0),
        ),
        "Planet, 8-band PlanetScope asset: the ranges of SuperDove's bands",
    ),
}  # fmt: skip
"""The sensors of ``--sensor``, with the bands that their files have."""
