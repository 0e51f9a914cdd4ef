"""Scenes of the fusion benchmark: hyperspectral crops, each cut into a half to test on and one beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import SENSORS, Bands, MeasuredBands, resampling_matrix
from spectile.catalog.sensors import FILE_SENSORS
from spectile.pipeline.spectra.formats import Layout
from spectile.pipeline.spectra.hyperspectral import read_hyperspectral
from spectile.pipeline.spectra.libraries import read_library_bands, read_responses

WATER_NM = ((0.0, 400.0), (1340.0, 1450.0), (1790.0, 1970.0), (2450.0, 2600.0))
"""Where air absorbs nearly all light, and what lies beyond sensors' good ranges."""
AVIRIS = "spectral_libraries/s07_AV95_envi.sli"
"""Its header has the bands of AVIRIS in 1995."""
SAN_DIEGO_LEFT_OUT = (*range(1, 7), *range(33, 36), 97, *range(107, 114), *range(153, 167), *range(221, 225))
"""Numbers of the bands that are usually left out of this crop; 189 are left."""

AS_STORED = Layout()


@dataclass(frozen=True)
class File:
    """Where a scene is, and what its file does not say."""

    path: str
    scale: float
    layout: Layout = AS_STORED
    numbers: tuple[int, ...] = ()
    """Of the bands of AVIRIS, from 1, if the file has none."""
    sensor: str = ""
    """Whose bands it has, if the file has none."""


SCENES = {
    "Houston": File(
        "houston2018_crop/houston_dataset.mat", 5e-5, Layout(dataset="hyprImg"), sensor="houston2018"
    ),
    "Jasper Ridge": File(
        "aviris_crops/jasperRidge2_R198.mat", 1e-4,
        Layout(dataset="Y", shape=(198, 100, 100), axes="bxy", band_numbers="SlectBands"),
    ),
    "San Diego": File(
        "aviris_crops/sandiego_plane.mat", 1e-4, Layout(dataset="data"),
        numbers=tuple(number for number in range(1, 225) if number not in SAN_DIEGO_LEFT_OUT),
    ),
    "Moffett": File(
        "more/aviris_moffett/Moffett_vca.mat", 1.0, Layout(dataset="data", band_numbers="selected_bands")
    ),
    "Salton Sea": File(
        "more/aviris_salton_sea/zy_salton_sea_roi.mat", 1.0,
        Layout(dataset="I", wavelengths="wl", wavelength_unit="um", good="bbl"),
    ),
    "MUUFL": File("muufl_gulfport/a_hsi_img_for_VI_demo.mat", 1e-4),
}  # fmt: skip
"""Every scene of the table by its name."""


@dataclass(frozen=True)
class Halves:
    """A scene's clean pixels, reflectance."""

    bands: Bands
    """Its B bands."""
    test: NDArray[np.float64]
    """(B, H, W) the right half, in whole coarse pixels, that pairs are made of."""
    beside: NDArray[np.float64]
    """(B, P) the spectra of the left half."""
    rows: int
    """How many the left half has."""


def read_halves(name: str, data: Path, ratio: int) -> Halves:
    """The two halves of a scene; columns of the right half are whole coarse pixels, the others are left."""
    file = SCENES[name]
    aviris = read_library_bands(data / AVIRIS)
    bands = SENSORS[file.sensor] if file.sensor else aviris
    if file.numbers:
        bands = aviris.subset(np.array(file.numbers) - 1)
    scene = read_hyperspectral(
        data / file.path, layout=file.layout, bands=bands, scale=file.scale,
        bad_nm=() if file.sensor else WATER_NM,
    )  # fmt: skip
    cube = np.clip(scene.cube.astype(np.float64), 0.0, None)
    # A band without any light in it has no peak to compare an error with.
    lit = (cube.max(axis=(1, 2)) > 0) & (cube[:, :, cube.shape[2] // 2 :].max(axis=(1, 2)) > 0)
    cube, bands = cube[lit], scene.bands.subset(np.flatnonzero(lit))
    height, width = (side // ratio * ratio for side in (cube.shape[1], cube.shape[2] // 2))
    start = cube.shape[2] - width
    return Halves(bands, cube[:, :height, start:], cube[:, :, :start].reshape(len(cube), -1), cube.shape[1])


def response_of(sensor: str, bands: Bands, data: Path) -> tuple[Bands, NDArray[np.float64]]:
    """The bands of a sensor and its response (C, B): ``ikonos`` (B, G, R, NIR) or one of the catalog."""
    if sensor == "ikonos":
        table = read_responses(data / "srf/ikonos_spec_resp.mat", [2, 3, 4, 5])
        target: Bands = MeasuredBands.from_curves(table.wavelength_nm, table.curves)
    else:
        target = FILE_SENSORS[sensor].bands
    matrix, supported = resampling_matrix(bands, target)
    return target.subset(np.flatnonzero(supported)), matrix[supported]
