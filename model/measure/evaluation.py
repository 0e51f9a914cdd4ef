"""The errors of a network on scenes that it never saw, beside the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spectile.catalog.calibration import Calibration
from spectile.model.closed.baselines import Baseline
from spectile.model.data.crops import Batch, CropSource
from spectile.model.measure.metrics import mrae, reliability, rmse, spectral_angle
from spectile.model.system import Network

COUNT = 1e-4
"""One stored count, reflectance."""


def held_out_crops(source: CropSource, *, crops: int, size: int, seed: int) -> Batch:
    """Crops of every scene, at most so many, the same for every model that is compared; no pixel twice."""
    return source.every_pixel((seed, 6), size=size, crops=crops)


@torch.inference_mode()
def evaluate(
    model: Network,
    batch: Batch,
    *,
    samples: int,
    seed: int,
    baselines: Mapping[str, Baseline],
    steps: int | None = None,
    factors: Calibration | None = None,
) -> dict[str, Any]:
    """RMSE (reflectance), SAM (radians) and MRAE of each predictor, and the samples' calibration.

    ``one_step`` is the posterior mean, ``sample`` one draw at the default steps, ``mean_of_samples`` the
    mean of all draws, then what the network's own ``estimates`` are; ``calibrated_90`` is the share
    of values within the interval that the calibration's factors give. Only bands that every crop has are
    counted.
    """
    device = model.device
    crops = [[seen.to(device) for seen in model.observe(batch.crop(n))] for n in range(len(batch.rgb))]
    draw = model.drawn_by(torch.Generator().manual_seed(seed), 1, *batch.rgb.shape[2:])

    def predict(count: int | None, number: int = 0) -> Tensor:
        drawn = [model.sample(crop, draw, steps=count, number=number) for crop in crops]
        return torch.cat(drawn).cpu()

    bands = torch.nonzero(batch.bands.min(dim=0).values)[:, 0]
    truth = batch.target[:, bands]

    def scores(estimate: Tensor) -> dict[str, float]:
        angle = spectral_angle(truth, estimate[:, bands], batch.valid)
        return {
            "rmse": round(rmse(truth, estimate[:, bands], batch.valid), 5),
            "sam": round(angle.radians, 5),
            "mrae": round(mrae(truth, estimate[:, bands], batch.valid, offset=COUNT), 4),
        }

    draws = torch.stack([predict(steps, number) for number in range(samples)])
    known = reliability(truth, draws[:, :, bands], batch.valid)
    result: dict[str, Any] = {
        "one_step": scores(predict(1)),
        "sample": scores(draws[0]),
        "mean_of_samples": scores(draws.mean(dim=0)),
        "samples": samples,
        "bands": len(bands),
        "spread": round(known.spread, 5),
        "spread_skill": round(known.spread_skill, 3),
        "crps": round(known.crps, 5),
        "coverage": {str(level): round(share, 3) for level, share in known.coverage.items()},
    }
    if factors is not None:
        low, high = (torch.tensor(side)[bands][:, None, None] for side in (factors.low, factors.high))
        deviation, error = draws[:, :, bands].std(dim=0), truth - draws[:, :, bands].mean(dim=0)
        inside = (error >= low * deviation) & (error <= high * deviation)
        counted = (batch.valid[:, None] > 0).expand_as(inside)
        result["calibrated_90"] = round(float(inside[counted].float().mean()), 3)
    for name, further in model.estimates(batch.rgb.to(device)).items():
        result[name] = scores(further.cpu())
    for name, baseline in baselines.items():
        estimate = np.stack([baseline.predict(rgb.numpy()) for rgb in batch.rgb])
        result[name] = scores(torch.from_numpy(estimate))
    return result


def groups(names: Sequence[str]) -> dict[str, list[int]]:
    """Positions of the scenes by the part of their name before the first slash."""
    positions: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        positions.setdefault(name.split("/")[0], []).append(index)
    return positions
