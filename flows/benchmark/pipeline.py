"""`spectile benchmark pipeline`: what tiling, blending, writing, workers and Prefect cost beside the network.

What a ratio compares takes turns in one run, so that other work of the machine affects both equally.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from spectile.catalog.choices import Device
from spectile.catalog.errors import SpectileError, UsageError
from spectile.catalog.sizes import width_by_height
from spectile.flows.benchmark.model import machine, spread
from spectile.flows.run.execute import run_scene, start_cube
from spectile.flows.run.planning import prepare
from spectile.flows.run.settings import SceneSettings
from spectile.flows.run.state import Silent
from spectile.pipeline.benchmark import (
    Bare,
    Clock,
    Clocked,
    bare,
    metered,
    time_block,
    time_raw_write,
    write_scene,
)
from spectile.pipeline.block import counted
from spectile.pipeline.cube.layout import software_version
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Block, Tiling
from spectile.pipeline.plan.cost import LARGEST_BLOCK, Estimate
from spectile.pipeline.plan.plan import SHARD, Plan

Part = Literal["speed", "write", "workers", "memory", "overhead", "frameworks"]
PARTS: tuple[Part, ...] = get_args(Part)
CHEAP = "bands-repeat"
"""The model that costs almost nothing, so that only the pipeline is measured."""
BARE_TILES = 32
"""Tiles of a pass of the network alone."""
WORKERS = 2
LONG_BLOCKS = 17
"""Blocks of the longer run that measures the cost of a block with Prefect and dask: three Prefect tasks."""
HOUR = 3600.0

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class PipelineBenchmark:
    """What a user sets; the command line's options bear the fields' names."""

    model: str = "vnir48"
    """Name of a model, or the path of a checkpoint."""
    steps: int | None = None
    """Solver steps of each stage; None takes the checkpoint's own."""
    size: int = 1024
    """Rows and columns of the scene, px."""
    large: int | None = None
    """Rows and columns of the larger scene that memory is measured on; None leaves memory out."""
    block: int | None = None
    """Rows and columns of a block, px; None takes what fits the memory."""
    only: tuple[Part, ...] | None = None
    """What is measured; None is all."""
    repeats: int = 3
    """Rounds; in each, everything that is compared takes its turn."""
    device: Device = "auto"
    """Where the network runs."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is measured, in order.

        Raises
        ------
        UsageError
            Where there is no such part, or memory has nothing to be compared with.
        """
        if unknown := set(self.only or ()) - set(PARTS):
            raise UsageError("unknown part", got=min(unknown), expected=f"{','.join(PARTS)} or some of them")
        if self.only and "memory" in self.only and self.large is None:
            raise UsageError("memory is compared with a larger scene", remedy="give --large PX")
        wanted = self.only or PARTS
        return tuple(part for part in PARTS if part in wanted and (part != "memory" or self.large))


def benchmark_pipeline(settings: PipelineBenchmark, *, announce: Callable[[str], None]) -> dict[str, Any]:
    """What the pipeline costs, by part, as JSON values.

    Raises
    ------
    SpectileError
        Where the model or a setting cannot be used, or a run fails.
    """
    measures: dict[Part, Callable[[_Bench], dict[str, Any]]] = {
        "speed": _speed, "write": _write, "workers": _workers, "memory": _memory, "overhead": _overhead,
        "frameworks": _frameworks,
    }  # fmt: skip
    facts: dict[str, Any] = {}
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory(prefix="spectile-benchmark-") as folder:
        bench = _Bench(settings, Path(folder), announce)
        for part in settings.parts:
            facts[part] = measures[part](bench)
        model = bench.network.predictor.settings
    load.append(os.getloadavg()[0])
    return {
        "version": software_version(),
        "machine": machine(),
        "load_average": load,
        "model": {name: model[name] for name in ("name", "digest", "steps", "dtype", "device")},
        "size": settings.size,
        "repeats": settings.repeats,
        **facts,
    }


@dataclass(frozen=True)
class _Run:
    """A run on a scene."""

    plan: Plan
    redundancy: float
    whole: Clocked
    """From opening the scene and loading the model to the STAC item."""
    blocks: Clocked
    """From the first block's start to the last one's end."""
    network_seconds: float
    """Spent in the network in this process."""
    finish_seconds: float
    """From the last block to the STAC item."""
    open_seconds: float
    """Until the first block."""


