import json
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

from spectile.flows.commands import app as cli
from spectile.flows.run import predictors
from spectile.flows.run.execute import finish_cube, process_blocks, remaining, start_cube
from spectile.flows.run.holding import Beating, holding
from spectile.flows.run.planning import prepare
from spectile.flows.run.settings import SceneSettings
from spectile.flows.run.state import Silent, Tally
from spectile.pipeline.store.opening import open_storage

FAST = ("--model", "bands-repeat", "--block", "512", "--tile", "64", "--halo", "8")
CRS = "EPSG:32619"  # of write_scene
HALF_METRE = Affine.translation(320_000.0, 4_881_000.0) @ Affine.scale(0.5, -0.5)


@pytest.fixture
def scene(write_scene):
    squares = np.random.default_rng(0).integers(1, 255, (3, 53, 110), dtype=np.uint8)
    return write_scene(np.kron(squares, np.ones((1, 10, 10), dtype=np.uint8)), photometric="RGB")


@pytest.fixture
def spectile(capsys):
    """Run a command that must succeed; its output."""

    def run(*arguments) -> str:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return run


def features(path) -> list[dict]:
    document = json.loads(path.read_text())
    assert document.keys() == {"type", "features"}
    assert document["type"] == "FeatureCollection"
    for feature in document["features"]:
        assert feature.keys() == {"type", "geometry", "properties"}
        assert feature["type"] == "Feature"
    return document["features"]


def values(found, key) -> list:
    return [feature["properties"][key] for feature in found]


def in_metres(feature, crs=CRS) -> shapely.Geometry:
    back = Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform
    polygon = shapely.from_geojson(json.dumps(feature["geometry"]))
    return shapely.transform(polygon, lambda xy: np.stack(back(*xy.T), axis=1))


def test_a_plan_is_a_polygon_for_each_block_and_reads_no_pixel(spectile, scene, tmp_path):
    with scene.open("r+b") as file:
        file.truncate(scene.stat().st_size // 2)  # its pixels are not there
    out, numbers = tmp_path / "plan.geojson", tmp_path / "plan.json"
    told = spectile("plan", scene, "--out", out, *FAST, "--samples", 2, "--json", numbers)
    found, report = features(out), json.loads(numbers.read_text())
    assert values(found, "block") == [f"r{row:04d}c{col:04d}" for row in range(2) for col in range(3)]
    assert set(values(found, "scene")) == {"scene.tif"}
    assert values(found, "pixels") == [512**2, 512**2, 512 * 76, 512 * 18, 512 * 18, 18 * 76]
    assert not any(values(found, "empty"))
    (one,) = report["scenes"]
    for key in ("tiles", "pixels"):
        assert sum(values(found, key)) == report["total"][key] == one["plan"][key]
    assert sum(values(found, "cube_bytes")) == report["total"]["output_bytes"]
    assert sum(values(found, "seconds_estimated")) == pytest.approx(3600 * report["total"]["hours"], abs=0.01)
    assert 0 < max(values(found, "memory_bytes")) < report["total"]["peak_memory_bytes"]
    assert len(told.splitlines()) == 3
    assert told.startswith("channels  red (605 nm): band 1 (red); green (540 nm): band 2 (green); ")
    assert "scene.tif" in told
    polygons = [in_metres(feature) for feature in found]
    whole = shapely.box(320_000, 4_881_000 - 265, 320_550, 4_881_000)
    assert sum(each.area for each in polygons) == pytest.approx(whole.area, rel=1e-6)
    assert whole.symmetric_difference(shapely.union_all(polygons)).area < 1e-6 * whole.area
    assert not list(tmp_path.glob("*.zarr"))


def test_a_region_is_respected(spectile, scene, tmp_path):
    out = tmp_path / "plan.geojson"
    spectile("plan", scene, "--out", out, *FAST, "--region", "320100,4880900,320200,4880950")
    (feature,) = features(out)
    assert feature["properties"]["pixels"] == 200 * 100
    assert in_metres(feature).symmetric_difference(shapely.box(320100, 4880900, 320200, 4880950)).area < 0.01


def test_several_scenes_are_on_one_map_and_load_the_model_once(spectile, write_scene, tmp_path, monkeypatch):
    loaded = []
    load = predictors.predictor_of
    monkeypatch.setattr(predictors, "predictor_of", lambda settings: loaded.append(1) or load(settings))
    small = np.ones((3, 40, 30), dtype=np.uint8)
    folder = tmp_path / "scenes"
    folder.mkdir()
    for name, degrees in (("a.tif", 0), ("b.tif", 30)):
        write_scene(
            small, f"scenes/{name}", photometric="RGB", transform=HALF_METRE @ Affine.rotation(degrees)
        )
    out = folder / "plan.geojson"
    told = spectile("plan", folder, "--out", out, *FAST)
    found = features(out)
    assert values(found, "scene") == ["a.tif", "b.tif"]
    for feature, degrees in zip(found, (0, 30), strict=True):
        turned = HALF_METRE @ Affine.rotation(degrees)
        expected = shapely.Polygon([turned @ corner for corner in ((0, 0), (30, 0), (30, 40), (0, 40))])
        assert in_metres(feature).symmetric_difference(expected).area < 0.01
    assert told.splitlines()[-1].split()[:2] == ["total", "2"]
    assert len(loaded) == 1
    assert len(set(values(found, "seconds_estimated"))) == 1, "they have a tile each"


def test_a_flight_line_shows_its_empty_blocks(spectile, tmp_path):
    for name, col in (("a.tif", 0), ("b.tif", 1300)):
        with rasterio.open(
            tmp_path / name, "w", driver="GTiff", count=3, height=300, width=200, dtype="float32",
            crs="EPSG:32633", transform=Affine(1, 0, 500_000 + col, 0, -1, 4_000_000),
        ) as dataset:  # fmt: skip
            dataset.write(np.full((3, 300, 200), 0.2, dtype=np.float32))
    out = tmp_path / "plan.geojson"
    line = tmp_path / "a.tif", tmp_path / "b.tif"
    spectile("plan", *line, "--out", out, *FAST, "--flight-line", "--resolution", 1)
    found = features(out)
    assert values(found, "scene") == ["a.tif", "", "b.tif"]
    assert values(found, "empty") == [False, True, False]
    assert [value > 0 for value in values(found, "tiles")] == [True, False, True]
    assert values(found, "cube_bytes")[1] == values(found, "memory_bytes")[1] == 0
    assert sum(in_metres(each, "EPSG:32633").area for each in found) == pytest.approx(1500 * 300, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--out", "plan.tif"), "ends in .geojson"),
        (("--out", "plan.geojson", "--resolution", "2"), "use it with --flight-line"),
        (
            ("--out", "plan.geojson", "--radiometry", "display", "--radiometry", "reflectance"),
            "two radiometries",
        ),
        (("--out", "cube.zarr/plan.geojson", "--region", "0,0,1,1"), "does not overlap the scene"),
    ],
)
def test_what_makes_no_map_is_refused(capsys, scene, tmp_path, monkeypatch, arguments, error):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plan", str(scene), *FAST, *arguments]) == 2
    assert error in capsys.readouterr().err
    assert not list(tmp_path.glob("**/plan.*"))


