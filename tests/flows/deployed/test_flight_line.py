import json
from dataclasses import asdict, replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr
from affine import Affine

from spectile.catalog.errors import CubeError, SpectileError, UsageError
from spectile.flows.commands import app as cli
from spectile.flows.run import execute, predictors, state
from spectile.flows.run.line import prepare_line, run_line, start_line
from spectile.flows.run.settings import LineSettings, SceneSettings, parameters_of
from spectile.pipeline import run
from spectile.pipeline.cube.record import finished_blocks, open_cube, read_status
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.plan.cost import Workload
from spectile.pipeline.plan.shares import cells
from spectile.pipeline.store.local import LocalStorage
from tests.pipeline.fakes import Positional

pytestmark = pytest.mark.slow  # whole runs of lines

METRE = Affine(1, 0, 500_000, 0, -1, 4_000_000)
EXTENT = (500_000, 4_000_000 - 1536, 500_000 + 2048, 4_000_000)


@pytest.fixture
def write(tmp_path):
    """Write a float32 scene of a shape with its first pixel at (row, col) of METRE's grid; its path."""

    def write(name, row, col, shape, *, degrees=0.0, seed=0, folder=tmp_path) -> str:
        values = np.random.default_rng(seed).random((3, *shape), dtype=np.float32) * 0.5
        transform = METRE @ Affine.translation(col, row) @ Affine.rotation(degrees)
        path = Path(folder) / name
        with rasterio.open(
            path, "w", driver="GTiff", count=3, height=shape[0], width=shape[1], dtype="float32",
            crs="EPSG:32633", transform=transform,
        ) as dataset:  # fmt: skip
            dataset.write(values)
        return str(path)

    return write


@pytest.fixture
def neighbourly(monkeypatch) -> None:
    """A predictor whose tiles depend on all of their pixels, as a network's do."""
    monkeypatch.setattr(predictors, "predictor_of", lambda settings: Positional(leak=0.5, settings={}))


def settings_of(out, *scenes, add=(), **given) -> LineSettings:
    small = {"model": "bands-repeat", "block": 512, "tile": 128, "halo": 16}
    return LineSettings(scenes=scenes, add=add, out=str(out), **{**small, **given})


def shards(out) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in Path(out).rglob("c/**/*") if p.is_file()}


def counts(out) -> np.ndarray:
    return zarr.open_group(out, mode="r")["reflectance"][:]


@pytest.fixture
def scenes(write) -> list[str]:
    """Two that overlap, in the upper left of EXTENT."""
    return [
        write("a.tif", 10, 20, (500, 300), seed=1),
        write("b.tif", 300, 200, (400, 350), seed=2, degrees=10),
    ]


def test_a_line_becomes_a_verified_cube_without_its_empty_blocks(scenes, tmp_path, neighbourly):
    out = tmp_path / "line.zarr"
    prepared, result = run_line(settings_of(out, *scenes, extent=EXTENT))
    assert verify_cube(LocalStorage(out)) == []
    valid = prepared.source.read(prepared.plan.window)[1]
    held = {
        (row, col) for row in range(3) for col in range(4)
        if valid[row * 512 : (row + 1) * 512, col * 512 : (col + 1) * 512].any()
    }  # fmt: skip
    assert 2 < len(held) < 6
    assert (result.blocks_done, prepared.estimate.blocks_empty) == (len(held), 12 - len(held))
    written = {tuple(map(int, name.split("/")[-2:])) for name in shards(out) if name.startswith("valid/")}
    assert written == held
    found = open_cube(out)
    np.testing.assert_array_equal(found.valid.values.astype(bool), valid)
    np.testing.assert_array_equal(
        found.source.values, prepared.source.read_with_index(prepared.plan.window)[1]
    )
    assert np.isfinite(found.reflectance.values[:, valid]).all()
    assert np.isnan(found.reflectance.values[:, ~valid]).all()
    assert found.source.attrs["scenes"] == ["a.tif", "b.tif"]
    assert "weighted mean" in found.source.attrs["comment"]
    assert found.rio.crs.to_epsg() == 32633
    computed = prepared.estimate.tiles - prepared.estimate.tiles_masked
    assert result.tiles + result.tiles_kept == computed
    assert result.tiles_skipped == prepared.estimate.tiles_masked


