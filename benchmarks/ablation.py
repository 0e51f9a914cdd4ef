"""What each choice of the cascade is worth, on the Houston crop: fitted on columns 0-71, measured on 72-95.

    SPECTILE_DATA=… python benchmarks/ablation.py
    SPECTILE_DATA=… python benchmarks/ablation.py [VARIANT ...] [--out FILE.json] [--seeds 2] [--steps 1600]

The first is a small run, to see that it works: two variants, trained for a few steps. The whole takes days.
The test columns stay shut. Every variant differs from the first by what its name says. Rows are kept in
FILE.json; run again, it goes on where it stopped. Spread ÷ skill is given before calibration, everything
else of the samples after it (on the same columns, so that it flatters all variants alike; one stage is not
calibrated).
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import partialmethod
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from shared import OUT, arguments, data_folder
from torch import Tensor, nn

from spectile.flows.console.console import print_table
from spectile.flows.evaluation.evaluate import find_data
from spectile.flows.evaluation.protocols import PROTOCOLS, read_counts
from spectile.model.cascade.cascade import DEFAULT_STAGES, Encoded, SpectralCascade, Stage
from spectile.model.cascade.config import TrainConfig
from spectile.model.cascade.spread import calibrate_stages
from spectile.model.cascade.train import MAX_WEIGHT, learning_rate, stage_loss
from spectile.model.closed.closed_form import COLOUR_FEATURES, Prepared, colour_features
from spectile.model.diffusion.grain import random_grained, white_grain
from spectile.model.diffusion.parameterization import Prediction, to_x0
from spectile.model.diffusion.schedule import Schedule, linear_schedule
from spectile.model.measure import ladder_networks
from spectile.model.measure.ladder import Floats
from spectile.model.measure.ladder_networks import CascadeRung
from spectile.model.measure.ladder_training import (
    BATCH,
    CROP,
    STILL,
    Diffusion,
    PairSource,
    averaged,
    padded_image,
    whole,
)
from spectile.model.measure.metrics import reliability, residual_structure, spectral_angle
from spectile.model.networks.unet_compact import CompactUNet, fold
from spectile.model.training.ema import Ema
from spectile.model.training.run import generator_of

SAMPLES = 16
SMALL = ["default", "one stage", "--seeds", "1", "--steps", "20"]


@dataclass(frozen=True)
class Variant:
    """How a run differs from the default."""

    stages: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    """Fields of either stage."""
    members: int = ladder_networks.MEMBERS
    training: dict[str, Any] = field(default_factory=dict)
    """Fields of the training."""
    whitened: bool = True
    """Whether the residual is diffused in principal components, or band by band in units of its deviation."""
    one_stage: bool = False
    """All bands from the colour at once, with the first stage's network."""
    white: bool = False
    """Whether the noise is white."""
    grain_calibrated: bool = True
    """Whether samples have the grain of the validation residual, or of the training residual."""
    prediction: Prediction = "v"
    """What the denoiser's output stands for."""
    max_weight: float = MAX_WEIGHT
    """The loss on x̂_0 counts SNR + 1 times, at most so often."""
    corrected: bool = True
    """Whether the branch corrects the mean; else it is the closed form's and the denoiser's average stays."""


VARIANTS: dict[str, Variant] = {
    "default": Variant(),
    "one network a stage": Variant(members=1),
    "one stage": Variant(one_stage=True, stages=({"components": 12}, {})),
    "4 components": Variant(stages=({"components": 4}, {"components": 4})),
    "12 components": Variant(stages=({"components": 12}, {"components": 12})),
    "bands, not components": Variant(stages=({"components": 12}, {"components": 48}), whitened=False),
    "white noise": Variant(white=True),
    "grain of training pixels": Variant(grain_calibrated=False),
    "no kernels": Variant(stages=({"kernels": 0}, {})),
    "64 wide, 2 blocks": Variant(stages=({"condition_width": 64, "condition_blocks": 2}, {})),
    "32 wide": Variant(stages=({"condition_width": 32}, {})),
    "group normalisation": Variant(stages=({"norm": "group"}, {"norm": "group"})),
    "no spectral angle": Variant(training={"angle": 0.0}),
    "exact coarse bands": Variant(training={"coarse_noise": 0.0}),
    "no weight decay": Variant(training={"weight_decay": 0.0}),
    "x0": Variant(prediction="x0"),
    "weights of EDM": Variant(max_weight=math.inf),
    "equal weights": Variant(max_weight=1.0),
    "no correction": Variant(corrected=False),
    "no residual": Variant(corrected=False, training={"ridge": 1e9}),
}


