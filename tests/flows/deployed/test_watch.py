"""Sweeps of an inbox, on the command line and as a flow, and what is told of them."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from inspect import signature
from pathlib import Path

import pytest

from spectile.flows.commands import app as cli
from spectile.flows.run import execute
from spectile.flows.run.execute import report, run_scene
from spectile.flows.run.settings import SceneSettings, WatchSettings, parameters_of
from spectile.flows.watching import sweep as compose_watch
from spectile.flows.watching.sweep import sweep
from spectile.model import checkpoint
from spectile.pipeline.cube.record import read_status
from spectile.pipeline.stac.inbox import list_arrivals
from spectile.pipeline.store.opening import open_storage

SECRET = "wJalrXUtnFEMI"


@pytest.fixture
def inbox(make_scene, tmp_path) -> Path:
    """Two scenes, one of them in a folder."""
    folder = tmp_path / "inbox"
    (folder / "day").mkdir(parents=True)
    shutil.move(make_scene(seed=1), folder / "a.tif")
    shutil.move(make_scene(seed=2), folder / "day" / "b.tif")
    return folder


@pytest.fixture
def settings(inbox, tmp_path) -> WatchSettings:
    return WatchSettings(inbox=str(inbox), out=str(tmp_path / "cubes"), model="bands-repeat", settle=0)


@pytest.fixture
def posts(monkeypatch) -> Iterator[list[dict]]:
    """What is posted to the URL of notifications, a server on loopback."""
    received: list[dict] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the first byte of a scene
            self.send_response(206)
            for name, value in {"Content-Range": "bytes 0-0/9", "Content-Length": "1", "ETag": '"1"'}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"I")

        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(
            "SPECTILE_NOTIFY_URL", f"http://127.0.0.1:{server.server_port}/{SECRET}?k={SECRET}"
        )
        yield received
        server.shutdown()


def run_one(run: SceneSettings) -> dict:
    return report(*run_scene(run))


def states(done: dict) -> dict[str, str]:
    return {each["scene"]: each["state"] for each in done["scenes"]}


def test_what_is_new_is_made_once_and_what_changed_gets_a_cube_beside_the_old_one(
    inbox, settings, make_scene, monkeypatch, tmp_path
):
    assert states(sweep(settings, run_one)) == {"a": "done", "day/b": "done"}
    cubes = tmp_path / "cubes"
    first = read_status(open_storage(cubes / "a.zarr"))
    assert first["status"] == "complete"

    # What has not changed is not even read.
    monkeypatch.setattr(execute, "prepare", lambda *_: pytest.fail("a scene was read"))
    assert states(sweep(settings, run_one)) == {"a": "skipped", "day/b": "skipped"}
    monkeypatch.undo()

    # Another time of the file alone makes no other scene.
    os.utime(inbox / "day" / "b.tif", (1, 1))
    shutil.copy(make_scene(seed=3), inbox / "a.tif")
    assert states(sweep(settings, run_one)) == {"a": "done", "day/b": "skipped"}
    (beside,) = cubes.glob("a-*.zarr")
    second = read_status(open_storage(beside))
    assert (second["digest"][:8], second["status"]) == (beside.stem.partition("-")[2], "complete")
    assert read_status(open_storage(cubes / "a.zarr")) == first
    assert states(sweep(settings, run_one)) == {"a": "skipped", "day/b": "skipped"}


def test_a_sweep_over_finished_cubes_loads_no_weights_and_starts_no_worker(inbox, tmp_path, monkeypatch):
    loaded = []
    load = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda name: loaded.append(name) or load(name))
    settings = WatchSettings(inbox=str(inbox), out=str(tmp_path / "cubes"), model="vnir48:ridge", settle=0)
    assert states(sweep(settings, run_one)) == {"a": "done", "day/b": "done"}
    assert loaded == ["vnir48", "vnir48"]  # once for each cube that was made
    assert states(sweep(settings, run_one)) == {"a": "skipped", "day/b": "skipped"}
    # Without their notes the scenes are read again, and planned.
    for note in (tmp_path / "cubes").rglob(".*.seen.json"):
        note.unlink()
    monkeypatch.setattr(
        "spectile.flows.run.planning._assemble", lambda *_, **__: pytest.fail("workers were started")
    )
    assert states(sweep(settings, run_one)) == {"a": "skipped", "day/b": "skipped"}
    assert loaded == ["vnir48", "vnir48"]


def test_other_settings_make_other_cubes_and_overwrite_replaces(settings, tmp_path):
    sweep(settings, run_one)
    before = read_status(open_storage(tmp_path / "cubes" / "a.zarr"))["digest"]
    other = replace(settings, tile=128, overwrite=True)
    assert states(sweep(other, run_one)) == {"a": "done", "day/b": "done"}
    assert read_status(open_storage(tmp_path / "cubes" / "a.zarr"))["digest"] != before
    assert not list((tmp_path / "cubes").glob("a-*"))
    assert states(sweep(other, run_one)) == {"a": "skipped", "day/b": "skipped"}


def test_a_cube_that_was_begun_goes_on(settings, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(execute, "finish_cube", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        assert states(sweep(settings, run_one)) == {"a": "failed", "day/b": "failed"}
    assert read_status(open_storage(tmp_path / "cubes" / "a.zarr"))["status"] == "incomplete"
    resumed = []
    done = sweep(settings, lambda run: resumed.append(run.resume) or run_one(run))
    assert (done["done"], resumed) == (2, [True, True])


def test_a_scene_that_fails_stops_no_other(inbox, settings, posts):
    (inbox / "0-broken.tif").write_bytes(b"II*\0" + bytes(60))
    (inbox / "c.tif").write_bytes(b"?")
    (inbox / "c.jp2").write_bytes(b"?")
    (inbox / ".hidden.tif").write_bytes(b"?")
    found = sweep(settings, run_one)
    assert [found[state] for state in ("done", "skipped", "waiting", "failed")] == [2, 0, 0, 3]
    broken, twin, _ = (each["why"] for each in found["scenes"] if each["state"] == "failed")
    assert "\n" not in broken
    assert "0-broken.tif" in broken
    assert "2 scenes would be the cube c" in twin
    (post,) = posts
    assert post["event"] == "swept"
    assert post["failed"] == 3
    assert post["text"].endswith(broken)


def test_a_file_that_is_still_being_written_waits(inbox, settings, monkeypatch):
    def write_on(seconds: float) -> None:
        with (inbox / "a.tif").open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(compose_watch.time, "sleep", write_on)
    patient = replace(settings, settle=5)
    assert states(sweep(patient, run_one)) == {"a": "waiting", "day/b": "done"}


def test_several_scenes_at_once_make_the_same_cubes(settings, monkeypatch, tmp_path):
    met = threading.Barrier(2, timeout=30)
    at_once = replace(settings, at_once=2)
    done = sweep(at_once, lambda run: met.wait() is not None and run_one(run))
    assert states(done) == {"a": "done", "day/b": "done"}


def item(name: str, href: str) -> dict:
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "collection": "lines", "links": [],
        "assets": {"visual": {"href": href, "type": "image/tiff; application=geotiff"}},
    }  # fmt: skip


def write_catalogue(folder: Path) -> Path:
    """A catalogue over a collection of one good item, one that leads out, and one that is not there."""
    (folder / "bad.json").write_text(json.dumps(item("bad", "../../etc/passwd.tif")))
    (folder / "good.json").write_text(json.dumps(item("../good one", "day/b.tif")))
    links = [{"rel": "item", "href": name} for name in ("bad.json", "good.json", "gone.json")]
    links.append({"rel": "parent", "href": "../catalog.json"})
    (folder / "lines.json").write_text(json.dumps({"type": "Collection", "id": "lines", "links": links}))
    root = folder / "catalog.json"
    children = [{"rel": "child", "href": "lines.json"}, {"rel": "child", "href": "/etc/catalog.json"}]
    root.write_text(json.dumps({"type": "Catalog", "id": "all", "links": children}))
    return root


def test_the_good_items_of_a_catalogue_are_made(inbox, settings, tmp_path):
    found = sweep(replace(settings, inbox=str(write_catalogue(inbox))), run_one)
    assert states(found) == {
        "lines/good-one": "done", "lines/bad": "failed", "gone.json": "failed", "etc-catalog.json": "failed",
    }  # fmt: skip
    assert (tmp_path / "cubes" / "lines" / "good-one.zarr").is_dir()
    why = {each["scene"]: each["why"] for each in found["scenes"]}
    assert "lies outside" in why["lines/bad"]
    assert "lies outside" in why["etc-catalog.json"]


def test_a_catalogue_by_url_leads_to_no_file_of_this_machine(inbox):
    write_catalogue(inbox)
    (inbox / "bad.json").write_text(json.dumps(item("bad", "file:///etc/passwd.tif")))
    handler = type(
        "Quiet", (http.server.SimpleHTTPRequestHandler,),
        {"log_message": lambda *_: None, "__init__": lambda self, *given, **more:
         http.server.SimpleHTTPRequestHandler.__init__(self, *given, directory=str(inbox), **more)},
    )  # fmt: skip
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        found = {each.name: each for each in list_arrivals(f"{url}/catalog.json")}
        server.shutdown()
    assert found["lines/good-one"].place == f"{url}/day/b.tif"
    assert "refers to a local file" in (found["lines/bad"].problem or "")


def test_the_command_line_says_what_came_of_each_scene(inbox, settings, capsys, tmp_path):
    (inbox / "c.tif").write_bytes(b"")
    facts = tmp_path / "facts.json"
    command = ("watch", str(inbox), "--out", settings.out, "--once", "--settle", "0s", "--model",
               "bands-repeat")  # fmt: skip
    assert cli.main([*command, "--json", str(facts)]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "2 done, 0 skipped, 0 waiting, 1 failed"
    assert err.splitlines()[-1] == "spectile: error: 1 of 3 scenes failed"
    assert json.loads(facts.read_text())["failed"] == 1
    (inbox / "c.tif").unlink()
    assert cli.main([*command]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 done, 2 skipped, 0 waiting, 0 failed"


def test_sweeps_follow_each_other_until_they_are_stopped(inbox, settings, capsys, monkeypatch):
    from spectile.flows.commands import watch

    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", sleep)
    code = cli.main(["watch", str(inbox), "--out", settings.out, "--every", "2h", "--settle", "0s",
                     "--model", "bands-repeat"])  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert (code, pauses) == (130, [7200, 7200])
    assert [line for line in lines if ", 0 waiting" in line] == [
        "2 done, 0 skipped, 0 waiting, 0 failed", "0 done, 2 skipped, 0 waiting, 0 failed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("nowhere", "--out", "o"), "no such inbox"),
        ((".", "--out", "o"), "the cubes would lie in the inbox"),
        (("nowhere", "--out", "o", "--once", "--every", "1h"), "exclude each other"),
        (("nowhere", "--out", "o", "--every", "soon"), "is no time"),
        (("nowhere", "--out", "o", "--model", "nothing"), "no such inbox"),
    ],
)
def test_what_cannot_be_swept_is_refused(arguments, what, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["watch", *arguments]) == 2
    assert what in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", [f"http://example.com/{SECRET}", f"s3://bucket/{SECRET}", f"https://me:{SECRET}@host/x", SECRET]
)
def test_a_url_for_notifications_that_cannot_be_used_is_refused_unseen(url, settings, monkeypatch, caplog):
    from spectile.catalog.errors import UsageError

    monkeypatch.setenv("SPECTILE_NOTIFY_URL", url)
    with pytest.raises(UsageError, match="notifications cannot be sent") as refused:
        sweep(settings, run_one)
    assert SECRET not in str(refused.value) + caplog.text


def test_the_flows_parameters_are_those_of_the_settings():
    from spectile.flows.deployed.watch import watch

    parameters = list(signature(watch.fn).parameters.values())
    assert [(each.name, each.default) for each in parameters] == [
        (each.name, each.default) for each in parameters_of(WatchSettings)
    ]
    assert [each.name for each in parameters[:4]] == ["inbox", "out", "at_once", "settle"]


@pytest.mark.slow
def test_as_a_flow_each_scene_is_a_run_of_its_own_and_failures_are_told(
    inbox, settings, prefect_server, posts, caplog
):
    from prefect.client.orchestration import get_client

    from spectile.flows.deployed.watch import watch

    (inbox / "c.tif").write_bytes(b"")
    leads = [item("signed", os.environ["SPECTILE_NOTIFY_URL"]), item("good", "a.tif")]
    collection = inbox / "items.json"
    collection.write_text(json.dumps({"type": "FeatureCollection", "features": leads}))
    with prefect_server.in_use():
        state = watch(
            inbox=str(inbox), out=settings.out, model="bands-repeat", settle=0, at_once=2, return_state=True
        )
        signed = watch(
            inbox=str(collection),
            out=settings.out,
            model="bands-repeat",
            settle=0,
            allow_private=True,
            return_state=True,
        )
        with get_client(sync_client=True) as client:
            flow_run = state.state_details.flow_run_id
            runs = [each for each in client.read_flow_runs() if each.parent_task_run_id is not None]
            artifacts = {
                each.key or each.type: each
                for each in client.read_artifacts()
                if each.flow_run_id == flow_run
            }
    assert state.is_failed()
    assert state.message.startswith("2 done, 0 skipped, 0 waiting, 1 failed; c: ")
    assert states(state.result(raise_on_failure=False)) == {"a": "done", "c": "failed", "day/b": "done"}
    assert {each.parameters["scene"]: each.state.is_completed() for each in runs} | {} == {
        str(inbox / "a.tif"): True, str(inbox / "c.tif"): False, str(inbox / "day" / "b.tif"): True,
    }  # fmt: skip
    assert artifacts["progress"].data == 100
    assert '"failed"' in artifacts["sweep"].data
    # One for each sweep, none for the subflow that failed; no secret of the URLs.
    assert [(post["event"], post["done"], post["failed"]) for post in posts] == [
        ("swept", 2, 1), ("swept", 1, 1),
    ]  # fmt: skip
    assert "Prefect would record the URL's signature" in signed.message
    assert SECRET not in json.dumps(posts) + caplog.text + signed.message


@pytest.mark.slow
def test_a_flow_run_that_fails_is_told_of(make_scene, prefect_server, posts, tmp_path):
    from spectile.flows.deployed.scene import process_scene

    with prefect_server.in_use():
        state = process_scene(
            scene=str(make_scene()), out=str(tmp_path / "c.zarr"), model="nothing", return_state=True
        )
    assert state.is_failed()
    (post,) = posts
    assert (post["event"], post["flow"]) == ("failed", "process-scene")
    assert "unknown model" in post["text"]