class _Phases(Silent):
    """Notes when blocks begin and when the last one was told."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    def begin(self, plan: Plan, estimate: Estimate, done: Sequence[Block]) -> None:
        self.opening = time.perf_counter() - self._started
        self.clock = Clock()

    def block(self, block: Block, seconds: float) -> None:
        self.blocks = self.clock.read(0)


@dataclass(frozen=True)
class _Bench:
    settings: PipelineBenchmark
    folder: Path
    announce: Callable[[str], None]

    def scene(self, shape: tuple[int, int]) -> Path:
        """A scene of a shape."""
        path = self.folder / f"scene{shape[0]}x{shape[1]}.tif"
        if not path.exists():
            self.announce(f"making a scene of {width_by_height(shape)}")
            write_scene(path, shape)
        return path

    def job(self, model: str | None = None, **changes: Any) -> SceneSettings:
        """The settings of a run on the scene, by default with the model that was asked for."""
        asked = self.settings
        scene = self.scene((asked.size, asked.size))
        job = SceneSettings(
            scene=str(scene), out=str(self.folder / "run" / "cube.zarr"), model=model or asked.model,
            radiometry="display",
            steps=None if model else asked.steps, block=asked.block, device=asked.device,
        )  # fmt: skip
        return replace(job, **changes)

    @cached_property
    def network(self) -> Bare:
        """The network alone, warmed up."""
        self.announce(f"warming up {self.settings.model}")
        return _bare(self.job())

    @cached_property
    def tile_seconds(self) -> tuple[float, float]:
        """What a tile takes the network alone: wall and CPU time."""
        passes = [self.network.run() for _ in range(self.settings.repeats)]
        wall, cpu = zip(
            *((each.seconds / each.tiles, each.cpu_seconds / each.tiles) for each in passes), strict=True
        )
        return statistics.median(wall), statistics.median(cpu)

    def run(self, job: SceneSettings, *, keep: bool = False) -> _Run:
        """A run from the scene to the finished cube, which is removed unless it is to be kept."""
        shutil.rmtree(Path(job.out).parent, ignore_errors=True)
        Path(job.out).parent.mkdir()
        phases = _Phases()
        with metered((counted, "count_tiles"), (type(self.network.predictor), "predict")) as spent:
            clock = Clock()
            prepared, result = run_scene(job, observer=phases)
            whole = clock.read(result.tiles)
        if result.failures:
            raise SpectileError("a run failed", got=result.failures[0])
        if not keep:
            shutil.rmtree(Path(job.out).parent)
        tiling = prepared.plan.tiling
        tiles = result.tiles * tiling.mean_size / tiling.tile**2
        network = spent["predict"] if tiling.ramp else spent["count_tiles"]
        whole, blocks = replace(whole, tiles=tiles), replace(phases.blocks, tiles=tiles)
        return _Run(
            prepared.plan, result.redundancy, whole, blocks, network,
            whole.seconds - blocks.seconds - phases.opening, phases.opening,
        )  # fmt: skip

    def alternate(self, what: str, one: Callable[[], T], other: Callable[[], U]) -> tuple[list[T], list[U]]:
        """The results of both in turns, A B A B A: the first has one value more."""
        ones, others = [one()], []
        for turn in range(self.settings.repeats):
            self.announce(f"{what}: round {turn + 1} of {self.settings.repeats}")
            others.append(other())
            ones.append(one())
        return ones, others

    def command(self, scene: Path, *options: str) -> tuple[float, dict[str, Any]]:
        """Wall time and report of a run with the cheap model, in a process of its own."""
        out, report = self.folder / "run" / "cube.zarr", self.folder / "report.json"
        shutil.rmtree(out.parent, ignore_errors=True)
        out.parent.mkdir()
        given = ["--out", str(out), "--model", CHEAP, "--radiometry", "display", "--json", str(report)]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "spectile", "run", str(scene), *given, *options],
            capture_output=True, text=True, check=False,
            env={key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"},
        )  # fmt: skip
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SpectileError("a run failed", got=(done.stderr.strip() or "no message").splitlines()[-1])
        shutil.rmtree(out.parent)
        return seconds, json.loads(report.read_text())


def _bare(job: SceneSettings) -> Bare:
    """The network of a run alone, warmed up, with tiles of its scene."""
    with prepare(job) as prepared:
        network = bare(prepared.predictor, prepared.sources, prepared.plan.tiling, tiles=BARE_TILES)
    Bare(network.predictor, network.batches[:1], 1).run()
    return network


@cache
def _loaded(job: SceneSettings) -> Bare:
    """The network of this process, which does nothing else."""
    return _bare(job)


def _bare_pass(job: SceneSettings) -> Clocked:
    """What a pass of the network takes in this process."""
    return _loaded(job).run()


def _between(values: Sequence[float]) -> list[float]:
    """The means of neighbouring values, to compare with what ran between them."""
    return [(before + after) / 2 for before, after in pairwise(values)]


def _ratios(values: Sequence[float], bases: Sequence[float]) -> dict[str, float]:
    return spread([value / base for value, base in zip(values, bases, strict=True)])


def _described(run: _Run) -> dict[str, Any]:
    tiling, tiles = run.plan.tiling, run.whole.tiles
    return {
        "block": run.plan.block,
        "blocks": len(run.plan.blocks),
        "tiles": tiles,
        "redundancy": run.redundancy,
        "pixels_through_network_per_pixel": tiles * tiling.tile**2 / run.plan.window.size,
    }


def _speed(bench: _Bench) -> dict[str, Any]:
    """Tiles a second of scene runs over those of the network alone, in one process."""
    job = bench.job()
    alone, runs = bench.alternate("speed", bench.network.run, lambda: bench.run(job))
    base = _between([each.speed for each in alone])
    cpu = _between([each.cpu_seconds / each.tiles for each in alone])
    return {
        **_described(runs[0]),
        "batch": bench.network.predictor.batch,
        "bare_tiles_per_second": base,
        "run_tiles_per_second": [run.whole.speed for run in runs],
        "blocks_tiles_per_second": [run.blocks.speed for run in runs],
        "ratio": _ratios([run.whole.speed for run in runs], base),
        "ratio_blocks": _ratios([run.blocks.speed for run in runs], base),
        "ratio_cpu": _ratios(cpu, [run.whole.cpu_seconds / run.whole.tiles for run in runs]),
        "not_network": spread([1 - run.network_seconds / run.blocks.seconds for run in runs]),
        **_phases(runs),
    }


def _write(bench: _Bench) -> dict[str, Any]:
    """Bytes a second of runs with the cheap model over those of zarr alone, for the same array."""
    kept = bench.folder / "kept"
    plan = bench.run(bench.job(CHEAP, out=str(kept / "cube.zarr")), keep=True).plan

    def raw() -> float:
        place = bench.folder / "raw.zarr"
        seconds = time_raw_write(kept / "cube.zarr", place, plan.block)
        shutil.rmtree(place)
        return seconds

    alone, runs = bench.alternate("write", raw, lambda: bench.run(bench.job(CHEAP)))
    shutil.rmtree(kept)
    megabytes = 2 * plan.bands * plan.window.size / 1e6
    base = _between([megabytes / seconds for seconds in alone])
    whole = [megabytes / run.whole.seconds for run in runs]
    blocks = [megabytes / run.blocks.seconds for run in runs]
    return {
        **_described(runs[0]),
        "megabytes": megabytes,
        "raw_megabytes_per_second": base,
        "run_megabytes_per_second": whole,
        "blocks_megabytes_per_second": blocks,
        "ratio": _ratios(whole, base),
        "ratio_blocks": _ratios(blocks, base),
        **_phases(runs),
    }


def _phases(runs: Sequence[_Run]) -> dict[str, Any]:
    """The parts of whole runs, seconds."""
    return {
        "open_seconds": spread([run.open_seconds for run in runs]),
        "blocks_seconds": spread([run.blocks.seconds for run in runs]),
        "finish_seconds": spread([run.finish_seconds for run in runs]),
    }


def _workers(bench: _Bench) -> dict[str, Any]:
    """Tiles a second of two workers of one thread over those of two processes with the network alone."""
    alone = bench.job(threads=1, device="cpu")
    if bench.settings.block is None and bench.settings.size < 2 * LARGEST_BLOCK:
        # Each worker needs two blocks.
        alone = replace(alone, block=max(1, bench.settings.size // 2 // SHARD) * SHARD)
    with ExitStack() as stack:
        pools = [
            stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
            for _ in range(WORKERS)
        ]

        def together() -> float:
            passes = [pool.submit(_bare_pass, alone) for pool in pools]
            return sum(each.result().speed for each in passes)

        bench.announce(f"warming up {WORKERS} processes")
        together()
        speeds, runs = bench.alternate(
            "workers", together, lambda: bench.run(replace(alone, workers=WORKERS))
        )
    base = _between(speeds)
    return {
        **_described(runs[0]),
        "workers": WORKERS,
        "bare_tiles_per_second": base,
        "run_tiles_per_second": [run.whole.speed for run in runs],
        "blocks_tiles_per_second": [run.blocks.speed for run in runs],
        "ratio": _ratios([run.whole.speed for run in runs], base),
        "ratio_blocks": _ratios([run.blocks.speed for run in runs], base),
    }


def _memory(bench: _Bench) -> dict[str, Any]:
    """The peak memory of a separate process, on the scene and on a larger one."""
    runs = []
    for side in (bench.settings.size, bench.settings.large or 0):
        scene = bench.scene((side, side))
        bench.announce(f"memory: {side}² px")
        seconds, report = bench.command(scene)
        runs.append(
            {
                "size": side,
                "blocks": report["plan"]["blocks"],
                "peak_bytes": report["result"]["peak_memory_bytes"],
                "planned_bytes": report["plan"]["peak_memory_bytes"],
                "seconds": seconds,
            }
        )
    return {"runs": runs, "ratio": runs[1]["peak_bytes"] / runs[0]["peak_bytes"]}


def _overhead(bench: _Bench) -> dict[str, Any]:
    """What the parts of the first block take beside the network, and their share of its time."""
    job = bench.job(CHEAP)
    shutil.rmtree(Path(job.out).parent, ignore_errors=True)
    clocks = {"wall": time.perf_counter, "cpu": time.process_time}
    with prepare(job) as prepared:
        cube, plan = start_cube(prepared), prepared.plan
        block = plan.blocks[0]
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in clocks}
        for turn in range(bench.settings.repeats + 1):  # the first one warms up
            bench.announce(f"overhead: round {turn} of {bench.settings.repeats}")
            for name, clock in clocks.items():
                rounds[name].append(
                    time_block(
                        cube, block, sources=prepared.sources, predictor=prepared.predictor, clock=clock
                    )
                )
    tiles = plan.tiling.count(block.window)
    result: dict[str, Any] = {"block": plan.block, "tiles": tiles}
    for (name, (_, *taken)), tile_seconds in zip(rounds.items(), bench.tile_seconds, strict=True):
        network = tiles * tile_seconds
        around = [each["block"] - each["network"] for each in taken]
        result[name] = {
            "seconds": {
                part: spread([each[part] for each in taken])
                for part in taken[0]
                if part not in ("network", "block")
            },
            "overhead_seconds": spread(around),
            "network_seconds": network,
            "share": spread([seconds / (seconds + network) for seconds in around]),
        }
    return result


def _frameworks(bench: _Bench) -> dict[str, Any]:
    """What Prefect and dask add to a run and to each block, extrapolated to a run of an hour."""
    short, long = (bench.scene((SHARD, SHARD * blocks)) for blocks in (1, LONG_BLOCKS))
    ways = {"plain": (), "prefect": ("--prefect",), "dask": ("--workers", "1")}
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for turn in range(bench.settings.repeats):
        bench.announce(f"frameworks: round {turn + 1} of {bench.settings.repeats}")
        for way, options in ways.items():
            given = ("--block", str(SHARD), *options)
            seconds[way].append((bench.command(short, *given)[0], bench.command(long, *given)[0]))
    tiles = Tiling((2 * LARGEST_BLOCK, 2 * LARGEST_BLOCK)).count(Window(0, 0, LARGEST_BLOCK, LARGEST_BLOCK))
    block_seconds = tiles * bench.tile_seconds[0]
    result: dict[str, Any] = {"plain_run_seconds": spread([each[0] for each in seconds["plain"]])}
    for way in ("prefect", "dask"):
        run = [taken[0] - plain[0] for taken, plain in zip(seconds[way], seconds["plain"], strict=True)]
        block = [
            ((taken[1] - taken[0]) - (plain[1] - plain[0])) / (LONG_BLOCKS - 1)
            for taken, plain in zip(seconds[way], seconds["plain"], strict=True)
        ]
        once, each = statistics.median(run), statistics.median(block)
        result[way] = {
            "seconds_per_run": spread(run),
            "seconds_per_block": spread(block),
            "hour_share": (once + each * HOUR / block_seconds) / HOUR,
            "extrapolated": True,
        }
    return {**result, "default_block_seconds": block_seconds, "blocks_in_an_hour": HOUR / block_seconds}