def test_a_line_of_one_scene_on_its_own_grid_is_that_scenes_cube(write, tmp_path, neighbourly):
    scene = write("a.tif", 0, 0, (600, 530))
    run_line(settings_of(tmp_path / "line.zarr", scene))
    execute.run_scene(
        SceneSettings(
            scene=scene, out=str(tmp_path / "scene.zarr"), model="bands-repeat", block=512, tile=128, halo=16
        )
    )
    np.testing.assert_array_equal(counts(tmp_path / "line.zarr"), counts(tmp_path / "scene.zarr"))


def test_an_added_scene_changes_the_blocks_that_it_touches_and_no_byte_of_others(
    write, scenes, tmp_path, neighbourly
):
    # The new scene ends 20 px before the block on its right: only its halo reaches there.
    new = write("c.tif", 560, 700, (400, 304), seed=3)
    out, whole = tmp_path / "line.zarr", tmp_path / "whole.zarr"
    run_line(settings_of(whole, *scenes, new, extent=EXTENT))
    run_line(settings_of(out, *scenes, extent=EXTENT))
    before = shards(out)
    settings = settings_of(out, *scenes, add=(new,))
    prepared = prepare_line(settings)
    cube = start_line(prepared, settings)
    assert read_status(cube.storage)["status"] == "incomplete"
    todo = {block.name for block in execute.remaining(cube)}
    alone = replace(prepared.source, members=prepared.source.members[2:])
    touched = set()
    for block in prepared.plan.blocks:
        tiles = list(prepared.plan.tiling.tiles(block.window))
        if alone.read(tiles[0].window.union(tiles[-1].window))[1].any():
            touched.add(block.name)
    assert todo == touched
    assert "r0001c0002" not in todo  # nothing valid of the line lies there
    _, result = run_line(settings)
    after = shards(out)
    done = {f"/{int(name[1:5])}/{int(name[6:])}" for name in touched}
    for name, value in before.items():
        if not name.startswith("overviews/") and not any(name.endswith(each) for each in done):
            assert after[name] == value, name
    assert 0 < len(done) < result.blocks_done
    assert after == shards(whole)
    assert verify_cube(LocalStorage(out)) == []
    assert open_cube(out).source.attrs["scenes"] == ["a.tif", "b.tif", "c.tif"]
    statuses = [read_status(LocalStorage(each)) for each in (out, whole)]
    assert statuses[0]["digest"] == statuses[1]["digest"]
    _, again = run_line(settings)
    assert again.megapixels == 0


def test_a_scene_whose_halo_reaches_a_block_touches_it(write, tmp_path, neighbourly):
    first = write("a.tif", 0, 0, (500, 900), seed=1)
    new = write("b.tif", 520, 300, (200, 190), seed=2)  # ends at column 490: block 1 starts at 512
    out, whole = tmp_path / "line.zarr", tmp_path / "whole.zarr"
    run_line(settings_of(out, first, extent=EXTENT))
    run_line(settings_of(whole, first, new, extent=EXTENT))
    before = shards(out)
    run_line(settings_of(out, first, add=(new,)))
    after = shards(out)
    assert after == shards(whole)
    assert before["reflectance/c/0/0/1"] != after["reflectance/c/0/0/1"]


