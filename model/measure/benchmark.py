"""The cost of a network: counted multiply-adds and measured seconds of each part."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from spectile.catalog.errors import UsageError
from spectile.catalog.inputs import Batch, Raster
from spectile.model.device import resolve_device
from spectile.model.facts import split_name
from spectile.model.predict.acceleration import accelerate, denoisers, resolve_dtype
from spectile.model.predict.network import NetworkPredictor
from spectile.model.predict.predictor import DEFAULT_BATCH, load_predictor
from spectile.model.registry import SYSTEMS
from spectile.model.system import DrawStage, Network

Key = tuple[int, str]
"""(stage from 1, name of the part); stage 0 is for parts without a stage."""
REST: Key = (0, "rest")
"""Solver, truncation, clipping and transfers."""

MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}
"""Of the square matrices that the machine's peak is measured with."""


def open_model(
    model: str, *, batch: int | None, device: str, dtype: str, compiled: bool = False
) -> NetworkPredictor:
    """The predictor of a model as ``load_predictor`` has it; a published one is built with random weights.

    Time and multiply-adds do not depend on the weights.

    Raises
    ------
    SpectileError
        Where the model is missing or a setting cannot be used.
    """
    system = next((known for known in SYSTEMS.values() if known.preset == model), None)
    if system is None or system.published is None:
        predictor = load_predictor(model, batch=batch, device=device, dtype=dtype, compiled=compiled)
        if not isinstance(predictor, NetworkPredictor):
            name, _ = split_name(model)
            raise UsageError("a regression has no parts to time", got=model, remedy=f"name {name}")
        return predictor
    kind = resolve_device(device)
    number = resolve_dtype(dtype, kind, tried=system.bfloat16)
    network = system.build(system.published()).eval().to(kind)
    accelerate(network, device=kind, dtype=number, compiled=compiled)
    return NetworkPredictor(
        network, name=model, digest="", fill=np.zeros(network.channels, np.float32),
        steps=network.config.steps, seed=0, batch=batch or DEFAULT_BATCH[kind], device=kind, dtype=number,
        compiled=compiled,
    )  # fmt: skip


