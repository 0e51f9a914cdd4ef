"""Blocks made by worker processes of a dask cluster; the cluster of most tests is started once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from distributed import Client, SpecCluster
from distributed.comm import CommClosedError

from spectile.catalog.errors import SpectileError, UsageError
from spectile.flows.console.describe import describe_cube
from spectile.flows.run import crew, dispatch, execute, state
from spectile.flows.run.crew import Crew, DistantPredictor, start_workers
from spectile.flows.run.execute import run_scene, start_cube
from spectile.flows.run.planning import prepare
from spectile.flows.run.settings import SceneSettings
from spectile.flows.run.state import Silent
from spectile.pipeline.cube.attempts import read_failures
from spectile.pipeline.cube.record import Cube, finished_blocks, load_plan
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.store.opening import open_storage

pytestmark = pytest.mark.slow  # workers and whole runs in processes of their own


@pytest.fixture(scope="module")
def cluster() -> Iterator[SpecCluster]:
    """Two workers that believe to have a GPU each."""
    with start_workers(2, gpus=["GPU-a", "7"]) as cluster:
        yield cluster


@pytest.fixture
def settings(write_scene, tmp_path) -> SceneSettings:
    """Two rows of three blocks of flat squares, which compress fast."""
    squares = np.random.default_rng(0).integers(1, 255, (3, 20, 36), dtype=np.uint8)
    scene = write_scene(np.kron(squares, np.ones((1, 30, 30), dtype=np.uint8)), tiled=True)
    out = tmp_path / "cube.zarr"
    return SceneSettings(
        scene=str(scene), out=str(out), model="bands-repeat", block=512, radiometry="display:1"
    )


@pytest.fixture
def here(settings, tmp_path) -> dict[Block, dict]:
    """What the ledger says of the cube that one process makes."""
    alone = replace(settings, out=str(tmp_path / "alone.zarr"))
    run_scene(alone)
    return checksums(alone)


@pytest.fixture
def hired(cluster, monkeypatch) -> SpecCluster:
    """Lets runs that ask for workers have those of the cluster, which stay."""

    def assemble(settings, gpus) -> Crew:
        client = Client(cluster, set_as_default=False)
        client.wait_for_workers(2)
        return Crew(client, None, settings, gpu=True)

    monkeypatch.setattr(crew, "assemble", assemble)
    return cluster


def checksums(settings: SceneSettings) -> dict[Block, dict]:
    cube = Cube(open_storage(settings.out), load_plan(open_storage(settings.out)))
    return {block: marker.checksums for block, marker in finished_blocks(cube).items()}


def test_each_worker_sees_a_gpu_of_its_own_and_offers_it(cluster):
    with Client(cluster, set_as_default=False) as client:
        seen = client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
        threads = client.run(os.getenv, "OMP_NUM_THREADS")
        trimming = client.run(os.getenv, "MALLOC_TRIM_THRESHOLD_")
        told = client.scheduler_info()["workers"].values()
    assert sorted(seen.values()) == ["7", "GPU-a"]
    assert set(threads.values()) == {"1"}
    assert set(trimming.values()) == {None}, "tiles would come from the system page by page"
    assert [worker["resources"] for worker in told] == [{"GPU": 1}] * 2
    assert all(worker.startswith("tls://127.0.0.1") for worker in seen)


def test_workers_make_the_cube_that_one_process_makes(settings, here, hired):
    told = []

    class Told(Silent):
        def block(self, block, seconds) -> None:
            told.append(block)

    prepared, result = run_scene(replace(settings, workers=2), observer=Told())
    assert checksums(settings) == here
    assert verify_cube(open_storage(settings.out)) == []
    assert sorted(told) == prepared.plan.blocks
    assert (result.blocks_done, result.blocks_failed) == (6, 0)
    assert result.tiles + result.tiles_kept == prepared.estimate.tiles
    assert result.redundancy == result.tiles / prepared.plan.lattice_tiles(prepared.plan.blocks)


def test_a_worker_that_is_killed_costs_nothing_but_time(settings, here, hired, monkeypatch):
    monkeypatch.setattr(dispatch, "POLL_SECONDS", 0.05)
    killed = []

    class Killer(Silent):
        def block(self, block, seconds) -> None:
            if not killed:
                with Client(hired, set_as_default=False) as client:
                    killed.append(next(iter(client.run(os.getpid).values())))
                os.kill(killed[0], signal.SIGKILL)

    _, result = run_scene(replace(settings, workers=2), observer=Killer())
    assert killed
    assert (result.blocks_done, result.blocks_failed) == (6, 0)
    assert checksums(settings) == here


def test_workers_that_are_lost_while_all_are_told_cost_nothing(settings, here, hired, monkeypatch):
    """What a client sees of a broadcast to workers of which one ends at that moment."""
    tried = []

    def losing(name):
        whole = getattr(Client, name)

        def broadcast(*arguments, **named):
            found = whole(*arguments, **named)
            tried.append(name)
            if tried.count(name) == 1:
                raise CommClosedError("Stream is closed")
            return found

        monkeypatch.setattr(Client, name, broadcast)

    losing("register_plugin")
    losing("unregister_worker_plugin")
    _, result = run_scene(replace(settings, workers=2))
    assert (result.blocks_done, result.blocks_failed) == (6, 0)
    assert checksums(settings) == here
    assert tried == ["register_plugin", "register_plugin", "unregister_worker_plugin"]


def test_a_block_that_fails_leaves_the_others_and_is_made_when_its_cause_is_gone(
    settings, here, hired, caplog
):
    path = Path(settings.scene)
    whole = path.read_bytes()
    again = replace(settings, workers=2, block_retries=0)
    with prepare(again) as prepared:
        cube = start_cube(prepared)
        path.write_bytes(whole[: int(len(whole) * 0.9)])
        result = execute.carry_out(prepared, cube, Silent(), 0.0)
    assert result.blocks_failed == len(result.failures) > 0
    assert all("cannot be read here" in line for line in result.failures)
    missing = sorted(line.split(":")[0].removeprefix("block ") for line in result.failures)
    assert f"{result.blocks_done} of 6 blocks done" in describe_cube(settings.out)["status"]
    assert describe_cube(settings.out)["missing"] == f"blocks {', '.join(missing)}"
    assert result.blocks_done > 0
    path.write_bytes(whole)
    _, result = run_scene(replace(again, resume=True))
    assert (result.blocks_failed, checksums(settings)) == (0, here)
    assert "missing" not in describe_cube(settings.out)


def test_blocks_that_end_their_workers_are_tried_alone_and_given_up(settings):
    """What dask says of a run that lost all its workers, without losing them."""
    from distributed import KilledWorker

    class Dying:
        def __init__(self, names) -> None:
            self.names = names

        def result(self):
            if "r0001c0001" in self.names:
                raise KilledWorker("run", None, 1)
            job.make(self.names)
            return {"failures": {}, "batch": 1, "peak_memory_bytes": 0}

    asked = []

    class FakeClient:
        def submit(self, make, job, names, **_):
            asked.append(names)
            return Dying(names)

        def nthreads(self):
            return {"tcp://one": 1}

        def cancel(self, futures) -> None:
            pass

        def as_current(self):
            return nullcontext()

    with prepare(settings) as prepared, pytest.MonkeyPatch.context() as patch:
        cube = start_cube(prepared)
        job = crew.Job(prepared, cube)
        job.setup(None)
        patch.setattr(dispatch, "wait", lambda futures, **_: type("Done", (), {"done": set(futures)}))
        patch.setattr(dispatch.Dispatch, "_next_run", _pairs(dispatch.Dispatch._next_run))
        tally = state.Tally()
        dispatch.Dispatch(
            FakeClient(), None, "job", cube, cube.plan.blocks, None, retries=1, tally=tally, observer=Silent()
        ).run()
    assert asked.count(["r0001c0001"]) == 2
    assert tally.done == 5
    assert [line.split(":")[0] for line in tally.failures] == ["block r0001c0001"]
    assert [block.name for block in read_failures(cube, cube.plan.blocks)] == ["r0001c0001"]


def _pairs(next_run):
    def two(self, workers):
        blocks = next_run(self, workers)
        if self._waiting and not self._alone and len(blocks) == 1 and not self._lost:
            blocks.append(self._waiting.popleft())
        return blocks

    return two


def test_a_run_whose_last_worker_is_gone_waits_no_longer_than_it_may(settings, monkeypatch):
    monkeypatch.setattr(dispatch, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(dispatch, "DESERTED_SECONDS", 0.1)
    with (
        prepare(settings) as prepared,
        Client(processes=False, n_workers=0, dashboard_address=None) as client,
    ):
        cube, tally = start_cube(prepared), state.Tally()
        job = dispatch.Dispatch(
            client, dict, "job", cube, cube.plan.blocks, None, retries=0, tally=tally, observer=Silent()
        )
        with pytest.raises(SpectileError, match=r"no worker is left .*start workers, then use --resume"):
            job.run()
    assert tally.failures == []


def test_a_cluster_that_runs_is_used_by_its_address(settings, here):
    address = settings.scene  # no address
    with pytest.raises(UsageError, match="not the address of a dask scheduler"):
        run_scene(replace(settings, dask_address=address))
    with pytest.raises(UsageError, match="exclude each other"):
        run_scene(replace(settings, dask_address="tcp://127.0.0.1:9", workers=2))
    with pytest.raises(UsageError, match="no dask scheduler answers"):
        run_scene(replace(settings, dask_address="tcp://127.0.0.1:9"))
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None,
                      protocol="tcp://", worker_dashboard_address=None) as cluster:  # fmt: skip
        address = cluster.scheduler_address
        relative = replace(settings, out="cube.zarr", dask_address=address)
        with pytest.raises(UsageError, match="give the whole path"):
            run_scene(relative)
        with pytest.raises(UsageError, match="--resources GPU=1"):
            run_scene(replace(settings, dask_address=address, device="cuda"))
        run_scene(replace(settings, dask_address=address))
        assert len(cluster.scheduler.workers) == 1, "it is not ours to stop"
    assert checksums(settings) == here


def test_a_worker_with_another_network_is_refused(settings):
    wanted = SceneSettings(scene="", out="", model="bands-repeat", tile=256)
    ours = crew.describe_network(wanted)
    assert isinstance(ours, DistantPredictor)
    assert ours.network() is ours.network()
    for name, other in (("dtype", "bfloat16"), ("device", "cuda"), ("steps", 7), ("digest", "other")):
        theirs = replace(ours, settings={**ours.settings, name: other})
        with pytest.raises(UsageError, match=rf"differs from the plan.*expected {name} {other}"):
            theirs.network()


def test_more_workers_than_gpus_are_refused(settings):
    with pytest.raises(UsageError, match=r"--workers 3, expected up to 2"):
        crew.assemble(replace(settings, workers=3), ["0", "1"])


def test_gpus_are_found_as_the_environment_names_them(monkeypatch):
    from spectile.model import device

    monkeypatch.setattr(device.torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-x")
    assert device.visible_gpus() == ["3", "GPU-x"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_no_process(settings, how):
    command = [sys.executable, "-m", "spectile", "run", settings.scene, "--out", settings.out, "--model",
               "bands-repeat", "--block", "512", "--samples", "8", "--workers", "2"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        ledger = Path(settings.out) / "ledger"
        until = time.monotonic() + 60
        while process.poll() is None and not list(ledger.glob("r*.json")):
            assert time.monotonic() < until
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        if how == signal.SIGINT:  # a terminal sends it to all of them
            os.killpg(process.pid, how)
        else:
            process.send_signal(how)
        said = process.stderr.read()
        code = process.wait(30)
    gone, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
    assert gone
    assert code == (-how if how == signal.SIGKILL else 130)
    # Workers whose scheduler is gone may say so, each in its way.
    assert how == signal.SIGKILL or "Traceback" not in said


@pytest.mark.data
def test_a_real_scene_becomes_one_cube_whoever_makes_it(data_dir, tmp_path, hired):
    """One process; two workers and larger blocks; two workers whose run is killed, and two that go on."""
    scene = str(data_dir / "neon/2019_BART_5_320000_4881000_image_crop.tif")
    layers = ("quality", "rgb_consistency", "overlap_disagreement")
    region = (320_230, 4_881_550, 320_336, 4_881_614)  # 640 × 1060 px: two rows of three blocks
    alone = SceneSettings(scene=scene, out=str(tmp_path / "alone.zarr"), model="bands-repeat", block=512,
                          radiometry="display:0.5", region=region, layers=layers)  # fmt: skip
    run_scene(alone)
    made = objects(alone)
    assert len([key for key in made if key.startswith("reflectance/c/")]) == 6

    large = replace(alone, out=str(tmp_path / "large.zarr"), block=1024, workers=2)
    run_scene(large)
    assert objects(large) == made

    killed = replace(alone, out=str(tmp_path / "killed.zarr"), workers=2)
    command = [sys.executable, "-m", "spectile", "run", scene, "--out", killed.out, "--workers", "2",
               "--model", "bands-repeat", "--block", "512", "--radiometry", "display:0.5",
               "--region", ",".join(map(str, region)), "--layers", ",".join(layers)]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(Path(killed.out, "ledger").glob("r*.json")):
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert 0 < len(checksums(killed)) < 6
    run_scene(replace(killed, resume=True))
    assert objects(killed) == made


def objects(settings: SceneSettings) -> dict[str, bytes]:
    """What arrays and overviews hold and say, statistics included, by key."""
    root = Path(settings.out)
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {key: value for key, value in found.items() if not key.startswith(("ledger/", "zarr.json"))}