@pytest.mark.slow
def test_an_add_that_was_killed_goes_on_with_the_same_command(
    write, scenes, tmp_path, neighbourly, monkeypatch
):
    new = write("c.tif", 300, 300, (400, 604), seed=3)
    out, whole = tmp_path / "line.zarr", tmp_path / "whole.zarr"
    run_line(settings_of(whole, *scenes, new, extent=EXTENT))
    run_line(settings_of(out, *scenes, extent=EXTENT))
    real, written = run.write_block, []

    def write_block(cube, block, *args, **kwargs):
        if written:
            raise KeyboardInterrupt
        written.append(block.name)
        return real(cube, block, *args, **kwargs)

    settings = settings_of(out, *scenes, add=(new,))
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_block", write_block)
        with pytest.raises(KeyboardInterrupt):
            run_line(settings)
    assert verify_cube(LocalStorage(out)) != []
    _, result = run_line(settings)
    assert result.blocks_done == len(finished_blocks(start_line(prepare_line(settings), settings)))
    # The run began elsewhere, so that other tiles went through the network together: one count, as promised.
    made, expected = (zarr.open_group(each, mode="r")["reflectance"][:].astype(int) for each in (out, whole))
    np.testing.assert_allclose(made, expected, rtol=0, atol=1)


def test_a_stopped_line_is_resumed_where_it_stopped(scenes, tmp_path, neighbourly):
    out, whole = tmp_path / "line.zarr", tmp_path / "whole.zarr"
    run_line(settings_of(whole, *scenes))
    settings = settings_of(out, *scenes)
    prepared = prepare_line(settings)
    cube = start_line(prepared, settings)
    first = execute.remaining(cube)[:1]
    execute.process_blocks(prepared, cube, first, tally=state.Tally(), observer=state.Silent())
    with pytest.raises(CubeError, match="the output exists"):
        run_line(settings)
    _, result = run_line(settings_of(out, *scenes, resume=True, block=None))
    assert result.blocks_done == len(prepared.plan.blocks) > 1
    assert result.megapixels < sum(map(prepared.plan.pixels, prepared.plan.blocks)) / 1e6
    assert shards(out) == shards(whole)
    with pytest.raises(CubeError, match=r"line\.combine first instead of feather"):
        run_line(settings_of(out, *scenes, resume=True, combine="first"))


def test_neither_block_nor_region_changes_a_value(scenes, tmp_path, neighbourly):
    run_line(settings_of(tmp_path / "small.zarr", *scenes, extent=EXTENT))
    run_line(settings_of(tmp_path / "large.zarr", *scenes, extent=EXTENT, block=1536))
    assert shards(tmp_path / "small.zarr") == shards(tmp_path / "large.zarr")
    region = (500_000 + 101, 4_000_000 - 700, 500_000 + 650, 4_000_000 - 203)
    run_line(settings_of(tmp_path / "part.zarr", *scenes, extent=EXTENT, region=region))
    part = counts(tmp_path / "small.zarr")[:, 203:700, 101:650]
    np.testing.assert_array_equal(counts(tmp_path / "part.zarr"), part)
    nothing = (501_800, 4_000_000 - 1500, 501_900, 4_000_000 - 1400)
    with pytest.raises(UsageError, match="no scene of the line has a valid pixel"):
        run_line(settings_of(tmp_path / "none.zarr", *scenes, extent=EXTENT, region=nothing))