@contextmanager
def probed(network: Network, read: Callable[[], Any]) -> Iterator[list[tuple[Key, Any, Any]]]:
    """A list that grows by (part, reading before, reading after) with every call of a part inside.

    Parameters
    ----------
    read : of a clock or a counter.
    """
    marks: list[tuple[Key, Any, Any]] = []

    def metered(key: Key, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            before = read()
            out = call(*arguments, **named)
            marks.append((key, before, read()))
            return out

        return run

    with ExitStack() as stack:
        for index in range(len(network.stages)):
            calls = [
                (denoiser, name, part)
                for denoiser in denoisers(network.stage(index))
                for name, part in zip(denoiser.calls, ("condition branch", "denoiser"), strict=True)
            ]
            for owner, name, part in [*calls, *network.parts(index)]:
                stack.enter_context(_replaced(owner, name, metered((index + 1, part), getattr(owner, name))))

        finish = network.finish

        def with_noise(begun: Any, draw: DrawStage, **named: Any) -> Tensor:
            draws = [metered((index + 1, "noise"), draw) for index in range(len(network.stages))]
            return finish(begun, lambda stage, step: draws[stage](stage, step), **named)

        stack.enter_context(_replaced(network, "finish", with_noise))
        yield marks


@contextmanager
def _replaced(owner: object, name: str, call: Callable[..., Any]) -> Iterator[None]:
    """Replace a method of an object inside the block."""
    before = vars(owner).get(name)
    setattr(owner, name, call)
    try:
        yield
    finally:
        delattr(owner, name) if before is None else setattr(owner, name, before)


def count(network: Network, *, tile: int, steps: int) -> dict[Key, float]:
    """Multiply-adds a pixel of each part that has any, for a square tile of ``tile`` pixels.

    Convolutions, matrix products and attention count, as torch counts them; normalisation, activations
    and noise do not. The structure runs on the meta device, which computes nothing.
    """
    with torch.device("meta"):
        structure = type(network)(network.config).eval()
        specs = structure.inputs([0.0] * structure.channels)
        sides = [(len(spec.bands), tile // spec.ratio, tile // spec.ratio) for spec in specs]
        rasters = [torch.empty(1, *side) for side in sides]

    def draw(stage: int, step: int) -> Tensor:
        side = tile // structure.lattice
        return torch.empty(1, structure.stage(stage).config.components, side, side, device="meta")

    counter = FlopCounterMode(display=False)
    with probed(structure, counter.get_total_flops) as marks, counter, torch.inference_mode():
        structure.sample(rasters, draw, steps=steps)
    counted = _added(marks, lambda before, after: after - before)
    counted[REST] = counter.get_total_flops() - sum(counted.values())
    # torch counts a multiplication and an addition as two operations.
    return {key: value / 2 / tile**2 for key, value in counted.items() if value}


def _added(marks: list[tuple[Key, Any, Any]], difference: Callable[[Any, Any], float]) -> dict[Key, float]:
    sums: dict[Key, float] = {}
    for key, before, after in marks:
        sums[key] = sums.get(key, 0.0) + difference(before, after)
    return sums


@dataclass(frozen=True)
class Pass:
    """One sample of one call, timed."""

    seconds: float
    """From numpy arrays to numpy arrays."""
    cpu_seconds: float
    """CPU time of all threads: the time on an otherwise idle machine."""
    parts: dict[Key, float]
    """Seconds of each part; they add up to ``seconds``."""
    forwards: tuple[int, int]
    """Calls of the denoiser in each stage; on a CPU each tile is a call of its own."""


def time_pass(predictor: NetworkPredictor, *, tile: int, tiles: int) -> Pass:
    """The time that ``tiles`` square tiles of ``tile`` pixels take in one call.

    Raises
    ------
    UsageError
        Where the tiles do not fit the network.
    """
    generator = np.random.default_rng(0)
    rasters = {}
    for spec in predictor.inputs:
        side = tile // spec.ratio
        values = 0.03 + 0.3 * generator.random((tiles, len(spec.bands), side, side))
        rasters[spec.name] = Raster(values.astype(np.float32), np.ones((tiles, side, side), dtype=bool))
    batch = Batch(rasters, np.zeros((tiles, 2), dtype=np.int64), tiles)
    cuda = predictor.settings["device"] == "cuda"
    with probed(predictor.network, _event if cuda else time.perf_counter) as marks:
        start, cpu_start = time.perf_counter(), time.process_time()
        for _ in predictor.predict(batch, range(1)):
            pass
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    parts = _added(marks, _elapsed if cuda else lambda before, after: after - before)
    parts[REST] = seconds - sum(parts.values())
    calls = [key for key, _, _ in marks]
    return Pass(seconds, cpu_seconds, parts, (calls.count((1, "denoiser")), calls.count((2, "denoiser"))))


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _elapsed(before: torch.cuda.Event, after: torch.cuda.Event) -> float:
    return float(before.elapsed_time(after)) / 1000.0


def matmul_speed(device: str, dtype: str, *, side: int | None = None, times: int = 3) -> float:
    """Multiply-adds a second that a square matrix product reaches, the best of ``times``."""
    side = side or MATMUL_SIDE[device]
    matrix = torch.randn(side, side, device=device).to(getattr(torch, dtype))
    best = float("inf")
    for _ in range(times + 1):  # the first one warms up
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        matrix @ matrix
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return float(side**3 / best)


@contextmanager
def threads(count: int | None) -> Iterator[int]:
    """Let torch use that many threads inside, by default those it has; how many they are.

    Raises
    ------
    UsageError
        Where there are fewer cores.
    """
    before = torch.get_num_threads()
    cores = os.cpu_count() or 1
    if count is not None and not 1 <= count <= cores:
        raise UsageError("threads", got=count, expected=f"1 to {cores}, the cores of this machine")
    torch.set_num_threads(count or before)
    try:
        yield count or before
    finally:
        torch.set_num_threads(before)


def cuda_name() -> str:
    """The name of the CUDA device."""
    return str(torch.cuda.get_device_name())


def cuda_peak_bytes() -> int:
    """The most memory that tensors have held on the CUDA device."""
    return int(torch.cuda.max_memory_allocated())
