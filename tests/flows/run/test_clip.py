"""A run that is clipped by a polygon: what is masked, what is left out, what the digest knows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from rasterio.warp import transform

from spectile.catalog.errors import CubeError, UsageError
from spectile.flows.console.describe import describe_cube
from spectile.flows.console.plan_map import map_plans
from spectile.flows.run import execute
from spectile.flows.run.execute import run_scene
from spectile.flows.run.line import run_line
from spectile.flows.run.planning import prepare
from spectile.flows.run.repair import repair_cube
from spectile.flows.run.settings import LineSettings, SceneSettings
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.scene.clip import read_clip
from spectile.pipeline.store.opening import open_storage

SHAPE = (540, 1100)


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch) -> None:
    monkeypatch.setattr(execute, "write_quicklook", lambda storage: "")


def squares(folder: Path, *corners: tuple[float, float, float], name: str = "clip.geojson") -> str:
    """Squares, each from its first row, first column and side on the scenes of these tests."""
    polygons = []
    for row, col, side in corners:
        rows, cols = np.array([0, 0, 1, 1, 0]) * side + row, np.array([0, 1, 1, 0, 0]) * side + col
        lon, lat = transform("EPSG:32619", "EPSG:4326", 320_000 + cols / 2, 4_881_000 - rows / 2)
        polygons.append([[*zip(lon, lat, strict=True)]])
    path = folder / name
    path.write_text(json.dumps({"type": "MultiPolygon", "coordinates": polygons}))
    return str(path)


def arrays(path: str) -> dict[str, np.ndarray]:
    group = zarr.open_group(path, mode="r")
    return {name: group[name][:] for name in ("reflectance", "valid", "quality")}


@pytest.fixture
def settings(make_scene, tmp_path) -> SceneSettings:
    scene = make_scene(SHAPE, nodata=0, hole=(slice(50, 60), slice(0, SHAPE[1])))
    return SceneSettings(
        scene=str(scene), out=str(tmp_path / "a.zarr"), model="bands-repeat", block=512,
        clip=squares(tmp_path, (30.2, 20.2, 100), (500.2, 1060.2, 25)),
    )  # fmt: skip


def test_only_the_blocks_and_pixels_in_the_polygon_are_made(settings, tmp_path):
    prepared, result = run_scene(settings)
    plan = prepared.plan
    assert plan.window == Window(30, 20, 496, 1066)
    assert (len(plan.blocks), prepared.estimate.blocks_empty, result.blocks_done) == (2, 1, 2)
    expected = np.zeros(SHAPE, dtype=np.uint8)
    expected[30:130, 20:120] = expected[500:525, 1060:1085] = 1
    expected[50:60] = 0
    found = arrays(settings.out)
    np.testing.assert_array_equal(found["valid"], expected[plan.window.slices])
    np.testing.assert_array_equal((found["reflectance"] == 65535).all(axis=0), found["valid"] == 0)
    assert len(list(Path(settings.out, "valid", "c").rglob("*/[0-9]*"))) == 2, "no shard is written elsewhere"
    assert verify_cube(open_storage(settings.out)) == []
    digest = read_clip(settings.clip or "").digest
    assert plan.to_json()["clip"]["sha256"] == digest  # type: ignore[index]
    assert digest[:12] in str(describe_cube(settings.out)["clip"])
    features, report = map_plans([replace(settings, out=str(tmp_path / "plan.zarr"))])
    assert sum(each["properties"]["empty"] for each in features) == report["total"]["blocks_empty"] == 1


@pytest.mark.slow
def test_the_plan_knows_the_polygon(settings, tmp_path):
    prepared, _ = run_scene(settings)
    plan, found = prepared.plan, arrays(settings.out)

    # Another block, and another file with the same polygon, change nothing.
    copy = squares(tmp_path, (30.2, 20.2, 100), (500.2, 1060.2, 25), name="copy.json")
    other = replace(settings, out=str(tmp_path / "b.zarr"), block=1024, clip=copy)
    again, _ = run_scene(other)
    assert again.plan.digest == plan.digest
    for name, values in arrays(other.out).items():
        np.testing.assert_array_equal(values, found[name])

    # A region and a polygon: what lies in both.
    x, y = prepared.source.grid.transform @ (100, 70)
    part = replace(settings, region=(x, y - 60, x + 60, y), out=str(tmp_path / "c.zarr"))
    with prepare(part) as cut:
        assert cut.plan.window == Window(70, 100, 120, 120).intersection(plan.window)
    with pytest.raises(UsageError, match="the polygon does not meet the region"):
        prepare(replace(part, region=(x + 250, y - 60, x + 260, y)))
    with pytest.raises(UsageError, match="the polygon does not meet the scene"):
        prepare(replace(part, clip=squares(tmp_path, (3000, 0, 5), name="away.json")))
    with pytest.raises(UsageError, match="overwrite the scene"):
        prepare(replace(part, out=str(tmp_path), overwrite=True))

    # It is resumed with the same polygon alone.
    for clip in (None, squares(tmp_path, (30.2, 20.2, 101), name="more.json")):
        with pytest.raises(CubeError, match=r"started with other settings .*clip"):
            run_scene(replace(settings, clip=clip, resume=True, block=None, region=None))
    run_scene(replace(settings, resume=True, clip=copy))

    # Its damaged blocks are made again, given the polygon.
    shard = next(Path(settings.out, "reflectance", "c").rglob("*/[0-9]*/[0-9]*"))
    shard.write_bytes(b"damage")
    with pytest.raises(UsageError, match="name it with --clip"):
        repair_cube(settings.out, [settings.scene])
    _, left = repair_cube(settings.out, [settings.scene], clip=copy)
    assert not left.problems
    for name, values in arrays(settings.out).items():
        np.testing.assert_array_equal(values, found[name])


def test_a_scene_of_several_files_is_clipped_and_mended_too(write_scene, tmp_path):
    folder = tmp_path / "bands"
    folder.mkdir()
    for at, colour in enumerate(("red", "green", "blue")):
        values = np.full((1, 60, 80), 1000 * (at + 1), np.uint16)
        write_scene(values, crs="EPSG:32619", photometric="MINISBLACK").rename(folder / f"{colour}.tif")
    settings = SceneSettings(
        scene=str(folder), out=str(tmp_path / "stack.zarr"), model="bands-repeat", block=512,
        radiometry="dn:0,0.0001", clip=squares(tmp_path, (10.2, 20.2, 30)),
    )  # fmt: skip
    with prepare(settings, dry=True) as dry:
        assert dry.plan.window == Window(10, 20, 31, 31)
        assert dry.plan.clip is not None
    run_scene(settings)
    expected = np.ones((31, 31), dtype=np.uint8)
    expected[-1] = expected[:, -1] = 0
    found = arrays(settings.out)
    np.testing.assert_array_equal(found["valid"], expected)
    next(Path(settings.out, "reflectance", "c").rglob("*/[0-9]*/[0-9]*")).write_bytes(b"damage")
    with pytest.raises(UsageError, match="name it with --clip"):
        repair_cube(settings.out, [settings.scene])
    assert repair_cube(settings.out, [settings.scene], clip=settings.clip)[1].problems == []
    np.testing.assert_array_equal(arrays(settings.out)["reflectance"], found["reflectance"])


def test_a_flight_line_is_clipped_too(make_scene, tmp_path):
    first = make_scene((60, 80))
    second = first.rename(tmp_path / "first.tif")
    first = make_scene((60, 80), seed=1)
    settings = LineSettings(
        scenes=(str(first), str(second)), out=str(tmp_path / "line.zarr"), model="bands-repeat", block=512,
        clip=squares(tmp_path, (10.2, 20.2, 30)),
    )  # fmt: skip
    run_line(settings)
    group = zarr.open_group(settings.out, mode="r")
    assert group["valid"].shape == (31, 31)
    expected = np.ones((31, 31), dtype=np.uint8)
    expected[-1] = expected[:, -1] = 0
    np.testing.assert_array_equal(group["valid"][:], expected)
    np.testing.assert_array_equal(group["source"][:] > 0, expected > 0)
    next(Path(settings.out, "reflectance", "c").rglob("*/[0-9]*/[0-9]*")).write_bytes(b"damage")
    assert repair_cube(settings.out, list(settings.scenes), clip=settings.clip)[1].problems == []
    assert verify_cube(open_storage(settings.out)) == []
