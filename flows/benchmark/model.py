"""`spectile benchmark`: what a model costs on this machine, beside the model as published."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectile.catalog.choices import Device, Dtype
from spectile.flows.console.console import size
from spectile.flows.run.state import peak_memory_bytes
from spectile.pipeline.cube.layout import software_version
from spectile.pipeline.geometry.tiling import Tiling

if TYPE_CHECKING:
    from spectile.model.measure.benchmark import Pass
    from spectile.model.predict.network import NetworkPredictor

PAPER = "scdm-paper"
PAPER_STEPS = 1000
"""T of the published sampler, one forward a step in stage 1 and two, for the guidance, in stage 2."""
PAPER_TILE = 128
"""Side of the tile, px, on which the published model is timed on a CPU: a forward takes seconds."""
PAPER_ROUNDS = 2
"""Rounds in which the published model takes part: with the warm-up nine forwards."""
STEPS = (1, 4, 10)
"""Solver steps by default; one for the published model."""

RUN_COLUMNS = (
    "steps", "madd/px", "s/MPix", "spread", "CPU s/MPix", "overlapped madd/px", "s/MPix",
    "× fewer", "× faster", "madd/s", "of matmul",
)  # fmt: skip
"""madd: multiply-adds. × fewer and × faster: the cost of ``scdm-paper`` divided by this cost."""


@dataclass(frozen=True)
class ModelBenchmark:
    """What a user sets; the command line's options bear the fields' names."""

    model: str = "vnir48"
    """Name of a model, ``scdm-paper`` included, or the path of a checkpoint."""
    steps: tuple[int, ...] | None = None
    """Solver steps to compare; None is ``STEPS``, or 1 for ``scdm-paper``."""
    tile: int = 256
    """Rows and columns of a tile, halo included, px."""
    halo: int = 32
    """Pixels beyond a tile's core on each side, px."""
    batch: int | None = None
    """Tiles a call; None takes the device's default."""
    threads: int | None = None
    """Threads of torch; None takes its default."""
    device: Device = "auto"
    """Where the network runs."""
    dtype: Dtype = "auto"
    """What the networks compute in."""
    compiled: bool = False
    """Whether the networks are compiled."""
    repeats: int = 3
    """Rounds; in each, everything that is compared is timed once."""


def benchmark_model(settings: ModelBenchmark, *, announce: Callable[[str], None]) -> dict[str, Any]:
    """What the model costs, by part and number of steps, and the published one beside it, as JSON values.

    Times are medians over rounds in which all take turns, so that other work of the machine affects all
    equally.

    Raises
    ------
    SpectileError
        Where the model or a setting cannot be used.
    """
    from spectile.model.measure import benchmark

    tiling = Tiling((settings.tile, settings.tile), settings.tile, settings.halo)
    imported = peak_memory_bytes()
    with benchmark.threads(settings.threads) as threads:
        predictor = benchmark.open_model(
            settings.model, batch=settings.batch, device=settings.device, dtype=settings.dtype,
            compiled=settings.compiled,
        )  # fmt: skip
        tiling.check_stride(predictor.stride)
        load = [os.getloadavg()[0]]
        runs, memory = _warm_runs(settings, predictor, imported, announce)
        paper = _warm_paper(settings, predictor, announce)
        timed = _time(settings, runs, paper, announce)
        load.append(os.getloadavg()[0])
    return _facts(settings, tiling, runs, paper, timed, threads=threads, memory=memory, load=load)


@dataclass(frozen=True)
class _Run:
    """One thing that is timed: a predictor at a number of steps, and the tiles it gets."""

    predictor: NetworkPredictor
    tile: int
    tiles: int

    def __call__(self) -> Pass:
        from spectile.model.measure.benchmark import time_pass

        return time_pass(self.predictor, tile=self.tile, tiles=self.tiles)


@dataclass(frozen=True)
class _Timed:
    runs: list[list[Pass]]
    """Of each run, round by round."""
    paper: list[Pass]
    """Of one step of the published model."""
    matmul: list[float]
    """Multiply-adds a second of a matrix product in each round."""


def _warm_runs(
    settings: ModelBenchmark, predictor: NetworkPredictor, imported: int, announce: Callable[[str], None]
) -> tuple[list[_Run], int]:
    """The runs, each warmed up, and the bytes that they took."""
    from spectile.model.measure.benchmark import cuda_peak_bytes

    most = predictor.network.config.timesteps
    usual = (1,) if settings.model == PAPER else tuple(sorted({min(count, most) for count in STEPS}))
    steps = settings.steps or usual
    runs = [_Run(predictor.with_steps(count), settings.tile, predictor.batch) for count in steps]
    for count, run in zip(steps, runs, strict=True):
        announce(f"warming up {settings.model}, {count} step(s)")
        run()
    cuda = predictor.settings["device"] == "cuda"
    return runs, cuda_peak_bytes() if cuda else peak_memory_bytes() - imported


