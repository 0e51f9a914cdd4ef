"""Blocks made by other processes: workers on this machine, one for each GPU, or a running dask cluster.

Settings go to the workers and small facts come back. What is done is read from the ledger, which a lost
worker cannot take along. A worker loads its network once.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
import numpy as np
from distributed import Client, Nanny, Scheduler, SpecCluster, Worker, WorkerPlugin, get_worker
from distributed.security import Security
from numpy.typing import NDArray

from spectile.catalog.bands import Bands
from spectile.catalog.calibration import Calibration
from spectile.catalog.choices import Layer
from spectile.catalog.counts import Part
from spectile.catalog.errors import BlockError, SpectileError, UsageError
from spectile.catalog.inputs import Batch, InputSpec
from spectile.catalog.urls import locate
from spectile.flows.run import predictors, state
from spectile.flows.run.dispatch import Dispatch
from spectile.flows.run.lattice import lattice
from spectile.flows.run.settings import FusionNetwork, Settings
from spectile.flows.run.state import Observer, Prepared, Tally
from spectile.pipeline.block.counted import count_fused, count_tiles
from spectile.pipeline.block.predict import (
    FusingPredictor,
    Predictor,
    TileFindings,
    calls_of,
    endmembers_of,
)
from spectile.pipeline.cube.ledger import Marker
from spectile.pipeline.cube.record import Cube, finished_blocks
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.run import process_run

LOG = logging.getLogger("spectile")

START_SECONDS = 60
"""Longest wait for the first worker of a cluster, seconds."""
LOSSES = 1
"""Workers of ours that a group of blocks may lose before its blocks are tried one by one."""
_NETWORK = ("model", "steps", "samples", "layers", "seed", "batch", "device", "dtype", "compiled", "threads")
"""The settings that decide which network is loaded, and whether it gives shares beside spectra."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""The variables that limit the threads of OpenMP, MKL and OpenBLAS in a worker."""
_ONE_AT_A_TIME = threading.Lock()
"""A worker of several threads still makes one group at a time: memory was planned for one."""


_DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""The first call in a worker: it ignores Ctrl-C, which reaches all processes of a terminal; we end them."""
_LOADED: dict[tuple[Settings, str], Predictor] = {}
"""The network of this process, by its settings and its digest."""


def _load(wanted: Settings, digest: str | None = None) -> Predictor:
    """The network of this process; without a digest it is loaded again."""
    if digest is None or (wanted, digest) not in _LOADED:
        _LOADED.clear()
        predictor = predictors.predictor_of(wanted)
        _LOADED[wanted, str(predictor.settings["digest"])] = predictor
    return next(iter(_LOADED.values()))


@dataclass(frozen=True)
class DistantPredictor:
    """A predictor known by its facts; the process that lets it predict loads the network."""

    wanted: Settings
    """The settings that decide which network is loaded; all others are left out."""
    bands: Bands
    """The bands of what it predicts."""
    inputs: tuple[InputSpec, ...]
    """The rasters that it takes."""
    stride: int
    """The network's stride in pixels."""
    reach: int | None
    """How many pixels away the network looks; None where at the whole tile."""
    calibration: Calibration | None
    """What the spread of its samples says about the error."""
    settings: Mapping[str, object]
    """Everything of it that can change a value."""
    bytes_per_call: int
    """Peak memory of a call, bytes, for the tiles of the run."""
    response: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    """How the MSI of a pair sees spectra, as of ``FusingPredictor``; None of no pair."""
    endmembers: tuple[str, ...] = ()
    """As of ``MixingPredictor``."""

    def network(self) -> Predictor:
        """The network in this process.

        Raises
        ------
        UsageError : it is another one here, which would mix two kinds of results in a cube.
        """
        predictor = _load(self.wanted, str(self.settings["digest"]))
        here = dict(predictor.settings)
        if here != dict(self.settings):
            both = here.keys() | self.settings.keys()
            names = sorted(name for name in both if here.get(name) != self.settings.get(name))
            raise UsageError(
                "the network on this worker differs from the plan",
                got=", ".join(f"{name} {here.get(name)}" for name in names),
                expected=", ".join(f"{name} {self.settings.get(name)}" for name in names),
                remedy="use workers of one kind, or name --device and --dtype",
            )
        return predictor

    @property
    def batch(self) -> int:
        """The best number of tiles in a call."""
        return self.network().batch

    @property
    def calls(self) -> int:
        """Calls at once that keep its device busy."""
        return calls_of(self.network())

    def predict(self, batch: Batch, samples: range) -> Iterator[NDArray[np.float32]]:
        """As the network does."""
        return self.network().predict(batch, samples)

    def count(
        self, batch: Batch, samples: int, layers: Sequence[Layer], cut: tuple[slice, slice]
    ) -> tuple[dict[Part, NDArray[np.uint16]], NDArray[np.bool_]]:
        """As the network does."""
        return count_tiles(self.network(), batch, samples, layers, cut)

    def count_fused(
        self, batch: Batch, samples: int, layers: Sequence[Layer], cut: tuple[slice, slice]
    ) -> tuple[dict[Part, NDArray[np.uint16]], NDArray[np.bool_], TileFindings]:
        """As the fusion does."""
        return count_fused(self.network(), batch, samples, layers, cut)

    def inspect(
        self, batch: Batch, mean: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """As the fusion does."""
        network = self.network()
        assert isinstance(network, FusingPredictor)
        return network.inspect(batch, mean)

    def memory(self, tile: int) -> int:
        """Peak memory of a call for tiles of the run."""
        assert tile == lattice(self.wanted, self, (1, 1)).tile, tile
        return self.bytes_per_call


def describe_network(wanted: Settings) -> DistantPredictor:
    """A worker's description of the network that it loads for these settings."""
    with _ONE_AT_A_TIME:
        predictor = _load(wanted)
        return DistantPredictor(
            wanted, predictor.bands, predictor.inputs, predictor.stride, predictor.reach,
            predictor.calibration, dict(predictor.settings),
            predictor.memory(lattice(wanted, predictor, (1, 1)).tile),
            predictor.response if isinstance(predictor, FusingPredictor) else None,
            endmembers_of(predictor),
        )  # fmt: skip


@dataclass
class _Failures:
    """Notes the blocks of a run that were given up."""

    why: dict[str, str]

    def tiles(self, count: int) -> None:
        pass

    def done(self, block: Block, marker: Marker, seconds: float) -> None:
        pass

    def failed(self, block: Block, error: BlockError) -> None:
        self.why[block.name] = str(error)


class Job(WorkerPlugin):
    """What every worker knows of a run: the settings, and the cube to write."""

    def __init__(self, prepared: Prepared, cube: Cube) -> None:
        self.name = f"spectile-{uuid4().hex}"
        self._prepared = replace(prepared, crew=None)
        self._cube = cube
        self._stopped = False

    def setup(self, worker: Worker) -> None:
        """Look up the plan's blocks once."""
        self._blocks = {block.name: block for block in self._cube.plan.blocks}

    def teardown(self, worker: Worker) -> None:
        """Let a group end after its current block: the job is over or was stopped."""
        self._stopped = True

    def make(self, names: Sequence[str]) -> dict[str, Any]:
        """Make blocks that are not done yet; what failed and why, and the most memory the process held."""
        prepared, blocks = self._prepared, [self._blocks[name] for name in names]
        done = finished_blocks(self._cube, blocks)
        failures = _Failures({})
        process_run(
            self._cube,
            [block for block in blocks if block not in done],
            sources=prepared.sources,
            predictor=prepared.predictor,
            watch=failures,
            retries=prepared.settings.block_retries,
            overlapped=prepared.estimate.overlapped,
            max_seconds=prepared.settings.max_block_time,
            stopped=lambda: self._stopped,
        )
        return {
            "failures": failures.why,
            "batch": prepared.predictor.batch,
            "peak_memory_bytes": state.peak_memory_bytes(),
        }


def make_blocks(job: str, names: Sequence[str]) -> dict[str, Any]:
    """The facts of a group of blocks of a job; the function that a worker runs."""
    with _ONE_AT_A_TIME:
        plugin = get_worker().plugins[job]
        assert isinstance(plugin, Job)
        return plugin.make(names)


class Crew:
    """A dask cluster, and how blocks are asked of it."""

    def __init__(self, client: Client, cluster: SpecCluster | None, settings: Settings, *, gpu: bool) -> None:
        self.client = client
        """The connection to the scheduler."""
        self._cluster = cluster
        self._device = settings.device if cluster is not None else "cuda" if gpu else "cpu"
        self._resources = {"GPU": 1} if gpu else None

    def predictor(self, settings: Settings) -> DistantPredictor:
        """The network as a worker describes it.

        Raises
        ------
        SpectileError : no worker can load it.
        """
        given = {name: getattr(settings, name) for name in _NETWORK}
        given |= {"out": "", "tile": settings.tile, "device": self._device}
        if isinstance(settings, FusionNetwork):
            wanted: Settings = FusionNetwork(**given, pair=settings.pair)
        else:
            wanted = Settings(**given)
        asked = self.client.submit(describe_network, wanted, pure=False, resources=self._resources)
        try:
            answer = asked.result()
        except ModuleNotFoundError as err:
            raise UsageError(
                "a worker lacks a module", got=err.name, remedy="install spectile where the workers run"
            ) from err
        assert isinstance(answer, DistantPredictor)
        return answer

    def process_blocks(
        self, prepared: Prepared, cube: Cube, blocks: Sequence[Block], *, tally: Tally, observer: Observer
    ) -> None:
        """As ``execute.process_blocks``, by the workers.

        Raises
        ------
        StoreError : the store cannot be written.
        """
        job = Job(prepared, cube)
        try:
            self._hand_out(job)
            Dispatch(
                self.client, make_blocks, job.name, cube, blocks, self._resources,
                retries=prepared.settings.block_retries, tally=tally, observer=observer,
            ).run()  # fmt: skip
        finally:
            # This also ends groups that still run after the client was stopped. A worker that is lost now
            # needs no call.
            with suppress(OSError, ValueError):
                self.client.unregister_worker_plugin(job.name)

    def _hand_out(self, job: Job) -> None:
        """Give a job to all workers; again if one is lost meanwhile, because the scheduler then gives up."""
        for pause in (0.2, 0.5, 1, 2, 5):
            with suppress(OSError):
                self.client.register_plugin(job, name=job.name)
                return
            time.sleep(pause)
        raise SpectileError("the dask cluster was lost", remedy="start it again, then use --resume")

    def close(self) -> None:
        """End the workers that were started for this run, and no others."""
        self.client.close()
        if self._cluster is not None:
            self._cluster.close()


def assemble(settings: Settings, gpus: Sequence[str]) -> Crew:
    """The crew that the settings ask for, with a worker at hand.

    Parameters
    ----------
    gpus : this machine's, as CUDA_VISIBLE_DEVICES names them; empty where the network runs on the CPU.

    Raises
    ------
    UsageError : there are not so many GPUs, or the cluster cannot be used.
    """
    if settings.dask_address is not None:
        _check_whole_paths(settings)
        return _connect(settings, settings.dask_address)
    count = settings.workers or len(gpus)
    if gpus and count > len(gpus):
        raise UsageError(
            "more workers than GPUs", got=f"--workers {count}",
            expected=f"up to {len(gpus)}", remedy="use --device cpu for more",
        )  # fmt: skip
    cluster = start_workers(count, threads=settings.threads or 1, gpus=gpus)
    try:
        client = Client(cluster, set_as_default=False)
        client.wait_for_workers(1, timeout=START_SECONDS)
    except BaseException:
        cluster.close()
        raise
    LOG.info("%d worker(s) on this machine%s", count, ", each with its GPU" if gpus else "")
    return Crew(client, cluster, settings, gpu=bool(gpus))


def start_workers(count: int, *, threads: int = 1, gpus: Sequence[str] = ()) -> SpecCluster:
    """Workers on this machine that nobody else can reach, each in a process of its own.

    Parameters
    ----------
    threads : of a network on the CPU.
    gpus : the first workers see one of them each, and nothing else of CUDA.
    """
    # Everyone who reaches a scheduler can run any code on it; so a key is needed to reach it.
    security = Security.temporary()
    reach = {"host": "127.0.0.1", "protocol": "tls://", "security": security, "dashboard": False}
    spec = {}
    for number in range(count):
        environment: dict[str, object] = dict.fromkeys(_THREADS, threads)
        if gpus:
            # Before torch is imported, which looks once.
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number]
        options = {
            **reach, "nthreads": 1, "memory_limit": 0, "env": environment, "silence_logs": logging.CRITICAL,
            "resources": {"GPU": 1} if gpus else {}, "dashboard_address": "127.0.0.1:0",
            "preload": [_DEAF],
        }  # fmt: skip
        spec[number] = {"cls": Nanny, "options": options}
    scheduler = {
        "cls": Scheduler,
        "options": {**reach, "port": 0, "allowed_failures": LOSSES, "dashboard_address": "127.0.0.1:0"},
    }
    chosen: dict[str, Any] = {
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        # Without dask's MALLOC_TRIM_THRESHOLD_: with it every tile's memory is returned to the system and
        # allocated again page by page, and workers were a third as fast.
        "distributed.nanny.pre-spawn-environ": {},
    }
    with dask.config.set(chosen):
        return SpecCluster(
            workers=spec, scheduler=scheduler, security=security, silence_logs=logging.CRITICAL
        )


