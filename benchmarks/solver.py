"""Few solver steps against 1000 of ancestral sampling, by one and the same network on the Houston crop.

    SPECTILE_DATA=… python benchmarks/solver.py
    SPECTILE_DATA=… python benchmarks/solver.py --model FOLDER [--samples 16] [--json FILE]

FOLDER is the cascade that benchmarks/houston_crop.py left in its own folder; the first, a small run, takes
that of the small run there. Both stages take the same number
of steps. The spread is as calibrated for the default steps in every row. The test columns are looked at,
so the default was not chosen here: it is the recipe's.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from shared import OUT, arguments, data_folder, leave_out

from spectile.flows.console.console import print_table
from spectile.flows.evaluation.evaluate import find_data
from spectile.flows.evaluation.protocols import PROTOCOLS, read_counts
from spectile.model import checkpoint
from spectile.model.diffusion.sampler import ancestral
from spectile.model.measure.ladder_training import Diffusion
from spectile.model.measure.metrics import reliability, spectral_angle
from spectile.model.registry import load_network

STEPS = (2, 4, 8, 16)
SMALL = ["--samples", "2"]


def main() -> None:
    """Print a row for each number of steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=OUT / "houston-crop" / "cascade")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments(SMALL))
    protocol = PROTOCOLS["houston-crop"]
    data = given.data or find_data(protocol.name, None, str(data_folder()))
    if not given.model.is_dir():
        leave_out(f"it needs a cascade in {given.model}; run benchmarks/houston_crop.py first")
    test = protocol.cut(read_counts(data, protocol.bands)).tests[0]
    model = load_network(checkpoint.load(given.model))
    rows: dict[str, Any] = {}
    for steps in STEPS:
        rows[f"DPM-Solver++(2M), {steps}"] = measure(model, test, protocol, steps, given.samples)
    # The library has one sampler for the compact cascade; the other takes its place here alone.
    with (
        patch("spectile.model.cascade.cascade.dpm_solver_pp_2m", ancestral),
        patch(
            "spectile.model.cascade.cascade.logsnr_grid", lambda schedule, steps: list(range(steps, -1, -1))
        ),
    ):
        steps = model.schedule.steps
        rows[f"ancestral, {steps}"] = measure(model, test, protocol, steps, given.samples)
    print_table(
        ("sampler", "sample RMSE", "mean RMSE", "mean SAM", "CRPS", "spread/skill", "s a sample"),
        [(name, *(f"{value:.4g}" for value in row.values())) for name, row in rows.items()],
    )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


def measure(model: Any, test: Any, protocol: Any, steps: int, samples: int) -> dict[str, float]:
    """Scores of ``samples`` draws, in counts."""
    rgb = test[list(protocol.input_bands)] / np.float32(protocol.full_scale)
    generator = torch.Generator().manual_seed(0)
    rung = Diffusion(model, {})
    began = time.perf_counter()
    drawn = np.stack([rung.draw(rgb, generator, steps=steps, number=k) for k in range(samples)])
    seconds = (time.perf_counter() - began) / samples
    drawn = drawn * np.float32(protocol.full_scale)
    truth, everywhere = torch.from_numpy(test), torch.ones(test.shape[1:])
    mean = torch.from_numpy(drawn.mean(axis=0))
    known = reliability(truth, torch.from_numpy(drawn), everywhere)
    return {
        "sample_rmse": float(np.sqrt(np.square(drawn[0] - test).mean())),
        "mean_rmse": float((mean - truth).square().mean().sqrt()),
        "mean_sam": spectral_angle(truth, mean, everywhere).radians,
        "crps": known.crps,
        "spread_skill": known.spread_skill,
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
