"""What a GPU gives: the same values, the bare networks' speed, and what a matrix product reaches.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cuda [--models vnir48-rgb vnir48-s2 vnir48] [--side 256] [--json FILE]

The first is a small run on the processor, to see that it works. It needs no imagery, no internet and nothing
of the package beyond the model: torch, scipy, pydantic and safetensors. ``batch`` is the largest difference
between tiles predicted together and one by one, ``processor`` that to the processor's values; reflectance.
Speed is of the bare predictor with 16 tiles, transfers to and from the device included.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shared import arguments

from spectile.catalog.inputs import Batch, Raster, even_batch
from spectile.model.measure.benchmark import MATMUL_SIDE
from spectile.model.predict.network import NetworkPredictor
from spectile.model.predict.predictor import load_predictor

MODELS = ("vnir48-rgb", "vnir48-s2", "vnir48")
TILES = 16
ROUNDS = 5
SMALL = ["--device", "cpu", "--models", "vnir48-rgb", "--side", "64"]


def main() -> None:
    """Print a row for each model, precision and number of samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--side", type=int, default=256, help="of a tile, pixels")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments(SMALL))
    cuda = given.device == "cuda"
    rows: dict[str, Any] = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "matrix product, TFLOP/s": matmul(given.device),
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
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def matmul(device: str) -> float:
    """What a matrix product reaches, bfloat16 on CUDA and float32 on a processor."""
    side, dtype = MATMUL_SIDE[device], torch.bfloat16 if device == "cuda" else torch.float32
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = best(lambda: (one @ other).sum().item())
    return round(2 * side**3 / seconds / 1e12, 2)


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
    return {
        "batch": float(np.abs(together - alone).max()),
        "processor": float(np.abs(together - cube(processor, list(range(5)))).max()),
    }


def speed(model: str, device: str, dtype: str, samples: int, side: int) -> dict[str, float]:
    """Megapixels a second of the bare predictor, and the most memory."""
    predictor = load_predictor(model, samples=samples, device=device, dtype=dtype)
    batch = even_batch(predictor.inputs, TILES, side)

    def predict() -> None:
        for _ in predictor.predict(batch, range(samples)):
            pass

    seconds = best(predict)
    row = {"megapixels_per_second": round(TILES * side**2 / seconds / 1e6, 3)}
    if device == "cuda":
        row["gigabytes"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return row


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