def test_what_cannot_be_added_is_refused_and_changes_nothing(write, scenes, tmp_path):
    out, single = tmp_path / "line.zarr", tmp_path / "single.zarr"
    run_line(settings_of(out, *scenes, extent=EXTENT))
    execute.run_scene(SceneSettings(scene=scenes[0], out=str(single), model="bands-repeat", block=512))
    held = shards(out), read_status(LocalStorage(out))
    new = write("c.tif", 300, 300, (90, 90), seed=3)
    far = write("far.tif", 9000, 9000, (90, 90))
    refused = {
        "fixed when its cube is created": settings_of(out, *scenes, add=(new,), crs="EPSG:32633"),
        r"got --extent --frame": settings_of(out, *scenes, add=(new,), extent=EXTENT, frame="line"),
        "to a flight line only": settings_of(single, *scenes, add=(new,)),
        r"a scene of the cube is missing \(got b\.tif\)": settings_of(out, scenes[0], add=(new,)),
        r"not in the cube \(got far\.tif\)": settings_of(out, *scenes, far, add=(new,)),
        r"far\.tif: the scene does not overlap the line's extent": settings_of(out, *scenes, add=(far,)),
        "line.combine nadir instead of feather": settings_of(out, *scenes, add=(new,), combine="nadir"),
        "exclude each other": settings_of(out, *scenes, add=(new,), overwrite=True),
        "no cube of spectile": settings_of(tmp_path / "none.zarr", *scenes, add=(new,)),
    }
    for told, settings in refused.items():
        with pytest.raises(SpectileError, match=told):
            run_line(settings)
    write("b.tif", 300, 200, (400, 350), seed=99)
    with pytest.raises(CubeError, match=r"settings|scenes"):
        run_line(settings_of(out, *scenes, add=(new,)))
    assert (shards(out), read_status(LocalStorage(out))) == held


def test_a_folder_that_already_holds_the_new_scene_may_be_named(write, tmp_path):
    folder = tmp_path / "scenes"
    folder.mkdir()
    write("b.tif", 0, 0, (90, 90), folder=folder)
    write("c.tif", 40, 40, (90, 90), folder=folder)
    out = tmp_path / "line.zarr"
    run_line(settings_of(out, str(folder), extent=(500_000, 3_999_000, 500_900, 4_000_000)))
    new = write("a.tif", 90, 20, (90, 90), folder=folder)
    run_line(settings_of(out, str(folder), add=(new,)))
    assert open_cube(out).source.attrs["scenes"] == ["b.tif", "c.tif", "a.tif"]
    newer = write("aa.tif", 190, 20, (90, 90), folder=folder)
    run_line(settings_of(out, str(folder), add=(newer,)))
    assert open_cube(out).source.attrs["scenes"] == ["b.tif", "c.tif", "a.tif", "aa.tif"]
    assert verify_cube(LocalStorage(out)) == []


def test_an_added_display_picture_takes_the_lines_gain(tmp_path):
    def picture(name, col, level) -> str:
        with rasterio.open(
            tmp_path / name, "w", driver="GTiff", count=3, height=60, width=60, dtype="uint8",
            crs="EPSG:32633", transform=METRE @ Affine.translation(col, 0),
        ) as dataset:  # fmt: skip
            dataset.write(np.full((3, 60, 60), level, np.uint8))
        return str(tmp_path / name)

    out, first = tmp_path / "line.zarr", picture("a.tif", 0, 100)
    run_line(settings_of(out, first, extent=(500_000, 3_999_900, 500_200, 4_000_000)))
    gain = read_status(LocalStorage(out))["plan"]["settings"]["line"]["gain"]
    run_line(settings_of(out, first, add=(picture("b.tif", 40, 200),)))
    said = read_status(LocalStorage(out))["plan"]
    assert said["settings"]["line"]["gain"] == gain
    assert [scene["radiometry"]["gain"] for scene in said["scenes"]] == [gain, gain]


def test_a_line_records_no_folder(scenes, tmp_path):
    out = tmp_path / "line.zarr"
    prepared, result = run_line(settings_of(out, *scenes))
    stored = json.dumps(read_status(LocalStorage(out)))
    assert str(tmp_path) not in stored
    assert stored.count('"sha256"') == 2
    json.dumps(execute.report(prepared, result), allow_nan=False)


def test_a_diagonal_line_costs_its_data_and_its_borders(write, tmp_path):
    scene = write("a.tif", 400, 0, (150, 4000), degrees=45)
    plan = prepare_line(settings_of(tmp_path / "x.zarr", scene, tile=64, halo=8), dry=True).plan
    estimate = Workload(plan, 3).estimate()
    tiles = {cell for share in plan.scenes for cell in cells(share.tiles)}
    # A strip of width w meets squares of side s on an area that is w + s·√2 wide.
    assert len(tiles) * plan.tiling.core**2 < 1.1 * (150 + 64 * 2**0.5) * 4000
    assert estimate.pixels < 1.2 * (150 + 512 * 2**0.5) * 4000
    assert estimate.blocks_empty > estimate.blocks
    line = prepare_line(settings_of(tmp_path / "x.zarr", scene, frame="line"), dry=True)
    assert (line.estimate.pixels, line.estimate.blocks_empty) == (150 * 4000, 0)


