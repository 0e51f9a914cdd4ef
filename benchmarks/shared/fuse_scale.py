"""How a fusion grows with its scene: memory, speed, and what the pipeline costs beside the bare solver."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from shared.pairs import simulate
from spectile.flows.run import execute
from spectile.flows.run.fusion import prepare_fusion
from spectile.flows.run.holding import Beating, holding
from spectile.flows.run.settings import FuseSettings
from spectile.flows.run.state import Prepared, Silent, Tally, peak_memory_bytes
from spectile.pipeline import run
from spectile.pipeline.block import counted
from spectile.pipeline.block.mosaic import extent, read_inputs, stack_tiles
from spectile.pipeline.geometry.tiling import Block

RATIO = 8
ROUNDS = 3
"""How often the bare solver is timed, spread over the run: other work comes and goes."""


def scale(sides: list[int], *, bands: int, model: str, folder: Path | None) -> dict[str, Any]:
    """Figures of one fusion for each side, each in a process of its own, and how they compare.

    Parameters
    ----------
    sides : rows and columns of the cubes, px.
    folder : where scenes and cubes are while they are needed; None takes the system's.
    """
    found: dict[str, Any] = {}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    for side in sides:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            command = [sys.executable, "-m", "shared.fuse_scale", place, str(side), str(bands), model]
            done = subprocess.run(
                command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, check=True, text=True
            )
            found[str(side)] = json.loads(done.stdout.splitlines()[-1])
            print(side, json.dumps(found[str(side)]), flush=True)
    if len(sides) > 1:
        first, last = (found[str(side)]["peak_memory_mb"] for side in (sides[0], sides[-1]))
        found["memory of the last ÷ of the first"] = round(last / first, 3)
    return found


@dataclass
class Spent:
    """Seconds by what they were spent for, of the clock and of a thread's processor."""

    wall: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Count what is done inside."""
        started, busy = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.wall[what] = self.wall.get(what, 0.0) + time.perf_counter() - started
            self.cpu[what] = self.cpu.get(what, 0.0) + time.thread_time() - busy

    def of(self, what: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same work, counted."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.on(what):
                return work(*args, **kwargs)

        return timed


def measure(folder: Path, side: int, *, bands: int, model: str) -> dict[str, Any]:
    """One fusion in this process."""
    hsi, msi = simulate(folder, side, bands=bands, ratio=RATIO)
    out = folder / "cube.zarr"
    settings = FuseSettings(hsi=hsi, msi=msi, out=str(out), model=model)
    before, spent, tally = peak_memory_bytes(), Spent(), Tally()
    with spent.on("estimate"):
        prepared = prepare_fusion(settings)
    estimated = peak_memory_bytes()
    with prepared, holding(settings) as lease:
        observer = Beating(lease, Silent())
        cube = execute.start_cube(prepared, lease.storage)
        whole = [each for each in prepared.plan.blocks if each.window.shape == (prepared.plan.block,) * 2]
        whole = whole or list(prepared.plan.blocks)
        chosen = [whole[len(whole) * number // ROUNDS] for number in range(ROUNDS)]
        alone = [bare(prepared, each) for each in chosen]
        with (
            patch.object(counted, "count_fused", spent.of("solve", counted.count_fused)),
            patch.object(run, "read_inputs", spent.of("read", run.read_inputs)),
            patch.object(run, "write_block", spent.of("write", run.write_block)),
            spent.on("blocks"),
        ):
            todo = execute.remaining(cube)
            execute.process_blocks(prepared, cube, todo, tally=tally, observer=observer)
        alone += [bare(prepared, each) for each in chosen]
        with spent.on("finish"):
            result = execute.conclude(prepared, cube, tally, observer, time.perf_counter())
    pixels = tally.pixels / 1e6
    bare_wall, bare_cpu = (sum(each[0] for each in alone) / sum(each[at] for each in alone) for at in (1, 2))
    stored = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return {
        "side": side, "bands": bands, "method": prepared.predictor.settings["name"],
        "block": prepared.plan.block, "overlapped": prepared.estimate.overlapped,
        "tile": prepared.plan.tiling.tile, "halo": prepared.plan.tiling.halo,
        "peak_memory_mb": round(peak_memory_bytes() / 1e6),
        "of which before, after estimating": [round(before / 1e6), round(estimated / 1e6)],
        "planned_memory_mb": round(prepared.estimate.peak_memory_bytes / 1e6),
        "blocks_failed": result.blocks_failed, "cube_gb": round(stored / 1e9, 2),
        "seconds": {name: round(value, 1) for name, value in spent.wall.items()},
        "processor seconds of the threads": {name: round(value, 1) for name, value in spent.cpu.items()},
        "megapixels_per_second in blocks": round(pixels / spent.wall["blocks"], 3),
        "megapixels_per_second of the bare solver": round(bare_wall, 3),
        "pipeline ÷ bare solver": round(pixels / spent.wall["blocks"] / bare_wall, 3),
        "megapixels a processor second": {
            "bare solver": round(bare_cpu, 3),
            "solver in the pipeline": round(pixels / spent.cpu["solve"], 3),
        },
    }  # fmt: skip


def bare(prepared: Prepared, block: Block) -> tuple[float, float, float]:
    """Megapixels of a block, and seconds of the solver alone on its tiles: of the clock, and the processor's.

    All that the solver gives in a run: counts of the mean, and what is found in the tiles.
    """
    tiling, predictor = prepared.plan.tiling, prepared.predictor
    reading = read_inputs(prepared.sources, predictor.inputs, extent(tiling, block.window))
    wall = cpu = pixels = 0.0
    for tile in tiling.tiles(block.window):
        share = tiling.share_of(tile).intersection(tile.window)
        pixels += share.intersection(block.window).size / 1e6
        stacked = stack_tiles([tile], 1, predictor.inputs, reading)
        started, busy = time.perf_counter(), time.thread_time()
        counted.count_fused(predictor, stacked, 1, (), share.relative_to(tile.window).slices)
        wall, cpu = wall + time.perf_counter() - started, cpu + time.thread_time() - busy
    return pixels, wall, cpu


if __name__ == "__main__":
    place, side, bands, model = sys.argv[1:]
    print(json.dumps(measure(Path(place), int(side), bands=int(bands), model=model)))
