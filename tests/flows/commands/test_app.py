import json
import signal
import subprocess
import sys
import time
from dataclasses import fields
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import zarr

from spectile.flows.commands import app as cli
from spectile.flows.commands import run as run_command
from spectile.flows.commands.options import given
from spectile.flows.commands.run import run
from spectile.flows.console import console
from spectile.flows.run.execute import run_scene
from spectile.flows.run.settings import SceneSettings
from spectile.pipeline.cube.lease import hold
from spectile.pipeline.cube.record import read_status
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.store.opening import open_storage

FAST = ("--model", "bands-repeat", "--block", "512")


def counts(path) -> np.ndarray:
    return zarr.open_group(path, mode="r")["reflectance"][:]


def command(*arguments, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "spectile", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


@pytest.fixture
def told(capsys):
    """Run the command line in this process; its exit code, its output, and its only error line."""

    def run(*arguments) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        errors = [line for line in err.splitlines() if line.startswith("spectile: error:")]
        assert "Traceback" not in err
        assert len(errors) == (code in (1, 2)), err
        if errors:
            assert err.splitlines()[-1] == errors[0], "the error is one line, and the last"
        return code, out, "".join(errors)

    return run


# --- start


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from spectile.flows.commands import app; app.main(['run', '--help']); "
        "heavy = {'torch', 'prefect', 'zarr', 'rasterio', 'numpy', 'dask', 'matplotlib'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--radiometry" in done.stdout


def test_the_options_are_the_settings_with_their_defaults():
    options = signature(run).parameters
    beside = {"prefect", "dry_run", "json_file", "config"}
    assert options.keys() - beside == {each.name for each in fields(SceneSettings)}
    defaults = {name: option.default for name, option in options.items() if name not in beside}
    left = SceneSettings(scene="s", out="o", **given({**defaults, "scene": None, "out": None}))
    assert left == SceneSettings(scene="s", out="o")


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), (), ("run", "--help"), ("models",)])
def test_questions_are_answered(told, arguments):
    code, out, _ = told(*arguments)
    assert code == 0
    assert out


def test_the_models_are_listed(told):
    _, out, _ = told("models")
    assert {"scdm-paper", "bands-repeat"} <= {line.split()[0] for line in out.splitlines() if line}


# --- a run


@pytest.fixture
def scene(write_scene) -> Path:
    """A strip of two blocks."""
    squares = np.random.default_rng(0).integers(1, 255, (3, 2, 54), dtype=np.uint8)
    return write_scene(np.kron(squares, np.ones((1, 10, 10), dtype=np.uint8)), photometric="RGB")


