"""Scenes and cubes by URL, through the command line and a real S3 server."""

from __future__ import annotations

import functools
import http.server
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import obstore
import pytest
from rasterio._err import CPLE_AppDefinedError

from spectile.catalog.errors import SceneError, SpectileError
from spectile.catalog.urls import locate
from spectile.flows.commands import app as cli
from spectile.flows.run import execute
from spectile.flows.run.execute import process_blocks, remaining, start_cube
from spectile.flows.run.planning import prepare
from spectile.flows.run.settings import SceneSettings
from spectile.flows.run.state import Silent, Tally
from spectile.pipeline.cube.record import open_cube, read_status
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.files.opening import open_raster
from spectile.pipeline.files.remote import gdal_path
from spectile.pipeline.geometry.tiling import Window
from spectile.pipeline.product.quicklook import quicklook_names, write_quicklook
from spectile.pipeline.scene import file
from spectile.pipeline.scene import raster as source
from spectile.pipeline.scene.source import open_source
from spectile.pipeline.store import objects
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.objects import connect
from spectile.pipeline.store.opening import open_storage

pytestmark = pytest.mark.slow  # whole runs on a server of buckets

FAST = ("--model", "bands-repeat", "--block", "512")
SCENE = "s3://bucket/in put/scène.tif"
CUBE = "s3://bucket/out/cube.zarr"
SIGNATURE = "wJalrXUtnFEMI"


@pytest.fixture(autouse=True)
def _server(object_server, monkeypatch) -> None:
    monkeypatch.setitem(objects.RETRY, "max_retries", 2)


def upload(path: Path, url: str = SCENE) -> None:
    where = locate(url)
    obstore.put(connect(where), where.key, path.read_bytes())


TILED = {"photometric": "RGB", "tiled": True, "blockxsize": 256, "blockysize": 256}


@pytest.fixture
def scene(write_scene) -> Path:
    """Four blocks of flat squares, which compress fast; a copy lies at SCENE."""
    squares = np.random.default_rng(0).integers(1, 255, (3, 15, 15), dtype=np.uint8)
    path = write_scene(np.kron(squares, np.ones((1, 40, 40), dtype=np.uint8)), "scène.tif", **TILED)
    upload(path)
    return path


@pytest.fixture
def changed(write_scene) -> Path:
    """Another scene of the same size."""
    return write_scene(np.full((3, 600, 600), 99, dtype=np.uint8), "other.tif", **TILED)


_whole: list[Storage] = []


@pytest.fixture
def whole(scene, tmp_path_factory) -> Storage:
    """The cube of the scene in files, with its pictures; made once."""
    if not _whole:
        out = tmp_path_factory.mktemp("whole") / "cube.zarr"
        prepared = prepare(SceneSettings(scene=str(scene), out=str(out), model="bands-repeat", block=512))
        cube = start_cube(prepared)
        process_blocks(prepared, cube, remaining(cube), tally=Tally(), observer=Silent())
        write_quicklook(cube.storage)
        execute.finish_cube(cube, execute.told_by(prepared))
        _whole.append(cube.storage)
    return _whole[0]


def run(capsys, *arguments: object) -> tuple[int, str]:
    """Run the command line here; its exit code and all that it said."""
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out + err


def content(storage: Storage, *folders: str) -> dict[str, bytes | None]:
    """The objects that hold values, and the metadata."""
    arrays = ("reflectance/c/0/0", "reflectance/c/0/1", "valid/c/0", "valid/c/1")
    keys = [key for folder in arrays for key in storage.keys(folder)]
    return {key: storage.get(key) for key in [*keys, "zarr.json", "reflectance/zarr.json"]}


@pytest.mark.usefixtures("with_quicklooks")
def test_a_cube_by_url_is_the_one_of_files_byte_for_byte(scene, whole, capsys):
    code, said = run(capsys, "run", SCENE, "--out", CUBE, *FAST, "--checksum")
    assert code == 0
    assert f"quicklook    {CUBE.removesuffix('.zarr')}.quicklook.png" in said
    there = open_storage(CUBE)
    assert len(content(there)) == 10
    assert content(there) == content(whole)
    for name in quicklook_names("cube.zarr"):
        assert there.parent.get(name) == whole.parent.get(name)
    with open_cube(str(whole)) as ours, open_cube(CUBE) as theirs:
        assert ours.identical(theirs.load())

    code, said = run(capsys, "verify", CUBE)
    assert (code, f"{CUBE}: every block" in said) == (0, True)
    code, said = run(capsys, "info", CUBE)
    assert (code, "complete, 4 of 4 blocks" in said) == (0, True)
    there.put("valid/c/0/1", b"damaged")
    there.delete("reflectance/c/0/0/0")
    code, said = run(capsys, "verify", CUBE)
    assert (code, "valid/c/0/1 is not as it was" in said, "0/0/0 is missing" in said) == (1, True, True)


