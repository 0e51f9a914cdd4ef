"""Facts of real small cubes, without a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from spectile.catalog.errors import CubeError
from spectile.catalog.stac.items import Placed, build_item, check_stac
from spectile.catalog.times import parse_span
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.stac import item as items
from spectile.pipeline.stac.item import cube_facts
from spectile.pipeline.store.local import LocalStorage
from tests.pipeline.cubes import BANDS, make

UTM60 = CRS.from_epsg(32660).to_wkt()


def test_the_facts_of_an_unfinished_cube_are_those_of_its_plan(tmp_path: Path) -> None:
    cube = make(tmp_path, shape=(60, 80), finished=False)
    taken = parse_span("2024-06-01T10:30:00Z")
    facts = cube_facts(cube.storage, taken=taken)
    said = facts.properties
    assert (said["proj:shape"], said["gsd"], said["spectile:bands"]) == ([60, 80], 0.5, len(BANDS))
    assert said["spectile:status"] == "incomplete"
    assert said["cube:dimensions"]["x"]["extent"][1] - said["cube:dimensions"]["x"]["extent"][0] == 40
    assert [band["name"] for band in facts.assets["cube"]["bands"]] == [
        f"B{number:03d}" for number in range(1, len(BANDS) + 1)
    ]
    assert set(facts.assets) == {"cube"}, "pictures are those of finished cubes"
    assert facts.bbox is not None
    made = build_item(facts, Placed("id"), created=taken[0], updated=taken[0])
    check_stac(made, "made")
    assert str(tmp_path) not in json.dumps(made), "no folder of this machine is told"


def test_a_cube_that_is_none_has_no_facts(tmp_path: Path) -> None:
    with pytest.raises(CubeError):
        cube_facts(LocalStorage(tmp_path / "none.zarr"))


def test_the_footprint_is_the_hull_of_what_is_valid() -> None:
    grid = Grid((512, 512), Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000), CRS.from_epsg(32619).to_wkt())
    valid = np.zeros((512, 512), dtype=bool)
    valid[:256, :256] = True
    whole, part = (items._bbox(items._footprint(grid, each)) for each in (None, valid))
    assert part[0] == pytest.approx(whole[0], abs=1e-4)
    assert part[3] == pytest.approx(whole[3], abs=1e-4)
    middle = (whole[0] + whole[2]) / 2
    assert part[2] == pytest.approx(middle, abs=1e-4)


def test_a_box_across_the_antimeridian_begins_in_the_west_of_it() -> None:
    grid = Grid((1000, 1000), Affine(100, 0, 790_000, 0, -100, 2_000_000), UTM60)
    geometry = items._footprint(grid, None)
    assert geometry["type"] == "MultiPolygon"
    west, south, east, north = items._bbox(geometry)
    assert 179 < west < 180
    assert -180 < east < -179
    assert south < north