def test_a_run_says_what_it_made_and_writes_it_for_programs(told, scene, tmp_path):
    cube, numbers = tmp_path / "cube.zarr", tmp_path / "run.json"
    code, out, _ = told("run", scene, "--out", cube, *FAST, "--seed", 7, "--json", numbers)
    assert code == 0
    assert str(cube) in out
    assert "540 × 20 px, 48 bands" in out
    assert "cube.quicklook.png" in out
    assert "MPix/s" in out
    facts = json.loads(numbers.read_text())
    assert {"tiles", "blocks", "redundancy", "output_bytes", "peak_memory_bytes"} <= facts["plan"].keys()
    assert {
        "blocks_done", "blocks_failed", "megapixels", "seconds", "megapixels_per_second", "peak_memory_bytes"
    } <= facts["result"].keys()  # fmt: skip
    assert {"name", "digest"} <= facts["model"].keys()
    assert facts["seed"] == 7
    assert (facts["result"]["blocks_done"], facts["result"]["blocks_failed"]) == (2, 0)

    code, out, _ = told("info", cube)
    assert code == 0
    for fact in ("complete, 2 of 2", "540 × 20 px, 48 bands", "380 to 1050 nm", "EPSG:32619"):
        assert fact in out
    assert "complete, run done" in told("status", cube)[1]
    assert told("verify", cube)[0] == 0

    shard = cube / "reflectance" / "c" / "0" / "0" / "1"
    value = bytearray(shard.read_bytes())
    value[len(value) // 2] ^= 1
    shard.write_bytes(value)
    code, out, _ = told("verify", cube)
    assert code == 1
    assert "block r0000c0001" in out


def test_a_run_that_is_no_terminal_says_how_it_goes_in_lines(scene, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0)
    assert cli.main(["run", str(scene), "--out", str(tmp_path / "cube.zarr"), *FAST]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert any("blocks 1/2, tiles " in line and " MPix/s, " in line and " left" in line for line in lines)
    assert "\x1b" not in "".join(lines)
    assert len({line[:2].isdigit() for line in lines}) == 1, "each line begins with the time"


def test_a_dry_run_reads_no_pixel_and_writes_no_cube(told, scene, tmp_path):
    cube, numbers = tmp_path / "cube.zarr", tmp_path / "run.json"
    with scene.open("r+b") as file:
        file.truncate(scene.stat().st_size // 2)  # its pixels are not there
    code, out, _ = told("run", scene, "--out", cube, *FAST, "--dry-run", "--json", numbers)
    assert code == 0
    assert all(word in out for word in ("tiles", "blocks", "redundancy", "peak memory", "hours", "output"))
    assert "540 × 20 px, 48 bands" in out
    assert not cube.exists()
    facts = json.loads(numbers.read_text())
    assert facts["plan"]["hours"] > 0
    assert "result" not in facts


def test_a_dry_run_refuses_what_the_run_refuses(told, scene, tmp_path):
    cube, other = tmp_path / "cube.zarr", tmp_path / "other"
    run_scene(SceneSettings(scene=str(scene), out=str(cube), model="bands-repeat", block=512))
    other.mkdir()
    (other / "file").touch()
    (tmp_path / "plain").touch()
    for out in (cube, other, tmp_path / "plain" / "cube.zarr"):
        given = ("run", scene, "--out", out, *FAST)
        code, _, error = told(*given)
        assert code in (1, 2)
        assert told(*given, "--dry-run")[0] == code, error
    assert told("run", scene, "--out", cube, *FAST, "--overwrite", "--dry-run")[0] == 0


def test_a_dry_run_refuses_a_cube_that_another_run_is_writing(scene, tmp_path, capsys):
    cube = tmp_path / "cube.zarr"
    with hold(open_storage(cube), 60):
        assert cli.main(["run", str(scene), "--out", str(cube), *FAST, "--resume", "--dry-run"]) == 3
    assert "another run" in capsys.readouterr().err


def test_a_region_is_cut_out(told, scene, tmp_path):
    cube = tmp_path / "cube.zarr"
    code, _, _ = told("run", scene, "--out", cube, *FAST, "--region", "320010,4880993,320060,4880997.5")
    assert code == 0
    assert counts(cube).shape == (48, 9, 100)


def test_resuming_a_finished_cube_recomputes_nothing(told, scene, tmp_path):
    cube, numbers = tmp_path / "cube.zarr", tmp_path / "run.json"
    told("run", scene, "--out", cube, *FAST)
    before = {path: path.stat().st_mtime_ns for path in (cube / "reflectance").rglob("*")}
    code, out, _ = told("run", scene, "--out", cube, *FAST, "--resume", "--json", numbers)
    assert code == 0
    assert "2 of 2 done" in out
    assert json.loads(numbers.read_text())["result"]["megapixels"] == 0
    assert before == {path: path.stat().st_mtime_ns for path in (cube / "reflectance").rglob("*")}


# --- refusals


@pytest.mark.parametrize(
    ("made", "options", "part"),
    [
        ({"count": 2}, (), "lacks a band that the model needs, red (605 nm) (got 2 band(s)"),
        ({"count": 5}, (), "--bands"),
        ({"crs": None}, (), "the scene has no CRS"),
        ({"dtype": "uint16"}, (), "use --radiometry dn:OFFSET,SCALE"),
        ({}, ("--radiometry", "toa"), "unknown radiometry (got 'toa'"),
        ({}, ("--bands", "1,2,9"), "no such band"),
        ({}, ("--bands", "1,2"), "--bands must name one band for each channel"),
        ({}, ("--model", "nothing"), "unknown model (got nothing"),
        ({}, ("--model", "scdm-paper"), "no weights are shipped for scdm-paper; train them with"),
        ({}, ("--tile", "256", "--halo", "65"), "halo 65 is too large for tile 256"),
        ({}, ("--block", "500"), "--block"),
        ({}, ("--block", "600"), "invalid setting block (got 600, expected a multiple of 512)"),
        ({}, ("--samples", "0"), "--samples"),
        ({}, ("--steps", "0"), "--steps"),
        ({}, ("--memory", "4XB"), "--memory"),
        ({}, ("--memory", "500MB", "--model", "bands-repeat"), "the memory budget is too small"),
        ({}, ("--region", "1,2,3"), "--region"),
        ({}, ("--region", "3,2,1,4"), "invalid setting region (got (3.0, 2.0, 1.0, 4.0), expected XMIN"),
        ({}, ("--region", "-9,-9,-1,-1"), "the region does not overlap the scene"),
        ({}, ("--device", "tpu"), "--device"),
        ({}, ("--nodata", "some"), "--nodata"),
        ({}, ("--resume", "--overwrite"), "exclude each other"),
        ({}, ("--sampels", "2"), "--sampels"),
        ({}, ("--json", "nowhere/run.json"), "--json nowhere/run.json"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_line(told, make_scene, tmp_path, made, options, part):
    cube = tmp_path / "cube.zarr"
    model = () if "--model" in options or "--memory" in options else ("--model", "bands-repeat")
    code, _, error = told("run", make_scene(**made), "--out", cube, *model, *options)
    assert code == 2
    assert part in error
    assert not cube.exists()


def test_a_missing_scene_is_refused(told, tmp_path):
    code, _, error = told("run", tmp_path / "none.tif", "--out", tmp_path / "cube.zarr", *FAST)
    assert code == 2
    assert "none.tif: no such file" in error


def test_an_existing_output_is_kept_unless_told_otherwise(told, make_scene, tmp_path):
    scene, cube = make_scene(), tmp_path / "cube.zarr"
    told("run", scene, "--out", cube, *FAST)
    code, _, error = told("run", scene, "--out", cube, *FAST)
    assert code == 2
    assert "the output exists; use --resume" in error
    assert told("run", scene, "--out", cube, *FAST, "--overwrite")[0] == 0
    assert told("verify", cube)[0] == 0


def test_overwriting_spares_what_is_no_cube_and_the_scene_itself(told, make_scene, tmp_path):
    scene = make_scene()
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.txt").write_text("dear")
    for out in (folder, scene, tmp_path):
        code, _, _ = told("run", scene, "--out", out, *FAST, "--overwrite")
        assert code == 2
    assert (folder / "a.txt").read_text() == "dear"
    assert scene.exists()


def test_layers_are_planned_written_and_told(told, make_scene, tmp_path):
    scene, cube, numbers = make_scene(), tmp_path / "cube.zarr", tmp_path / "run.json"
    given = ("run", scene, "--out", cube, *FAST, "--samples", 4)
    _, out, _ = told(*given, "--layers", "q95,sd", "--dry-run", "--json", numbers)
    assert "4 sample(s), layers sd, q95" in out
    facts = json.loads(numbers.read_text())["plan"]
    assert facts["layers"] == ["sd", "q95"]
    assert facts["output_bytes"] == 37 * 53 * (3 * 48 * 2 + 1)
    assert told(*given, "--layers", "q95,sd")[0] == 0
    stored = zarr.open_group(cube, mode="r")
    assert {name for name in stored if name.startswith("refl")} == {
        "reflectance", "reflectance_sd", "reflectance_q95"
    }  # fmt: skip
    # bands-repeat draws the same sample each time.
    np.testing.assert_array_equal(stored["reflectance_q95"][:], stored["reflectance"][:])
    assert stored["reflectance_sd"][:].max() == 0
    assert "sd, q95, not calibrated" in told("info", cube)[1]
    code, _, error = told(*given, "--resume")
    assert code == 2
    assert "layers ['sd'] instead of ['sd', 'q95']" in error

    assert told(*given, "--layers", "none", "--overwrite")[0] == 0
    assert {name for name in zarr.open_group(cube, mode="r") if name.startswith("refl")} == {"reflectance"}


@pytest.mark.parametrize(
    ("samples", "layers", "message"),
    [
        (1, "sd", "the layer sd takes 2 samples or more"),
        (1, "q05,q95", "quantile layers take 4 samples or more"),
        (3, "sd,q95", "use --samples 4 or more"),
        (8, "sd,q50", "invalid setting layers (got ('sd', 'q50'), expected 'sd', 'q05', "),
        (8, "", "invalid setting layers (got ('',), expected 'sd', "),
    ],
)
def test_layers_that_cannot_be_had_are_refused(told, make_scene, tmp_path, samples, layers, message):
    cube = tmp_path / "cube.zarr"
    code, _, error = told("run", make_scene(), "--out", cube, *FAST, "--samples", samples, "--layers", layers)
    assert code == 2
    assert message in error
    assert not cube.exists()


def test_resuming_with_another_seed_is_refused_and_names_it(told, scene, tmp_path, monkeypatch):
    # bands-repeat draws nothing; a predictor that reports its seed stands in for a network.
    from spectile.flows.run import predictors
    from spectile.pipeline.block.predict import BandsRepeat

    class Seeded(BandsRepeat):
        seed = 0

        @property
        def settings(self):
            return {**super().settings, "seed": self.seed}

    def load(settings):
        Seeded.seed = settings.seed
        return Seeded()

    monkeypatch.setattr(predictors, "predictor_of", load)
    cube = tmp_path / "cube.zarr"
    told("run", scene, "--out", cube, *FAST)
    code, _, error = told("run", scene, "--out", cube, *FAST, "--resume", "--seed", "1")
    assert code == 2
    assert "started with other settings" in error
    assert "seed 1 instead of 0" in error


def test_commands_on_what_is_no_cube_are_refused(told, tmp_path):
    for name in ("info", "verify"):
        code, _, error = told(name, tmp_path)
        assert code == 2
        assert "no cube of spectile here" in error


# --- failures


def test_an_unreadable_block_is_named_and_the_cube_stays_incomplete(told, make_scene, tmp_path):
    scene, cube, numbers = make_scene((530, 60)), tmp_path / "cube.zarr", tmp_path / "run.json"
    whole = scene.read_bytes()
    scene.write_bytes(whole[: len(whole) * 3 // 4])
    code, _, error = told("run", scene, "--out", cube, *FAST, "--json", numbers)
    assert code == 1
    assert "block r000" in error
    result = json.loads(numbers.read_text())["result"]
    assert result["blocks_failed"] >= 1
    assert result["blocks_done"] + result["blocks_failed"] == 2
    assert result["quicklook"] is None
    assert read_status(open_storage(cube))["status"] == "incomplete"
    assert "incomplete" in told("info", cube)[1]
    assert told("verify", cube)[0] == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB, smaller than the cube."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system of its own cannot be mounted here; it needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_the_run_in_one_line(told, make_scene, small_disk):
    scene = make_scene((530, 540))  # noise, which does not compress
    cube = small_disk / "cube.zarr"
    code, _, error = told("run", scene, "--out", cube, *FAST)
    assert code == 1
    assert "no space left on the device" in error
    assert "--resume" in error
    assert read_status(open_storage(cube))["status"] == "incomplete"


@pytest.mark.slow
def test_files_that_cannot_grow_stop_the_run_in_one_line(make_scene, tmp_path):
    scene, cube = make_scene((530, 540)), tmp_path / "cube.zarr"
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20)); "
        "from spectile.flows.commands import app; sys.exit(app.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(scene), "--out", str(cube), *FAST],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        f"spectile: error: {cube} block r0000c0000: the store cannot"
    )
    assert cli.main(["run", str(scene), "--out", str(cube), *FAST, "--resume"]) == 0
    assert verify_cube(open_storage(cube)) == []


def test_a_place_without_permission_is_one_line(told, make_scene):
    code, _, error = told("run", make_scene(), "--out", "/proc/cube.zarr", *FAST)
    assert code in (1, 2)
    assert "/proc/cube.zarr" in error


def test_a_bug_shows_its_traceback(make_scene, tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(run_command, "check_json", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", str(make_scene()), "--out", str(tmp_path / "cube.zarr")])


# --- stopping


@pytest.mark.slow
def test_a_run_is_stopped_and_killed_and_resumed_to_the_same_cube(write_scene, tmp_path):
    # Flat squares: noise would be slow to compress.
    squares = np.random.default_rng(0).integers(1, 255, (3, 39, 27), dtype=np.uint8)
    scene = write_scene(np.kron(squares, np.ones((1, 40, 40), dtype=np.uint8)), photometric="RGB")
    settings = SceneSettings(
        scene=str(scene), out=str(tmp_path / "whole.zarr"), model="bands-repeat", block=512
    )
    prepared, _ = run_scene(settings)
    blocks = len(prepared.plan.blocks)
    cube = tmp_path / "cube.zarr"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        before = len(list(cube.glob("ledger/r*.json")))
        with command("run", scene, "--out", cube, *FAST, "--resume") as process:
            first = process.stderr.readline()
            while len(list(cube.glob("ledger/r*.json"))) == before and process.poll() is None:
                time.sleep(0.005)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        assert "reading" in first
        assert read_status(open_storage(cube))["status"] == "incomplete"
        assert verify_cube(open_storage(cube)), "blocks are missing"
        if number != signal.SIGKILL:
            assert process.returncode == 130
            # A block that is being written when the signal comes may be finished after it was counted.
            after = len(list(cube.glob("ledger/r*.json")))
            assert err.splitlines()[-1] in [
                f"stopped; {done} of {blocks} blocks are done; run again with --resume"
                for done in range(before, after + 1)
            ]
            assert "Traceback" not in err
            assert out == ""
    assert cli.main(["run", str(scene), "--out", str(cube), *FAST, "--resume"]) == 0
    np.testing.assert_array_equal(counts(cube), counts(settings.out))
    assert verify_cube(open_storage(cube)) == []
    assert not list(cube.rglob("*.partial"))