def test_a_scene_without_crs_is_refused(capsys, make_scene, tmp_path):
    out = tmp_path / "plan.geojson"
    assert cli.main(["plan", str(make_scene(crs=None)), "--out", str(out), *FAST]) == 2
    assert "has no CRS" in capsys.readouterr().err
    assert not out.exists()


def test_a_map_never_replaces_data(capsys, scene, tmp_path):
    items = tmp_path / "items.json"
    items.write_text("{}")
    assert cli.main(["plan", str(items), "--out", str(items), *FAST]) == 2
    assert "would overwrite data" in capsys.readouterr().err
    assert items.read_text() == "{}"
    cube = tmp_path / "cube.zarr"
    start_cube(prepare(SceneSettings(scene=str(scene), out=str(cube), model="bands-repeat", tile=64, halo=8)))
    assert cli.main(["status", str(cube), "--geojson", str(cube / "map.geojson")]) == 2
    assert not (cube / "map.geojson").exists()


def test_status_follows_a_run_to_its_end(spectile, make_scene, tmp_path):
    cube, out, numbers = (tmp_path / name for name in ("cube.zarr", "now.geojson", "now.json"))
    prepared = prepare(
        SceneSettings(
            scene=str(make_scene((40, 1100))), out=str(cube), model="bands-repeat", block=512, tile=64, halo=8
        )
    )
    begun = start_cube(prepared)

    def look() -> tuple[list[dict], dict, str]:
        told = spectile("status", cube, "--geojson", out, "--json", numbers)
        return features(out), json.loads(numbers.read_text()), told

    found, summary, told = look()
    assert set(values(found, "state")) == {"missing"}
    assert set(values(found, "attempts")) == {0}
    assert summary["seconds_to_go"] is None
    assert "0 of 3 done, 3 missing" in told

    process_blocks(prepared, begun, prepared.plan.blocks[:2], tally=Tally(), observer=Silent())
    found, summary, told = look()
    assert values(found, "state") == ["done", "done", "missing"]
    assert values(found, "attempts") == [1, 1, 0]
    assert values(found, "pixels_valid") == [512 * 40, 512 * 40, None]
    assert None not in values(found[:2], "seconds")
    assert values(found[2:], "seconds") == [None]
    assert summary["blocks"] == {"total": 3, "done": 2, "running": 0, "failed": 0, "missing": 1, "empty": 0}
    assert summary["percent"] == pytest.approx(100 * 2 * 512 / 1100, abs=0.01)
    assert summary["seconds"] == pytest.approx(sum(values(found[:2], "seconds")))
    tiles = values(found, "tiles")
    pace = summary["seconds"] / sum(tiles[:2])
    assert summary["seconds_to_go"] == pytest.approx(pace * sum(tiles[2:]), abs=0.01)
    assert "2 of 3 done, 1 missing" in told

    process_blocks(prepared, begun, prepared.plan.blocks[2:], tally=Tally(), observer=Silent())
    finish_cube(begun, {})
    found, summary, _ = look()
    assert set(values(found, "state")) == {"done"}
    assert (summary["status"], summary["percent"], summary["seconds_to_go"]) == ("complete", 100, 0)
    assert summary["run"] == "done"


