"""Paths that are no scene are refused in one line, at once, and nothing is written."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest

from spectile.catalog.errors import SceneError
from spectile.flows.commands.app import main
from spectile.pipeline.scene.source import open_source


def _refused(scene: str | Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """What the command line says of a scene, from its dry run and its run alike."""
    before = sorted(os.listdir(os.fsencode(tmp_path)))
    common = ["run", str(scene), "--out", str(tmp_path / "cube.zarr"), "--model", "bands-repeat"]
    lines = []
    for more in ([], ["--dry-run"]):
        assert main([*common, *more]) == 2
        error = [line for line in capfd.readouterr().err.splitlines() if line.startswith("spectile: error:")]
        assert len(error) == 1
        lines += error
    assert sorted(os.listdir(os.fsencode(tmp_path))) == before, "nothing is left behind"
    assert lines[0] == lines[1]
    return lines[0]


def test_a_path_that_is_no_utf_8_is_refused(make_scene, tmp_path, capfd):
    path = os.fsencode(tmp_path) + b"/latin\xff.tif"
    os.rename(make_scene(), path)
    assert "not UTF-8" in _refused(os.fsdecode(path), tmp_path, capfd)


def test_a_loop_of_links_is_refused(tmp_path, capfd):
    (tmp_path / "a.tif").symlink_to("b.tif")
    (tmp_path / "b.tif").symlink_to("a.tif")
    assert "cannot be reached" in _refused(tmp_path / "a.tif", tmp_path, capfd)


def test_a_pipe_a_socket_a_device_and_a_folder_are_refused_at_once(tmp_path, capfd):
    os.mkfifo(tmp_path / "pipe.tif")
    (tmp_path / "folder.tif").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(tmp_path)  # the path of a socket is short
        try:
            listening.bind("socket.tif")
        finally:
            os.chdir(here)
        for name in ("pipe", "socket"):
            assert f"not a file (got a {name}" in _refused(tmp_path / f"{name}.tif", tmp_path, capfd)
    assert "no file of the folder is named as a band" in _refused(tmp_path / "folder.tif", tmp_path, capfd)
    assert "a device" in _refused("/dev/zero", tmp_path, capfd)


@pytest.mark.parametrize("name", ["{}.aux.xml", "{}.ovr", "{}.msk", "scene.tfw"])
def test_a_pipe_beside_a_scene_is_not_waited_for(make_scene, name):
    path = make_scene()
    os.mkfifo(path.parent / name.format(path.name))
    with pytest.raises(SceneError, match=r"not a file \(got a pipe|refers to other files"):
        open_source(path)


@pytest.mark.parametrize("scale", [0.0, float("inf"), float("nan")])
def test_a_useless_scale_is_one_line(write_scene, tmp_path, capfd, scale):
    path = write_scene(np.ones((3, 20, 20), np.uint16), scales=(scale,) * 3)
    assert "scale cannot be used" in _refused(path, tmp_path, capfd)