def _warm_paper(
    settings: ModelBenchmark, predictor: NetworkPredictor, announce: Callable[[str], None]
) -> _Run:
    """One step of the published model, warmed up, computing as the predictor does."""
    from spectile.model.measure.benchmark import open_model

    device, dtype = str(predictor.settings["device"]), str(predictor.settings["dtype"])
    cpu = device == "cpu"
    paper = (
        predictor
        if settings.model == PAPER
        else open_model(PAPER, batch=1 if cpu else predictor.batch, device=device, dtype=dtype)
    )
    run = _Run(paper.with_steps(1), PAPER_TILE if cpu else settings.tile, 1 if cpu else paper.batch)
    announce(f"warming up {PAPER}, one step of {run.tile}² px")
    run()
    return run


def _time(
    settings: ModelBenchmark, runs: Sequence[_Run], paper: _Run, announce: Callable[[str], None]
) -> _Timed:
    from spectile.model.measure.benchmark import matmul_speed

    device, dtype = (str(paper.predictor.settings[key]) for key in ("device", "dtype"))
    timed = _Timed([[] for _ in runs], [], [])
    for turn in range(settings.repeats):
        announce(f"round {turn + 1} of {settings.repeats}")
        timed.matmul.append(matmul_speed(device, dtype))
        for run, passes in zip(runs, timed.runs, strict=True):
            passes.append(run())
        if turn < PAPER_ROUNDS:
            timed.paper.append(paper())
    return timed


def _facts(
    settings: ModelBenchmark,
    tiling: Tiling,
    runs: Sequence[_Run],
    paper: _Run,
    timed: _Timed,
    *,
    threads: int,
    memory: int,
    load: list[float],
) -> dict[str, Any]:
    from spectile.model.measure import benchmark

    predictor = runs[0].predictor
    device, dtype = str(predictor.settings["device"]), str(predictor.settings["dtype"])
    overlap = (tiling.tile / tiling.core) ** 2
    best = max(timed.matmul)
    one = _cost(paper, timed.paper, tile=settings.tile, overlap=overlap, best=best)
    published = _scaled(one, PAPER_STEPS)
    rows = []
    for run, passes in zip(runs, timed.runs, strict=True):
        cost = _cost(run, passes, tile=settings.tile, overlap=overlap, best=best)
        cost["scdm_paper_ratio"] = {
            "multiply_adds": published["multiply_adds_per_pixel"] / cost["multiply_adds_per_pixel"],
            "seconds": published["seconds_per_megapixel"]["median"] / cost["seconds_per_megapixel"]["median"],
        }
        rows.append(cost)
    return {
        "version": software_version(),
        "machine": machine(),
        "gpu": benchmark.cuda_name() if device == "cuda" else None,
        "load_average": load,
        "threads": threads,
        "device": device,
        "dtype": dtype,
        "compiled": settings.compiled,
        "model": {"name": predictor.settings["name"], "digest": predictor.settings["digest"]},
        "tile": tiling.tile,
        "halo": tiling.halo,
        "batch": predictor.batch,
        "repeats": settings.repeats,
        "overlap": overlap,
        "memory_bytes": memory,
        "memory": "most that tensors held on the device" if device == "cuda" else "peak RSS over the imports",
        "matmul": {"side": benchmark.MATMUL_SIDE[device], "multiply_adds_per_second": best},
        "runs": rows,
        "scdm_paper": {
            **published,
            "steps": PAPER_STEPS,
            "extrapolated": True,
            "timed_tile": paper.tile,
            "timed_forwards": [sum(one.forwards[stage] for one in timed.paper) for stage in (0, 1)],
        },
    }


def _cost(run: _Run, passes: Sequence[Pass], *, tile: int, overlap: float, best: float) -> dict[str, Any]:
    """What a run costs, with multiply-adds counted at ``tile`` and seconds as measured."""
    from spectile.model.measure.benchmark import count

    steps = int(str(run.predictor.settings["steps"]))
    counted = count(run.predictor.network, tile=tile, steps=steps)
    megapixels = run.tiles * run.tile**2 / 1e6
    seconds = spread([one.seconds / megapixels for one in passes])
    total = sum(counted.values())
    speed = total * 1e6 / seconds["median"]
    keys = sorted({*counted, *passes[0].parts}, key=_place)
    return {
        "steps": steps,
        "multiply_adds_per_pixel": total,
        "seconds_per_megapixel": seconds,
        "cpu_seconds_per_megapixel": spread([one.cpu_seconds / megapixels for one in passes]),
        "with_overlap": _scaled(
            {"multiply_adds_per_pixel": total, "seconds_per_megapixel": seconds}, overlap
        ),
        "multiply_adds_per_second": speed,
        "share_of_matmul": speed / best,
        "parts": [
            {
                "stage": key[0] or None,
                "part": key[1],
                "multiply_adds_per_pixel": counted.get(key, 0.0),
                "seconds_per_megapixel": spread([one.parts.get(key, 0.0) / megapixels for one in passes]),
            }
            for key in keys
        ],
    }


