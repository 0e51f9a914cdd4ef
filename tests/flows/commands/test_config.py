"""Settings from a file, and runs of several scenes."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from spectile.flows.commands import app as cli
from spectile.flows.run import execute
from spectile.pipeline.cube.record import read_status
from spectile.pipeline.store.opening import open_storage

FAST = ("--model", "bands-repeat", "--block", "512")


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch) -> None:
    monkeypatch.setattr(execute, "write_quicklook", lambda storage: "")


@pytest.fixture
def told(capsys):
    """Run the command line in this process; its exit code, its output, and the last line of its errors."""

    def run(*arguments) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err.splitlines()[-1] if err else ""

    return run


@pytest.fixture
def scenes(make_scene, tmp_path) -> list[Path]:
    """Three scenes in a folder; the second is broken."""
    (tmp_path / "scenes").mkdir()
    found = [make_scene((20 + seed, 30), seed=seed).rename(tmp_path / "scenes" / f"{name}.tif")
             for seed, name in enumerate("abc")]  # fmt: skip
    found[1].write_bytes(b"II*\0 no raster")
    return found


def test_each_scene_gets_its_cube_and_a_broken_one_stops_none(told, scenes, tmp_path):
    out, numbers = tmp_path / "cubes", tmp_path / "n.json"
    given = ("run", *scenes, "--out", f"{out}/", *FAST, "--json", numbers)
    code, printed, error = told(*given)
    assert (code, error) == (1, "spectile: error: 1 of 3 scenes failed")
    rows = [line.split() for line in printed.splitlines()]
    assert rows[0] == ["scene", "state", "cube", "why"]
    assert [row[:2] for row in rows[1:]] == [["a.tif", "done"], ["b.tif", "failed"], ["c.tif", "done"]]
    assert sorted(path.name for path in out.glob("*.zarr")) == ["a.zarr", "c.zarr"]
    facts = json.loads(numbers.read_text())
    assert (facts["done"], facts["failed"], len(facts["reports"])) == (2, 1, 2)
    assert "not a raster" in facts["scenes"][1]["why"]
    # A cube is that of the scene alone.
    assert told("run", scenes[0], "--out", tmp_path / "alone.zarr", *FAST)[0] == 0
    digests = [
        read_status(open_storage(path))["digest"] for path in (out / "a.zarr", tmp_path / "alone.zarr")
    ]
    assert digests[0] == digests[1]

    # They are there: refused one by one, or continued; the mended one is made.
    scenes[1].write_bytes(scenes[0].read_bytes())
    code, _, _ = told(*given)
    assert code == 1
    assert json.loads(numbers.read_text())["failed"] == 2
    before = zarr.open_group(out / "a.zarr", mode="r")["reflectance"][:]
    pattern = tmp_path / "scenes" / "*.tif"
    (tmp_path / "scenes" / "x.quicklook.tif").touch()
    code, printed, _ = told("run", pattern, "--out", out, *FAST, "--resume", "--json", numbers)
    assert code == 0, printed
    assert json.loads(numbers.read_text())["done"] == 3
    np.testing.assert_array_equal(zarr.open_group(out / "b.zarr", mode="r")["reflectance"][:], before)

    code, printed, _ = told("run", pattern, "--out", tmp_path / "other", *FAST, "--dry-run")
    assert code == 0
    firsts = [line.split()[0] for line in printed.splitlines()]
    assert firsts == ["channels", "scene", "a.tif", "b.tif", "c.tif", "total"]
    assert not (tmp_path / "other").exists()


def test_scenes_whose_names_collide_are_refused_before_the_first(told, scenes, tmp_path):
    (tmp_path / "more").mkdir()
    same = tmp_path / "more" / "a.jp2"
    same.write_bytes(b"")
    code, _, error = told("run", scenes[0], scenes[2], same, "--out", tmp_path / "cubes", *FAST)
    assert code == 2
    assert "two scenes would be one cube" in error
    assert not (tmp_path / "cubes").exists()
    code, _, error = told("run", tmp_path / "none*.tif", "--out", tmp_path / "cubes", *FAST)
    assert (code, "no scene matches" in error) == (2, True)


def test_a_file_names_settings_and_the_command_line_overrides_it(told, scenes, tmp_path):
    config, cube, numbers = tmp_path / "run.toml", tmp_path / "cube.zarr", tmp_path / "n.json"
    config.write_text(
        f'scene = "{scenes[0]}"\nout = "{cube}"\nmodel = "bands-repeat"\nblock = 512\nsamples = 4\n'
        'layers = ["sd", "q05"]\nmemory = "3GB"\noverwrite = true\n'
        "region = [320000, 4880990, 320010, 4881000]\n"
        "datetime = 2024-05-01T10:00:00Z\n"
    )
    assert told("run", "--config", config, "--json", numbers)[0] == 0
    plan = json.loads(numbers.read_text())["plan"]
    assert (plan["samples"], plan["layers"], plan["shape"]) == (4, ["sd", "q05"], [48, 20, 20])
    assert (
        told("run", scenes[2], "--config", config, "--samples", 2, "--layers", "sd", "--json", numbers)[0]
        == 0
    )
    facts = json.loads(numbers.read_text())
    assert (facts["scene"], facts["plan"]["samples"], facts["plan"]["layers"]) == ("c.tif", 2, ["sd"])
    # The same file plans; what is written there is not the cube.
    code, printed, _ = told("plan", "--config", config, "--out", tmp_path / "plan.geojson")
    assert code == 0
    assert printed.splitlines()[2].startswith("a.tif")
    code, _, error = told("plan", "--config", config)
    assert (code, "--out" in error) == (2, True)

    line = tmp_path / "line.toml"
    line.write_text(f'scenes = ["{scenes[0]}", "{scenes[2]}"]\nout = "{tmp_path}/line.zarr"\n'
                    'model = "bands-repeat"\nblock = 512\n'
                    'radiometry = "display"\ncombine = "first"\n')  # fmt: skip
    assert told("flight-line", "--config", line, "--json", numbers)[0] == 0
    assert json.loads(numbers.read_text())["line"]["combine"] == "first"
    inbox = tmp_path / "watch.toml"
    inbox.write_text(f'inbox = "{tmp_path}/scenes"\nout = "{tmp_path}/watched"\nsettle = "0s"\n'
                     'model = "bands-repeat"\nblock = 512\n')  # fmt: skip
    assert told("watch", "--once", "--config", inbox)[0] == 1  # one is broken
    assert (tmp_path / "watched" / "a.zarr").exists()
    several = tmp_path / "several.toml"
    several.write_text(f'scene = ["{scenes[0]}", "{scenes[2]}"]\nout = "{tmp_path}/both"\n'
                       'model = "bands-repeat"\nblock = 512\n')  # fmt: skip
    assert told("run", "--config", several)[0] == 0
    assert sorted(path.name for path in (tmp_path / "both").glob("*.zarr")) == ["a.zarr", "c.zarr"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sampels = 2", "run.toml: unknown setting (got sampels, expected allow_private, "),
        ("crs = 'EPSG:32633'", "unknown setting (got crs"),
        ("json_file = 'a'", "unknown setting (got json_file"),
        ("config = 'b.toml'", "unknown setting (got config"),
        ("samples = 0", "--samples"),
        ("samples = 2.5", "--samples"),
        ("samples = true", "run.toml: samples: no value of a setting (got True"),
        ("samples = []", "--samples"),
        ("overwrite = 'yes'", "run.toml: overwrite: a setting that is true or false (got yes"),
        ("region = [1, 2, 3]", "--region"),
        ("region = [[1], 2, 3, 4]", "no value of a setting"),
        ("[samples]\na = 1", "no value of a setting"),
        ("device = 'tpu'", "--device"),
        ("block = 600", "invalid setting block (got 600, expected a multiple of 512)"),
        ("samples = ", "not TOML"),
        ("a = " + "[" * 100_000, "not TOML"),
        ("#" * 1_000_001, "too large"),
        ("", "Missing argument 'SCENE...'"),
    ],
)
def test_files_that_cannot_be_used_are_refused_in_one_line(told, tmp_path, text, line):
    config = tmp_path / "run.toml"
    config.write_text(text)
    given = () if not text else (tmp_path / "none.tif", "--out", tmp_path / "c.zarr")
    code, _, error = told("run", *given, "--config", config)
    assert code == 2
    assert error.startswith("spectile: error: ")
    assert line in error
    code, _, error = told("run", "a.tif", "--out", "b", "--config", tmp_path / "none.toml")
    assert (code, "the settings cannot be read" in error) == (2, True)