def test_the_flows_parameters_are_the_settings_with_their_defaults():
    from spectile.flows.deployed.flight_line import process_flight_line

    parameters = list(signature(process_flight_line.fn).parameters.values())
    assert [(each.name, each.default) for each in parameters] == [
        (each.name, each.default) for each in parameters_of(LineSettings)
    ]
    assert [each.name for each in parameters[:3]] == ["scenes", "out", "add"]


def test_the_parameter_schema_has_the_choices_and_the_limits():
    from spectile.flows.deployed.flight_line import process_flight_line

    schema = process_flight_line.parameters.model_dump()["properties"]
    assert schema["frame"]["enum"] == ["north-up", "line"]
    assert schema["combine"]["enum"] == ["feather", "first", "nadir"]
    assert schema["resampling"]["enum"] == ["bilinear", "cubic"]
    assert schema["scenes"]["minItems"] == 1


def test_the_flow_makes_the_same_cube_bit_for_bit(scenes, prefect_server, tmp_path):
    from spectile.flows.deployed.flight_line import process_flight_line

    here, there = settings_of(tmp_path / "here.zarr", *scenes), settings_of(tmp_path / "there.zarr", *scenes)
    run_line(here)
    with prefect_server.in_use():
        report = process_flight_line(**asdict(there))
    assert report["result"]["blocks_failed"] == 0
    assert [scene["name"] for scene in report["scenes"]] == ["a.tif", "b.tif"]
    assert shards(tmp_path / "here.zarr") == shards(tmp_path / "there.zarr")


def test_the_command_takes_the_options_of_run_and_its_own(scenes, tmp_path, capsys):
    from spectile.flows.commands.line import flight_line
    from spectile.flows.commands.run import run as run_command

    run_options = set(signature(run_command).parameters) - {"scene"}
    assert run_options < set(signature(flight_line).parameters)
    out = str(tmp_path / "line.zarr")
    given = ["flight-line", *scenes, "--out", out, "--model", "bands-repeat", "--block", "512"]
    extent = ",".join(map(str, EXTENT))
    assert cli.main([*given, "--extent", extent, "--dry-run"]) == 0
    planned = capsys.readouterr().out
    assert "more are empty" in planned
    assert not Path(out).exists()
    assert cli.main([*given, "--frame", "line", "--radiometry", "a.tif=reflectance", "--samples", "2"]) == 0
    capsys.readouterr()
    assert cli.main(["info", out]) == 0
    assert "2: a.tif, b.tif" in capsys.readouterr().out
    assert cli.main([*given, "--radiometry", "z.tif=display", "--overwrite"]) == 2
    assert "no such scene" in capsys.readouterr().err
    assert cli.main(["verify", out]) == 0


@pytest.mark.data
def test_two_real_scenes_become_one_cube(data_dir, tmp_path, neighbourly):
    real = [str(data_dir / "rgb_misc" / f"rio-tiler__mosaic_cog{n}.tif") for n in (1, 2)]
    out, whole = tmp_path / "line.zarr", tmp_path / "whole.zarr"
    told = {"radiometry": ("dn:0,0.0001",)}
    extent = (425_000, 4_978_000, 779_000, 5_217_000)
    run_line(settings_of(whole, *real, extent=extent, resolution=300.04, **told))
    run_line(settings_of(out, real[0], extent=extent, resolution=300.04, **told))
    run_line(settings_of(out, real[0], add=(real[1],), **told))
    assert shards(out) == shards(whole)
    assert verify_cube(LocalStorage(out)) == []
