"""A cube that was damaged is made whole by the command line, and by nothing else than what made it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from spectile.flows.commands import app as cli
from spectile.pipeline.cube.record import read_status
from spectile.pipeline.cube.verify import inspect_cube, verify_cube
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage
from tests.flows.run.test_object_stores import TILED
from tests.pipeline.fakes import NORTH_UP

pytestmark = pytest.mark.slow  # whole runs, damaged and made again

FAST = ("--model", "bands-repeat", "--block", "512")


@pytest.fixture
def scene(write_scene) -> Path:
    squares = np.random.default_rng(0).integers(1, 255, (3, 15, 15), dtype=np.uint8)
    return write_scene(np.kron(squares, np.ones((1, 40, 40), dtype=np.uint8)), "scene.tif", **TILED)


@pytest.fixture(params=["files", "objects"])
def cube(request, scene, tmp_path, capsys) -> Storage:
    """A finished cube of four blocks."""
    place = str(tmp_path / "cube.zarr")
    if request.param == "objects":
        request.getfixturevalue("object_server")
        place = "s3://bucket/cube.zarr"
    assert cli.main(["run", str(scene), "--out", place, *FAST]) == 0
    capsys.readouterr()
    return open_storage(place)


def content(storage: Storage) -> dict[str, bytes | None]:
    """All but what tells times: markers and leases."""
    keys = [key for key in storage.walk() if not key.startswith(("ledger/r", "ledger/lease"))]
    return {key: storage.get(key) for key in keys}


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, "".join(err.splitlines()[-1:])


def test_damage_is_named_and_repaired_and_nothing_else_is_made(cube, scene, capsys):
    before = content(cube)
    kept = cube.get("ledger/r0000c0000.json")
    cube.put("valid/c/0/1", b"damaged")
    cube.delete("reflectance/c/0/1/0")
    cube.put("ledger/r0001c0001.json", b"{half")
    cube.put("valid/c/7/7", b"of a larger cube")
    cube.put("reflectance/zarr.json", b"")
    cube.put("zarr.json", (cube.get("zarr.json") or b"")[:-9])
    code, out, _ = run(capsys, "verify", cube)
    assert code == 1
    assert {
        "block r0000c0001: valid/c/0/1 is not as it was written (7 bytes)",
        "block r0001c0000: reflectance/c/0/1/0 is missing", "block r0001c0001 is not done",
        "valid/c/7/7 is none of this cube's", "reflectance/zarr.json is damaged", "zarr.json is damaged",
    } == set(out.splitlines())  # fmt: skip
    code, _, said = run(capsys, "verify", cube, "--repair")
    assert (code, "name it with --scene" in said) == (2, True)
    code, out, _ = run(capsys, "verify", cube, "--repair", "--scene", scene)
    assert (code, out.splitlines()[-1]) == (0, f"{cube}: every block is as it was written")
    assert out.count("was: ") == 6
    assert content(cube) == before
    assert cube.get("ledger/r0000c0000.json") == kept, "a block that was whole was made again"


def test_metadata_are_repaired_without_the_scene(cube, capsys):
    before = content(cube)
    for key in ("ledger/plan.json", "zarr.json", "wavelength/c/0"):
        cube.put(key, (cube.get(key) or b"")[:-5])
        assert inspect_cube(cube).metadata
        assert run(capsys, "verify", cube, "--repair")[0] == 0
        assert content(cube) == before
    assert read_status(cube)["status"] == "complete"


def test_overviews_are_repaired_from_the_blocks_alone(cube, capsys):
    before = content(cube)
    cube.put("overviews/2/reflectance/c/0/0/0", b"damaged")
    assert "reflectance/c/0/0/0 is not as it was written (7 bytes)" in run(capsys, "verify", cube)[1]
    assert run(capsys, "verify", cube, "--repair")[0] == 0
    assert content(cube) == before


def test_another_scene_or_model_repairs_nothing(cube, scene, write_scene, capsys):
    other = write_scene(np.full((3, 600, 600), 99, dtype=np.uint8), "other.tif", **TILED)
    cube.put("valid/c/0/1", b"damaged")
    cube.put("valid/zarr.json", b"damaged")
    before = content(cube)
    code, _, said = run(capsys, "verify", cube, "--repair", "--scene", other)
    assert (code, "other settings" in said, "sha256" in said) == (2, True, True)
    code, _, said = run(capsys, "verify", cube, "--repair", "--scene", scene, "--model", "vnir48")
    assert (code, "model" in said) == (2, True)
    assert content(cube) == before


def test_an_unreadable_block_is_missing_until_the_scene_is_whole(scene, tmp_path, capsys):
    cube = open_storage(tmp_path / "cube.zarr")
    whole = scene.read_bytes()
    scene.write_bytes(whole[: len(whole) * 3 // 4])
    code, _, said = run(capsys, "run", scene, "--out", cube, *FAST)
    assert (code, "blocks failed: block r0001c0000: " in said) == (1, True)
    out = run(capsys, "info", cube)[1]
    assert "missing" in out
    assert "r0001c0001" in out
    assert "block r0001c0001 is not done" in verify_cube(cube)


def test_the_blocks_of_a_flight_line_are_made_again_from_its_scenes(write_scene, tmp_path, capsys):
    folder = tmp_path / "line"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for number in range(2):
        values = rng.integers(1, 250 - 90 * number, (3, 400, 500), dtype=np.uint8)
        place = NORTH_UP @ Affine.translation(0, 300 * number)
        path = write_scene(values, f"{number}.tif", transform=place, photometric="RGB")
        path.rename(folder / path.name)
    out = tmp_path / "line.zarr"
    assert run(capsys, "flight-line", folder, "--out", out, "--model", "bands-repeat", "--block", 512)[0] == 0
    cube = open_storage(out)
    before = content(cube)
    cube.delete("reflectance/c/0/0/0")
    cube.put("ledger/r0001c0000.json", b"{half")
    assert run(capsys, "verify", cube, "--repair")[0] == 2, "its scenes are not known"
    code, _, said = run(capsys, "verify", cube, "--repair", "--scene", folder / "0.tif")
    assert (code, "a scene of the cube is missing" in said) == (2, True)
    code, _, said = run(capsys, "verify", cube, "--repair", "--scene", folder)
    assert code == 0, said
    assert content(cube) == before
    assert verify_cube(cube) == []