def test_a_file_url_is_the_file(scene, tmp_path, capsys):
    out = tmp_path / "a b.zarr"
    code, _ = run(capsys, "run", scene.as_uri(), "--out", out.as_uri(), *FAST)
    assert (code, verify_cube(open_storage(out))) == (0, [])


@pytest.mark.parametrize(("at", "done"), [("/valid/zarr.json", 0), ("/reflectance/c/0/1/0", 2)])
def test_a_run_that_is_killed_leaves_no_part_and_is_resumed_to_the_same_cube(
    scene, whole, capsys, object_server, at, done
):
    def kill(request: tuple[str, str, str]) -> str | None:
        if request[0] == "PUT" and request[1].endswith(at):
            process.send_signal(signal.SIGKILL)
            return "500 Killed"
        return None

    arguments = ["run", SCENE, "--out", CUBE, *FAST, "--checksum"]
    command = [sys.executable, "-m", "spectile", *arguments]
    with object_server.failing(kill), subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        assert process.wait(60) == -signal.SIGKILL
    there = open_storage(CUBE)
    assert read_status(there)["status"] == "incomplete"
    assert len([key for key in there.keys("ledger") if "/r" in key]) == done
    assert run(capsys, *arguments)[0] == 2, "it is not overwritten unasked"
    object_server.requests.clear()
    assert run(capsys, *arguments, "--resume")[0] == 0
    puts = [path for method, path, _ in object_server.requests if method == "PUT"]
    assert len([path for path in puts if "cube.zarr/reflectance/c/" in path]) == 4 - done
    assert content(there) == content(whole)
    assert verify_cube(there) == []


def settings(**given: object) -> SceneSettings:
    return SceneSettings(scene=SCENE, out=CUBE, model="bands-repeat", block=512, **given)  # type: ignore[arg-type]


def test_a_scene_that_changed_is_not_gone_on_with(scene, changed, capsys):
    prepared = prepare(settings())
    cube = start_cube(prepared)
    process_blocks(prepared, cube, remaining(cube)[:2], tally=Tally(), observer=Silent())
    upload(changed)
    with pytest.raises(SpectileError, match=r"scène.tif: the scene changed while it was read .*ETag"):
        process_blocks(prepared, cube, remaining(cube), tally=Tally(), observer=Silent())
    assert len(remaining(cube)) == 2, "nothing of the other scene was written"
    code, said = run(capsys, "run", SCENE, "--out", CUBE, *FAST, "--resume")
    assert (code, "started with other settings" in said, "settings.scene.etag" in said) == (2, True, True)
    upload(scene)
    assert run(capsys, "run", SCENE, "--out", CUBE, *FAST, "--resume")[0] == 0
    upload(changed)
    assert run(capsys, "run", SCENE, "--out", CUBE, *FAST, "--overwrite")[0] == 0
    assert len(np.unique(open_cube(CUBE).reflectance)) == 1, "nothing of the first scene was kept by GDAL"


def test_the_plan_names_the_object_by_its_url_etag_and_size(scene):
    said = prepare(settings()).plan.settings["scene"]
    assert said == {
        "name": "scène.tif", "url": SCENE, "etag": open_source(SCENE).remote.etag,
        "size": scene.stat().st_size,
    }  # fmt: skip


def test_the_sha256_of_an_object_is_that_of_the_file(scene):
    assert open_source(SCENE).identity(checksum=True) == open_source(scene).identity()


def test_gdal_reaches_each_kind_of_place_in_its_own_way(tmp_path):
    assert gdal_path(tmp_path.as_uri()) == str(tmp_path)
    assert gdal_path("s3://bucket/a b/c%20.tif") == "/vsis3/bucket/a b/c%20.tif"
    assert gdal_path("gs://bucket/c.tif") == "/vsigs/bucket/c.tif"
    assert gdal_path("https://host/c.tif?sig=1") == "/vsicurl/https://host/c.tif?sig=1"


def test_a_server_without_etags_needs_the_checksum(scene):
    from dataclasses import replace

    source = open_source(SCENE)
    source = replace(source, remote=replace(source.remote, etag=None))
    with pytest.raises(SceneError, match=r"gives no ETag.*--checksum"):
        source.identity()
    assert source.identity(checksum=True) == open_source(scene).identity()