def main() -> None:
    """Fill the rows that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=OUT / "ablation.json")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1600)
    given = parser.parse_args(arguments(SMALL))
    protocol = PROTOCOLS["houston-crop"]
    data = given.data or find_data(protocol.name, None, str(data_folder()))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    split = protocol.cut(read_counts(data, protocol.bands))
    bands = list(protocol.input_bands)
    parts = [part / np.float32(protocol.full_scale) for part in (split.training, split.validation)]
    rows: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    for seed in range(given.seeds):
        for name in given.variants:
            key = f"{name}/{seed}/{given.steps}"
            if key not in rows:
                with ExitStack() as stack:
                    for each in patches(VARIANTS[name]):
                        stack.enter_context(each)
                    row = run(VARIANTS[name], parts[0], parts[1], bands, seed, given.steps)
                rows[key] = {k: v * (protocol.full_scale if k in IN_COUNTS else 1.0) for k, v in row.items()}
                given.out.write_text(json.dumps(rows, indent=1))
                print(key, rows[key], flush=True)
    print_table(
        COLUMNS,
        [
            (name, *("/".join(f"{row[k]:.{digits}f}" for row in found) for k, digits in SHOWN))
            for name in given.variants
            if (found := [rows[key] for key in rows if key.startswith(f"{name}/")])
        ],
    )


def patches(variant: Variant) -> Iterator[AbstractContextManager[Any]]:
    """What a variant changes that no configuration says."""
    if variant.white:
        yield patch("spectile.model.cascade.train.fit_grain", _white)
    if variant.white or not variant.grain_calibrated:
        yield patch("spectile.model.cascade.spread._calibrate_grain")
    if variant.prediction != "v":
        yield patch(
            "spectile.model.cascade.cascade.to_x0",
            lambda output, x, at, _: to_x0(output, x, at, variant.prediction),
        )
    yield patch("spectile.model.cascade.train.MAX_WEIGHT", variant.max_weight)
    if not variant.corrected:
        yield patch.object(Stage, "encode", _uncorrected)
        yield patch.object(Stage, "sample", partialmethod(_with_average, Stage.sample))


def _uncorrected(stage: Stage, prepared: Prepared, member: int = 0) -> Encoded:
    network = stage.networks[member]
    assert isinstance(network, CompactUNet)
    return Encoded(prepared, network.encode(fold(prepared.condition))[1], network)


def _with_average(
    stage: Stage, sample: Any, encoded: Encoded, schedule: Schedule, steps: int, draw: Callable[[int], Tensor]
) -> Tensor:
    """A sample whose average, which ``Stage.sample`` takes off, is added again."""
    noise, last = draw(0), float(schedule.steps)
    average = stage.estimate(noise, torch.full((len(noise),), last), schedule.alpha_bar_at(last), encoded)
    z: Tensor = sample(stage, encoded, schedule, steps, lambda step: noise)
    return z + average


def _white(components: Tensor, weight: Tensor) -> Tensor:
    del weight
    return white_grain(components.shape[1])


COLUMNS = (
    "variant", "one step", "mean of 16", "sample", "SAM of mean", "CRPS", "variogram, 1 px",
    "spread/skill before",
)  # fmt: skip
IN_COUNTS = ("one_step", "mean", "sample", "crps")
SHOWN = (
    ("one_step", 0),
    ("mean", 0),
    ("sample", 0),
    ("sam", 4),
    ("crps", 1),
    ("variogram_1", 2),
    ("spread_skill", 2),
)


def run(
    variant: Variant, training: Floats, validation: Floats, bands: list[int], seed: int, steps: int
) -> dict[str, float]:
    """Train one variant and measure it on the validation columns, in units of the full scale."""
    torch.manual_seed(seed)
    config = TrainConfig(
        steps=steps, batch=BATCH, crop=CROP, learning_rate=1e-3, warmup=steps // 20, seed=seed,
        augmentation=STILL, **variant.training,
    )  # fmt: skip
    source = PairSource(training[bands], training)
    first, second = (
        replace(stage, **change) for stage, change in zip(DEFAULT_STAGES, variant.stages, strict=True)
    )
    estimator: Any
    if variant.one_stage:
        estimator = OneStage(source, config, first, variant.members)
    else:
        estimator = CascadeRung(source, config, (first, second), variant.members)
        if not variant.whitened:
            for stage in (estimator.module.stage(0), estimator.module.stage(1)):
                deviation = stage.closed.basis.square().sum(1).sqrt()
                stage.closed.basis.copy_(torch.diag(deviation))
    ema = Ema(estimator.module, decay=0.98, start=20)
    for step in range(steps):
        estimator.step(source, step)
        ema.update(estimator.module)
    module = averaged(estimator, ema)
    rgb = validation[bands]
    draw: Callable[[int, int | None], Floats]
    if isinstance(module, SpectralCascade):
        rung = Diffusion(module, {})
        generator = torch.Generator().manual_seed(1)
        draw = lambda number, count: rung.draw(rgb, generator, steps=count, number=number)  # noqa: E731
    else:
        draw = module.drawer(rgb)
    before = known(validation, draw)
    if isinstance(module, SpectralCascade):
        calibrate_stages(module, whole(rgb, validation), seed=0)
    after = known(validation, draw)
    one = draw(0, 1)
    return {
        "one_step": float(np.sqrt(np.square(one - validation).mean())),
        **after,
        "spread_skill": before["spread_skill"],
    }


def known(truth: Floats, draw: Callable[[int, int | None], Floats]) -> dict[str, float]:
    """Scores of samples at the default steps."""
    drawn = np.stack([draw(number, None) for number in range(SAMPLES)])
    mean, everywhere = drawn.mean(axis=0), torch.ones(truth.shape[1:])
    reference, samples = torch.from_numpy(truth), torch.from_numpy(drawn)
    found = reliability(reference, samples, everywhere)
    angle = spectral_angle(reference, torch.from_numpy(mean), everywhere)
    return {
        "mean": float(np.sqrt(np.square(mean - truth).mean())),
        "sample": float(np.sqrt(np.square(drawn[0] - truth).mean())),
        "sam": angle.radians,
        "crps": found.crps,
        "variogram_1": residual_structure(
            torch.from_numpy(truth), torch.from_numpy(drawn), everywhere
        ).variogram[1],
        "spread_skill": found.spread_skill,
    }


class OneStage:
    """The first stage's network on all bands at once."""

    def __init__(self, source: PairSource, config: TrainConfig, stage: Any, members: int) -> None:
        self.module = OneStageModule(source, config, stage, members)
        self._config = config
        self._optimiser = torch.optim.AdamW(self.module.parameters(), weight_decay=config.weight_decay)

    def step(self, source: PairSource, step: int) -> None:
        """One optimiser step."""
        config, stage = self._config, self.module.stage
        batch = source.batch((config.seed, 1, step), count=BATCH, size=CROP, augmentation=STILL)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(config, step)
        loss = stage_loss(
            stage, self.module.schedule, stage.closed.prepare(colour_features(batch.rgb)), batch.target,
            batch.bands, batch, config, generator_of(config.seed, 2, step), step % len(stage.networks),
        )  # fmt: skip
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self._optimiser.step()