def test_a_block_runs_while_the_lease_is_held(spectile, make_scene, tmp_path):
    cube, numbers = tmp_path / "cube.zarr", tmp_path / "now.json"
    scene = make_scene((40, 1100))
    prepared = prepare(
        SceneSettings(scene=str(scene), out=str(cube), model="bands-repeat", block=512, tile=64, halo=8)
    )
    blocks = prepared.plan.blocks

    def states() -> list[str]:
        spectile("status", cube, "--geojson", tmp_path / "now.geojson", "--json", numbers)
        return values(features(tmp_path / "now.geojson"), "state")

    with holding(prepared.settings) as lease:
        begun = start_cube(prepared, lease.storage)
        watch = Beating(lease, Silent())
        watch.begin(prepared.plan, prepared.estimate, [])
        process_blocks(prepared, begun, blocks[:1], tally=Tally(), observer=watch)
        lease._renew()
        assert states() == ["done", "running", "missing"]
        assert json.loads(numbers.read_text())["run"] == "running"
    assert states() == ["done", "missing", "missing"]
    assert json.loads(numbers.read_text())["run"] == "stopped"


def test_a_place_without_a_cube_is_refused(capsys, tmp_path):
    assert cli.main(["status", str(tmp_path / "none.zarr")]) == 2
    assert "no cube of spectile here" in capsys.readouterr().err


def test_a_block_that_failed_says_why_until_it_is_done(spectile, make_scene, tmp_path):
    scene, cube, out = make_scene((1030, 40)), tmp_path / "cube.zarr", tmp_path / "now.geojson"
    prepared = prepare(
        SceneSettings(
            scene=str(scene), out=str(cube), model="bands-repeat", block=512, tile=64, halo=8, block_retries=0
        )
    )
    begun = start_cube(prepared)

    def attempt() -> None:
        process_blocks(prepared, begun, remaining(begun), tally=Tally(), observer=Silent())

    pixels = scene.read_bytes()
    with scene.open("r+b") as file:
        file.truncate(len(pixels) * 4 // 5)
    attempt()
    told = spectile("status", cube, "--geojson", out)
    found = features(out)
    assert values(found, "state") == ["done", "failed", "failed"]
    assert values(found, "attempts") == [1, 1, 1]
    assert values(found, "error")[0] is None
    assert all("cannot be read here" in error for error in values(found[1:], "error"))
    assert "1 of 3 done, 2 failed" in told

    attempt()
    spectile("status", cube, "--geojson", out)
    assert values(features(out), "attempts") == [1, 2, 2]

    scene.write_bytes(pixels)
    attempt()
    spectile("status", cube, "--geojson", out)
    found = features(out)
    assert values(found, "state") == ["done"] * 3
    assert values(found, "attempts") == [1, 3, 3]
    assert values(found, "error") == [None] * 3

    finish_cube(begun, {})
    spectile("status", cube, "--geojson", out)
    assert values(features(out), "attempts") == [1, 3, 3], "finishing keeps the notes"


def test_maps_and_cubes_may_be_in_an_object_store(spectile, make_scene, object_server):
    scene, cube, out = make_scene((40, 600)), "s3://bucket/out/cube.zarr", "s3://bucket/maps/now.geojson"
    prepared = prepare(
        SceneSettings(scene=str(scene), out=cube, model="bands-repeat", block=512, tile=64, halo=8)
    )
    begun = start_cube(prepared)
    process_blocks(prepared, begun, prepared.plan.blocks[:1], tally=Tally(), observer=Silent())
    assert "1 of 2 done, 1 missing" in spectile("status", cube, "--geojson", out)
    states = json.loads(open_storage(out).parent.get("now.geojson"))["features"]
    assert values(states, "state") == ["done", "missing"]
    spectile("plan", scene, "--out", out, *FAST)
    planned = json.loads(open_storage(out).parent.get("now.geojson"))["features"]
    assert [each["geometry"] for each in planned] == [each["geometry"] for each in states]


def test_the_commands_are_there_when_the_module_is_run():
    done = subprocess.run(
        [sys.executable, "-m", "spectile", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"plan", "status", "flight-line"} <= set(done.stdout.split())
