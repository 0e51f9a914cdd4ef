"""Scenes that lie nowhere on the globe: a cube without a footprint, or one line before any work."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from spectile.catalog.errors import SceneError, UsageError
from spectile.catalog.stac.index import Query
from spectile.flows.commands import app as cli
from spectile.flows.console.plan_map import check_map
from spectile.flows.run.execute import run_scene
from spectile.flows.run.line import prepare_line, run_line
from spectile.flows.run.planning import prepare
from spectile.flows.run.settings import LineSettings, SceneSettings
from spectile.pipeline.stac.collection import Collection
from spectile.pipeline.store.opening import open_storage

MARS = (
    'GEOGCRS["Mars",DATUM["Mars",ELLIPSOID["Mars",3396190,169.894447223612]],CS[ellipsoidal,2],'
    'AXIS["lat",north],AXIS["lon",east],ANGLEUNIT["degree",0.0174532925199433]]'
)
SITE = 'ENGCRS["site",EDATUM["site"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'
FULL_DISK = "+proj=geos +h=35785831 +lon_0=-75 +sweep=x +datum=WGS84"
UTM = "EPSG:32633"
NAN = float("nan")

ELSEWHERE = {
    "a site of its own": (SITE, Affine(2, 0, 0, 0, -2, 0.5)),
    "another planet": (MARS, Affine(0.001, 0, 10, 0, -0.001, 10)),
    "a disk with space around": (FULL_DISK, Affine(139_200, 0, -5_568_000, 0, -174_000, 5_568_000)),
}
BROKEN = {
    "geocentric": ("EPSG:4978", Affine(2, 0, 4e6, 0, -2, 5e5), "geocentric"),
    "far out of its zone": (UTM, Affine(2, 0, 5e8, 0, -2, 4.5e6), "no point"),
    "beyond the pole": ("EPSG:4326", Affine(0.001, 0, 10, 0, -0.001, 91), "latitudes"),
    "below the pole": ("EPSG:4326", Affine(0.001, 0, 10, 0, 0.001, -91), "latitudes"),
    "a corner that is no number": (UTM, Affine(2, 0, NAN, 0, -2, 4.5e6), "nan"),
    "a corner at infinity": (UTM, Affine(2, 0, float("inf"), 0, -2, 4.5e6), "inf"),
    "pixels that round to none": (UTM, Affine(1e-12, 0, 500_000, 0, -1e-12, 4.5e6), "1e-12"),
    "pixels of atoms": ("EPSG:4326", Affine(1e-12, 0, 10, 0, -1e-12, 45), "1e-12"),
}  # fmt: skip


@pytest.fixture
def scene_at(write_scene: Callable[..., Path]) -> Callable[[str, Affine], Path]:
    values = np.random.default_rng(0).integers(20, 200, (3, 64, 80), dtype=np.uint8)
    return lambda crs, transform: write_scene(values, crs=crs, transform=transform, photometric="RGB")


def settings(scene: Path, tmp_path: Path) -> SceneSettings:
    return SceneSettings(
        scene=str(scene), out=str(tmp_path / "cube.zarr"), model="bands-repeat", radiometry="display",
        block=512, catalog=str(tmp_path / "stac"),
    )  # fmt: skip


@pytest.mark.parametrize("place", ELSEWHERE)
def test_a_scene_that_is_not_on_the_globe_becomes_a_cube_without_a_footprint(
    scene_at: Callable[[str, Affine], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    asked = settings(scene_at(*ELSEWHERE[place]), tmp_path)
    with caplog.at_level(logging.WARNING):
        _, done = run_scene(asked)
    assert done.blocks_failed == 0
    assert len([line for line in caplog.messages if "no footprint" in line]) == 1
    item = json.loads(Path(done.item).read_text())
    assert item["geometry"] is None
    assert "bbox" not in item
    assert item["properties"]["proj:shape"] == [64, 80]

    catalog = Collection(open_storage(str(tmp_path / "stac")))
    for _ in range(2):
        [row] = catalog.search(Query()).to_pylist()
        assert row["bbox"] is None
        assert catalog.search(Query(bbox=(-180, -90, 180, 90))).num_rows == 0
        assert catalog.rebuild().problems == ()
    assert cli.main(["catalog", "list", "--catalog", str(tmp_path / "stac")]) == 0


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("place", BROKEN)
def test_a_scene_with_a_broken_place_is_refused_before_any_work(
    scene_at: Callable[[str, Affine], Path], tmp_path: Path, place: str, dry: bool
) -> None:
    crs, transform, told = BROKEN[place]
    scene = scene_at(crs, transform)
    with pytest.raises(SceneError, match=told) as refused, prepare(settings(scene, tmp_path), dry=dry):
        pass
    assert "scene.tif" in str(refused.value)
    assert "rio edit-info" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "cube.zarr").exists()


def test_the_map_of_a_plan_has_blocks_without_a_shape_where_there_is_no_globe(
    scene_at: Callable[[str, Affine], Path], tmp_path: Path
) -> None:
    out = tmp_path / "plan.geojson"
    scene = scene_at(*ELSEWHERE["a site of its own"])
    check_map(str(out), [str(scene)])
    code = cli.main(["plan", str(scene), "--out", str(out), "--model", "bands-repeat"])
    assert code == 0
    [block] = json.loads(out.read_text())["features"]
    assert block["geometry"] is None
    assert block["properties"]["pixels"] == 64 * 80


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        # Pixel centres on the poles, as climate grids have them; longitudes from 0 to 360.
        ("EPSG:4326", Affine(4.5, 0, -2.25, 0, -180 / 63, 90 + 90 / 63)),
        (
            "EPSG:32633",
            Affine(2, 0, 2.5e6, 0, -2, 4.5e6),
        ),  # some zones away, where PROJ still knows the place
        ("EPSG:32633", Affine(0, -2, 500_000, -2, 0, 4.5e6)),
    ],
)
def test_an_unusual_place_on_the_globe_has_a_footprint(
    scene_at: Callable[[str, Affine], Path], tmp_path: Path, crs: str, transform: Affine
) -> None:
    _, done = run_scene(settings(scene_at(crs, transform), tmp_path))
    assert json.loads(Path(done.item).read_text())["geometry"]["type"] in ("Polygon", "MultiPolygon")


def test_a_line_in_a_sites_own_crs_is_a_line_without_a_footprint(
    scene_at: Callable[[str, Affine], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crs, transform = ELSEWHERE["a site of its own"]
    scenes = []
    for number in (1, 2):
        scene = scene_at(crs, Affine.translation(50 * number, 0) @ transform)
        scenes.append(str(scene.rename(tmp_path / f"s{number}.tif")))
    asked = LineSettings(
        scenes=tuple(scenes), out=str(tmp_path / "line.zarr"), model="bands-repeat", block=512,
        radiometry=("display:1",),
    )  # fmt: skip
    with caplog.at_level(logging.WARNING):
        _, done = run_line(asked)
    assert json.loads(Path(done.item).read_text())["geometry"] is None
    [told] = [line for line in caplog.messages if "no footprint" in line]
    assert told.endswith("(and of 1 more scenes)")
    elsewhere = replace(asked, crs=UTM)
    with pytest.raises(UsageError, match="no transformation"), prepare_line(elsewhere, dry=True):
        pass