def _connect(settings: Settings, address: str) -> Crew:
    if not address.startswith(("tcp://", "tls://")):
        raise UsageError(
            "not the address of a dask scheduler", got=address, expected="tcp://HOST:PORT or tls://HOST:PORT"
        )
    try:
        client = Client(address, set_as_default=False, timeout=10)
    except OSError as err:  # TimeoutError is one
        raise UsageError("no dask scheduler answers", where=address, got=str(err).splitlines()[0]) from err
    try:
        try:
            client.wait_for_workers(1, timeout=START_SECONDS)
        except TimeoutError as err:
            raise SpectileError("the dask cluster has no worker", where=address) from err
        offered = [
            worker["resources"].get("GPU", 0) for worker in client.scheduler_info()["workers"].values()
        ]
        if settings.device == "cuda" and not any(offered):
            raise UsageError(
                "no worker of the dask cluster offers a GPU", where=address,
                remedy="start them with --resources GPU=1, one for each GPU",
            )  # fmt: skip
        LOG.info("%d worker(s) at %s", len(offered), address)
        return Crew(client, None, settings, gpu=settings.device != "cpu" and any(offered))
    except BaseException:
        client.close()
        raise


def _check_whole_paths(settings: Settings) -> None:
    """Refuse paths that mean something else where the workers run."""
    for place in (*settings.places, settings.out):
        path = locate(place)
        if isinstance(path, Path) and not path.is_absolute():
            raise UsageError(
                "a worker elsewhere does not know this path", got=place,
                remedy=f"give the whole path, e.g. {os.path.abspath(place)}, or a URL",
            )  # fmt: skip