class OneStageModule(nn.Module):
    """RGB → all bands."""

    def __init__(self, source: PairSource, config: TrainConfig, stage: Any, members: int) -> None:
        super().__init__()
        self.schedule = linear_schedule()
        self.stage = Stage(stage, COLOUR_FEATURES, source.cube.shape[0], members)
        rgb, cube, _ = source.pixels(config.seed, None, crop=CROP)
        colour = colour_features(rgb)
        self.stage.closed.fit(colour, cube, generator=generator_of(config.seed, 4, 0))

    def drawer(self, rgb: Floats) -> Callable[[int, int | None], Floats]:
        """(number of the sample, steps) → (B, h, w)."""
        padded, height, width = padded_image(rgb)
        generator = torch.Generator().manual_seed(1)

        def noise(step: int) -> Tensor:
            del step  # the solver draws once
            return random_grained(self.stage.grain, 1, padded.shape[2], padded.shape[3], generator)

        @torch.inference_mode()
        def draw(number: int, steps: int | None) -> Floats:
            prepared = self.stage.closed.prepare(colour_features(padded))
            if steps == 1:
                mean = self.stage.posterior_mean(prepared)
            else:
                encoded = self.stage.encode(prepared, number % len(self.stage.networks))
                z = self.stage.sample(encoded, self.schedule, 4, noise)
                scaled = self.stage.diffused * self.stage.deviation
                mean = self.stage.add_residual(encoded.prepared, scaled, z).mean
            out: Floats = mean[0, :, :height, :width].clamp(0.0, 1.6).numpy()
            return out

        return draw


if __name__ == "__main__":
    main()