def test_a_signed_url_is_read_and_its_signature_is_nowhere(
    scene, tmp_path, capsys, object_server, monkeypatch
):
    web = f"{object_server.url}/bucket/in%20put/sc%C3%A8ne.tif?X-Amz-Signature={SIGNATURE}"
    report = tmp_path / "report.json"
    code, said = run(capsys, "run", web, "--out", CUBE, *FAST, "--json", report)
    assert code == 0
    for error in (("run", web + "x", "--out", CUBE, *FAST, "--resume"),
                  ("run", web.replace("sc%", "s%"), "--out", CUBE, *FAST, "--overwrite"),
                  ("run", web.replace("?", ".png?"), "--out", CUBE, *FAST, "--overwrite"),
                  ("run", SCENE, "--out", web, *FAST)):  # fmt: skip
        said += run(capsys, *error)[1]
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    code, refused = run(capsys, "run", web, "--out", CUBE, *FAST, "--overwrite")
    assert (code, "Prefect would record" in refused) == (2, True)
    there = open_storage(CUBE)
    attributes = (there.get("zarr.json") or b"").decode()
    assert f"{object_server.url}/bucket/in%20put/sc%C3%A8ne.tif" in attributes
    for text in (said, refused, attributes, report.read_text(), str(open_source(web).remote)):
        assert SIGNATURE not in text
    assert json.loads(report.read_text())["scene"] == "scène.tif"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("run", "s3://bucket/nothing.tif", "--out", CUBE), "nothing.tif: no such object"),
        (("run", "s3://nowhere/scene.tif", "--out", CUBE), "s3://nowhere/scene.tif: no such bucket"),
        (("run", SCENE, "--out", "s3://nowhere/cube.zarr"), "s3://nowhere/cube.zarr: no such bucket"),
        (("run", SCENE, "--out", "https://host/cube.zarr"), "not a place for cubes or catalogs"),
        (("run", SCENE, "--out", SCENE + "/cube.zarr"), "would overwrite the scene"),
        (("run", SCENE, "--out", "s3://AKIA:secret@bucket/cube.zarr"), "holds credentials"),
        (("run", "ftp://host/scene.tif", "--out", CUBE), "of this kind cannot be used"),
        (("info", "s3://bucket/nothing.zarr"), "no cube of spectile here (got no such store)"),
        (("verify", "s3://bucket/in put"), "no cube of spectile here (got something else)"),
        (("run", SCENE, "--out", "s3://bucket/in put", "--overwrite"), "would overwrite the scene"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(scene, capsys, arguments, why):
    code, said = run(capsys, *arguments, *(FAST if arguments[0] == "run" else ()))
    assert code in (1, 2)
    assert why in said.splitlines()[-1]
    assert "secret" not in said
    assert "Traceback" not in said


def test_a_store_that_fails_in_the_middle_stops_the_run(scene, capsys, object_server):
    def full(request: tuple[str, str, str]) -> str | None:
        return "403 Forbidden" if request[0] == "PUT" and "/c/0/1" in request[1] else None

    with object_server.failing(full, code="QuotaExceeded"):
        code, said = run(capsys, "run", SCENE, "--out", CUBE, *FAST)
    assert (code, "no permission (got 403 QuotaExceeded)" in said.splitlines()[-1]) == (1, True)
    assert run(capsys, "run", SCENE, "--out", CUBE, *FAST, "--resume")[0] == 0


def test_a_server_that_gives_no_parts_is_refused(scene):
    handler = functools.partial(_Quiet, directory=scene.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(SceneError, match="gives no parts of files"):
                open_source(f"http://127.0.0.1:{server.server_port}/sc%C3%A8ne.tif")
        finally:
            server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def copyfile(self, *_: object) -> None:
        """Nobody reads the whole file."""


def test_a_handle_that_closes_takes_nothing_from_another(scene, object_server, monkeypatch):
    other = open_raster(SCENE)
    grid = file.grid_of

    def closing(*arguments):
        other.close()
        object_server.requests.clear()
        return grid(*arguments)

    monkeypatch.setattr(file, "grid_of", closing)
    monkeypatch.setattr(source.SceneSource, "check_ends", lambda self: None)  # which reads pixels
    # A request from inside GDAL could not be answered by this process, which then fails after a minute.
    found = open_source(SCENE, measure=False)
    assert (found.mask, object_server.requests) == ("none", [])


def test_metadata_that_cannot_be_read_are_told_of(scene, monkeypatch):
    def broken(*_):
        raise CPLE_AppDefinedError(3, 1, "TIFFReadDirectory:Failed to read directory at offset 8")

    monkeypatch.setattr(file, "_mask", broken)
    with pytest.raises(SceneError, match=r"scène.tif: the scene's metadata cannot be read .*offset 8"):
        open_source(SCENE)


def test_transient_failures_do_not_show_in_the_pixels(scene, object_server):
    failed = set()

    def once(request: tuple[str, str, str]) -> str | None:
        if request[0] != "GET" or len(failed) == 2:
            return None
        failed.add(len(failed))
        return "503 Slow Down"

    with object_server.failing(once, code="SlowDown"):
        source = open_source(SCENE)
    failed.clear()
    with object_server.failing(once, code="SlowDown"):
        remote = source.read(Window(0, 0, 600, 600))[0]
    np.testing.assert_array_equal(remote, open_source(scene).read(Window(0, 0, 600, 600))[0])
    assert len(failed) == 2
