"""Every finished run writes a report; one that cannot be written fails no run."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import pytest

from spectile.flows.commands import app as cli
from spectile.flows.run import execute
from spectile.flows.run.execute import run_scene
from spectile.flows.run.settings import SceneSettings
from spectile.pipeline.cube.record import read_status
from spectile.pipeline.product.report import report_name
from spectile.pipeline.store.opening import open_storage


@pytest.fixture
def settings(make_scene, tmp_path) -> SceneSettings:
    return SceneSettings(
        scene=str(make_scene((60, 70))), out=str(tmp_path / "out" / "cube.zarr"), model="bands-repeat"
    )


@pytest.mark.usefixtures("with_reports")
def test_a_run_leaves_a_report_that_the_item_names_and_the_command_makes_again(settings, tmp_path, capsys):
    _, result = run_scene(settings)
    path = Path(result.report)
    assert path == tmp_path / "out" / "cube.report.html"
    text = path.read_bytes()
    assert str(tmp_path).encode() not in text
    assert b"scene.tif: uint8 without a scale is taken as a display picture" in text
    asset = json.loads(Path(result.item).read_text())["assets"]["report"]
    assert (asset["href"], asset["type"], asset["roles"]) == (f"./{path.name}", "text/html", ["metadata"])
    assert asset["file:checksum"] == f"1220{hashlib.sha256(text).hexdigest()}"
    other = tmp_path / "again.html"
    assert cli.main(["report", settings.out, "--out", str(other)]) == 0
    assert capsys.readouterr().out.strip() == str(other)
    assert other.read_bytes() == text


def test_a_report_that_fails_fails_no_run(settings, tmp_path, monkeypatch, caplog):
    def fail(storage, **_):
        raise ValueError(f"cannot draw\n{tmp_path}/out/cube.zarr")

    monkeypatch.setattr(execute, "write_report", fail)
    with caplog.at_level(logging.WARNING, "spectile"):
        _, result = run_scene(settings)
    assert result.report is None
    assert read_status(open_storage(settings.out))["status"] == "complete"
    (line,) = [record.message for record in caplog.records if "no report" in record.message]
    assert line == "cube.zarr: no report was written: cannot draw cube.zarr"
    assert "report" not in json.loads(Path(result.item).read_text())["assets"]


@pytest.mark.parametrize("out", ["report.txt", "cube.zarr/report.html"])
def test_a_report_is_html_and_replaces_no_data(out, tmp_path, capsys):
    assert cli.main(["report", str(tmp_path / "cube.zarr"), "--out", str(tmp_path / out)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_reports_name_follows_the_cubes():
    assert report_name("a.b.zarr") == "a.b.report.html"