PARTS = ("closed form", "condition branch", "denoiser", "noise", "rest")
"""In the order of the table."""


def _place(key: tuple[int | None, str]) -> tuple[int, int]:
    """The position of a part in the table; parts without a stage come last."""
    return key[0] or 3, PARTS.index(key[1])


def _scaled(cost: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """A cost with all values per pixel multiplied; speeds do not change."""
    scaled: dict[str, Any] = {}
    for key, value in cost.items():
        if key == "multiply_adds_per_pixel":
            scaled[key] = value * factor
        elif key.endswith("seconds_per_megapixel"):
            scaled[key] = {name: seconds * factor for name, seconds in value.items()}
        elif key == "with_overlap":
            scaled[key] = _scaled(value, factor)
        elif key == "parts":
            scaled[key] = [_scaled(part, factor) for part in value]
        else:
            scaled[key] = value
    return scaled


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def machine() -> str:
    """The processor and its cores, without the name of the host."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} cores"


def heading(facts: Mapping[str, Any]) -> list[str]:
    """What was measured, on what and how, a line each."""
    model, paper = facts["model"], facts["scdm_paper"]
    ran = f"{facts['device']}, {facts['dtype']}{', compiled' if facts['compiled'] else ''}"
    first, last = facts["load_average"]
    forwards = " + ".join(map(str, paper["timed_forwards"]))
    return [
        f"{model['name']} {model['digest'][:12]}".strip(),
        f"{facts['gpu'] or facts['machine']}; {ran}, {facts['threads']} thread(s); "
        f"load average {first:.1f} before, {last:.1f} after",
        f"tiles of {facts['tile']} px, halo {facts['halo']}, {facts['batch']} a call; overlapped = "
        f"a pixel of the cube, with ×{facts['overlap']:.2f} for the overlap; median of {facts['repeats']}",
        f"memory: {size(facts['memory_bytes'])}, {facts['memory']}",
        f"matmul: {_short(facts['matmul']['multiply_adds_per_second'])} multiply-adds/s, "
        f"{facts['matmul']['side']}² in {facts['dtype']}",
        f"{PAPER}: {paper['steps']} steps, guidance in stage 2, EXTRAPOLATED from {forwards} forwards "
        f"(stage 1 + stage 2) of {paper['timed_tile']}² px",
    ]


def part_table(facts: Mapping[str, Any]) -> tuple[tuple[str, ...], list[list[str]]]:
    """The header and rows of what each part costs, seconds for each number of steps."""
    runs = facts["runs"]
    header = ["stage and part"]
    for run in runs:
        header += [f"{run['steps']} step(s): madd/px", "s/MPix"]
    names = sorted({(part["stage"], part["part"]) for run in runs for part in run["parts"]}, key=_place)
    rows = []
    for stage, name in names:
        row = [f"stage {stage}, {name}" if stage else name]
        for run in runs:
            parts = [part for part in run["parts"] if (part["stage"], part["part"]) == (stage, name)]
            row += [_short(parts[0]["multiply_adds_per_pixel"]) if parts else "–"]
            row += [f"{parts[0]['seconds_per_megapixel']['median']:.3g}" if parts else "–"]
        rows.append(row)
    return tuple(header), rows


def run_table(facts: Mapping[str, Any]) -> list[list[str]]:
    """A row for each number of steps and one for the published model, in the order of RUN_COLUMNS."""
    rows = []
    for run in (*facts["runs"], facts["scdm_paper"]):
        seconds, overlapped = run["seconds_per_megapixel"], run["with_overlap"]
        ratio = run.get("scdm_paper_ratio", {"multiply_adds": 1.0, "seconds": 1.0})
        name = f"{PAPER}, {run['steps']}, extrapolated" if run.get("extrapolated") else str(run["steps"])
        rows.append(
            [
                name,
                _short(run["multiply_adds_per_pixel"]),
                f"{seconds['median']:.4g}",
                f"{seconds['min']:.3g} to {seconds['max']:.3g}",
                f"{run['cpu_seconds_per_megapixel']['median']:.4g}",
                _short(overlapped["multiply_adds_per_pixel"]),
                f"{overlapped['seconds_per_megapixel']['median']:.4g}",
                f"{ratio['multiply_adds']:.4g}",
                f"{ratio['seconds']:.4g}",
                _short(run["multiply_adds_per_second"]),
                f"{run['share_of_matmul']:.0%}",
            ]
        )
    return rows


def _short(number: float) -> str:
    """A count with its prefix."""
    for prefix in ("", " k", " M", " G"):
        if number < 999.5:
            return f"{number:.3g}{prefix}"
        number /= 1000
    return f"{number:.3g} T"
