"""A run takes the best model for the bands of its scene, and says which."""

import logging
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from spectile.flows.run.choice import CANDIDATES, candidate_digests, input_of, with_model
from spectile.flows.run.settings import SceneSettings
from tests.pipeline.fakes import NORTH_UP

COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.nir)
MSI = (0.4924, 0.5598, 0.6646, 0.7041, 0.7405, 0.7828, 0.8328, 0.8647, 1.6137, 2.2024)


def _scene(path: Path, count: int, *, colours=(), centres_um=(), scale: float | None = 1e-4) -> str:
    profile = {"driver": "GTiff", "count": count, "dtype": "uint8" if scale is None else "uint16"}
    with rasterio.open(
        path, "w", height=16, width=16, crs="EPSG:32619", transform=NORTH_UP, **profile
    ) as file:
        file.write(np.full((count, 16, 16), 100, profile["dtype"]))
        if colours:
            file.colorinterp = colours
        if scale is not None:
            file.scales = (scale,) * count
        for band, centre in enumerate(centres_um, 1):
            file.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=str(centre))
    return str(path)


@pytest.mark.parametrize(
    ("named", "of_file", "model"),
    [
        ({}, {"count": 3, "colours": COLOURS[:3]}, "vnir48-rgb"),
        ({}, {"count": 4, "colours": COLOURS}, "vnir48-rgbn"),
        ({}, {"count": 10, "centres_um": MSI}, "vnir48-s2"),
        ({"bands": (1, 2, 3)}, {"count": 4, "colours": COLOURS}, "vnir48-rgb"),
        # Which curve the infrared of a picture went through is not known.
        ({}, {"count": 4, "colours": COLOURS, "scale": None}, "vnir48-rgb"),
        ({"sensor": "rgbn"}, {"count": 4}, "vnir48-rgbn"),
        ({"model": "vnir48"}, {"count": 4, "colours": COLOURS}, "vnir48"),
    ],
)
def test_the_bands_choose_the_model(tmp_path, caplog, named, of_file, model) -> None:
    place = _scene(tmp_path / "scene.tif", **of_file)
    settings = SceneSettings(scene=place, out=str(tmp_path / "cube.zarr"), **named)
    with caplog.at_level(logging.INFO, "spectile"):
        assert with_model(settings, place).model == model
    assert (f"model {model}, chosen by the bands of scene.tif" in caplog.text) == ("model" not in named)


def test_a_scene_that_cannot_be_opened_is_left_to_the_run(tmp_path) -> None:
    settings = SceneSettings(scene=str(tmp_path / "none.tif"), out=str(tmp_path / "cube.zarr"))
    assert with_model(settings, settings.scene).model == CANDIDATES[-1]


def test_candidates_say_what_they_take_without_their_weights() -> None:
    assert [len(input_of(name).bands) for name in CANDIDATES] == [10, 4, 3]
    assert len(set(candidate_digests())) == len(CANDIDATES)
