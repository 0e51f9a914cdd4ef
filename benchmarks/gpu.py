"""What a GPU gives: the same values, the bare networks' speed, and what a matrix product reaches.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cuda [--models vnir48-rgb vnir48-s2 vnir48] [--side 256] [--json FILE]

The first is a small run on the processor, to see that it works. It needs no imagery, no internet and nothing
of the package beyond the model: torch, scipy, pydantic and safetensors; the last row, of scenes, needs the
rest of it too and is left out without. ``batch`` is the largest difference between tiles predicted together
and one by one, ``processor`` that to the processor's values, reflectance; ``counts`` that of stored counts.
Speed is of the bare predictor with 16 tiles, transfers to and from the device included: of float32 values,
and of counts that are reduced on the device, as runs take them. The published network's share is of what a
matrix product reaches. A scene's ratio is its blocks' speed over that of the bare network.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shared import arguments

from spectile.catalog.choices import Layer
from spectile.catalog.inputs import Batch, Raster, even_batch
from spectile.model.measure.benchmark import count as multiply_adds
from spectile.model.measure.benchmark import matmul_speed, open_model
from spectile.model.predict.network import NetworkPredictor
from spectile.model.predict.predictor import load_predictor

MODELS = ("vnir48-rgb", "vnir48-s2", "vnir48")
TILES = 16
ROUNDS = 5
SMALL = ["--device", "cpu", "--models", "vnir48-rgb", "--side", "64", "--scene", "600"]


def main() -> None:
    """Print a row for each model, precision and number of samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--side", type=int, default=256, help="of a tile, pixels")
    parser.add_argument("--scene", type=int, default=8192, help="rows and columns of a scene")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments(SMALL))
    cuda = given.device == "cuda"
    rows: dict[str, Any] = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "matrix product, TFLOP/s": round(
            2 * matmul_speed(given.device, "bfloat16" if cuda else "float32") / 1e12, 2
        ),
    }
    print(json.dumps(rows))
    for model in given.models:
        rows[model] = {"difference": differences(model, given.device)}
        print(model, json.dumps(rows[model]["difference"]))
        for dtype in ("float32", "bfloat16") if cuda else ("float32",):
            for samples in (1, 4):
                row = speed(model, given.device, dtype, samples, given.side)
                rows[model][f"{dtype}, {samples} samples"] = row
                print(model, dtype, samples, json.dumps(row), flush=True)
    rows["scdm-paper, share of the matrix product"] = published(given.device, given.side)
    rows["scenes"] = {model: scene(model, given.device, given.scene) for model in given.models}
    for name in ("scdm-paper, share of the matrix product", "scenes"):
        print(name, json.dumps(rows[name]), flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def differences(model: str, device: str) -> dict[str, float]:
    """How far tiles together differ from tiles alone, and the device from the processor."""
    rng = np.random.default_rng(0)
    predictor = load_predictor(model, samples=2, device=device)
    (spec,) = predictor.inputs
    values = (rng.random((5, len(spec.bands), 64, 64)) * 0.4).astype(np.float32)
    origins = np.stack([np.arange(5) * 48, np.zeros(5)], axis=1).astype(np.int64)

    def cube(predictor: NetworkPredictor, at: list[int]) -> NDArray[np.float32]:
        valid = np.ones((len(at), 64, 64), dtype=bool)
        batch = Batch({spec.name: Raster(values[at], valid)}, origins[at], 8)
        return np.stack(list(predictor.predict(batch, range(2))))

    assert isinstance(predictor, NetworkPredictor)
    together = cube(predictor, list(range(5)))
    alone = np.concatenate([cube(predictor, [n]) for n in range(5)], axis=1)
    processor = load_predictor(model, samples=2, device="cpu")
    assert isinstance(processor, NetworkPredictor)
    valid = np.ones((5, 64, 64), dtype=bool)
    batch = Batch({spec.name: Raster(values, valid)}, origins, 8)
    cut = slice(None), slice(None)
    # Two calls at once, as a run makes them.
    with ThreadPoolExecutor(predictor.calls) as pool:
        made = list(pool.map(lambda _: predictor.count(batch, 2, ("sd",), cut)[0], range(4)))
    expected = processor.count(batch, 2, ("sd",), cut)[0]
    return {
        "batch": float(np.abs(together - alone).max()),
        "processor": float(np.abs(together - cube(processor, list(range(5)))).max()),
        "counts": float(
            max(np.abs(each[part].astype(int) - expected[part]).max() for each in made for part in expected)
        ),
    }


def speed(model: str, device: str, dtype: str, samples: int, side: int) -> dict[str, float]:
    """Megapixels a second of the bare predictor, and the most memory."""
    predictor = load_predictor(model, samples=samples, device=device, dtype=dtype)
    batch = even_batch(predictor.inputs, TILES, side)

    def predict() -> None:
        for _ in predictor.predict(batch, range(samples)):
            pass

    def count() -> None:
        layers: tuple[Layer, ...] = ("sd",) if samples > 1 else ()
        predictor.count(batch, samples, layers, (slice(None), slice(None)))

    assert isinstance(predictor, NetworkPredictor)
    megapixels = TILES * side**2 / 1e6
    row = {
        "megapixels_per_second": round(megapixels / best(predict), 3),
        "in counts": round(megapixels / best(count), 3),
    }
    if device == "cuda":
        row["gigabytes"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return row


def published(device: str, side: int) -> float:
    """The published network's multiply-adds a second over those of a matrix product, in bfloat16 on CUDA."""
    dtype = "bfloat16" if device == "cuda" else "float32"
    predictor = open_model("scdm-paper", batch=4, device=device, dtype=dtype).with_steps(1)
    batch = even_batch(predictor.inputs, predictor.batch, side)
    seconds = best(lambda: [None for _ in predictor.predict(batch, range(1))])
    each = sum(multiply_adds(predictor.network, tile=side, steps=1).values())
    return round(each * predictor.batch * side**2 / seconds / matmul_speed(device, dtype), 3)


def scene(model: str, device: str, side: int) -> dict[str, float] | str:
    """A scene's speed in blocks and as a whole, and the share of the bare network's that the blocks reach."""
    try:
        from spectile.flows.benchmark.pipeline import PipelineBenchmark, benchmark_pipeline
    except ImportError as err:
        return f"left out: {err}"
    settings = PipelineBenchmark(model=model, size=side, only=("speed",), repeats=1, device=device)
    found = benchmark_pipeline(settings, announce=lambda line: None)["speed"]
    megapixels = side**2 / 1e6
    return {
        "blocks, megapixels_per_second": round(megapixels / found["blocks_seconds"]["median"], 3),
        "blocks ÷ bare": round(found["ratio_blocks"]["median"], 3),
        "whole ÷ bare": round(found["ratio"]["median"], 3),
    }


def best(work: Any) -> float:
    """Seconds of the best of some rounds, after one to warm up."""
    work()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
