"""Training of SCDM as published (Chen et al. 2024, algorithm 1): each stage by itself.

One step of a run is one step of each stage on the same crops. That changes neither stage, since they share
no weight: the second learns from true coarse bands, as published, and Adam keeps its moments by parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spectile.catalog.errors import UsageError
from spectile.model.data.crops import Batch, CropSource, Floats, TrainingScene
from spectile.model.device import resolve_device
from spectile.model.diffusion.guidance import drop_condition
from spectile.model.diffusion.losses import scdm_loss
from spectile.model.diffusion.parameterization import add_noise
from spectile.model.scdm.cascade import ScdmCascade
from spectile.model.scdm.preset import ScdmPreset, TrainingPreset
from spectile.model.training.ahead import Ahead, crop_threads
from spectile.model.training.ema import Ema
from spectile.model.training.run import Progress, generator_of, run_steps, scene_facts

KIND = "scdm-paper"
"""The kind in a checkpoint of this cascade."""
VALIDATION_CROPS = 4
"""Of each validation scene at most."""


def train(
    preset: ScdmPreset,
    scenes: Sequence[TrainingScene],
    validation: Sequence[TrainingScene],
    out_dir: Path,
    *,
    metadata: Mapping[str, Any],
    device: str = "auto",
    progress: Progress = lambda record: None,
    stop_after: int | None = None,
) -> ScdmCascade:
    """The trained cascade, on the device, whose checkpoint is in ``out_dir`` with its log and its state.

    A run that finds its own state in ``out_dir`` continues from it. On a CPU it ends with the same weights,
    to the bit, as one that was never interrupted; on CUDA as far as its kernels repeat themselves.

    Parameters
    ----------
    preset : what to train and how.
    scenes, validation : to learn from, and to watch; validation decides nothing here.
    out_dir : the checkpoint's folder.
    metadata : facts for the checkpoint: name, recipe, data, held-out metrics.
    device : ``auto``, ``cpu`` or ``cuda``.
    progress : is called with each record that goes to the log.
    stop_after : end early after this step, as an interruption would.

    Raises
    ------
    UsageError
        Where the scenes, the size of the crops or the device cannot be used.
    CheckpointError
        Where the state in ``out_dir`` is of another configuration, or damaged.
    """
    training, where = preset.training, torch.device(resolve_device(device))
    fill = mean_input(preset)
    source, watch = (CropSource(part, preset.bands, preset.response, fill) for part in (scenes, validation))
    torch.manual_seed(training.seed)
    model = ScdmCascade(preset).to(where)
    if training.crop % model.stride:
        raise UsageError(
            "crops do not fit the network", got=training.crop, expected=f"a multiple of {model.stride}"
        )
    facts = {**metadata, "kind": KIND, "fill": fill.tolist(), "preset": preset.to_json()}
    optimiser = torch.optim.Adam(model.parameters(), lr=training.learning_rate)
    ema = Ema(model, decay=training.ema_decay, start=training.ema_start)

    def averaged() -> ScdmCascade:
        return ema.averaged(ScdmCascade(preset)).to(where)

    make = partial(_crops_of, source, training)
    with Ahead(make, training.iterations, threads=crop_threads(where.type)) as batches:
        run_steps(
            model,
            optimiser,
            ema,
            out_dir,
            identity={
                "preset": preset.to_json(),
                "scenes": scene_facts(scenes),
                "validation": scene_facts(validation),
            },
            facts=facts,
            steps=training.iterations,
            log_every=training.log_every,
            validate_every=training.validate_every,
            step=lambda step: _step(model, batches(step), optimiser, step),
            validate=lambda: validate(averaged(), watch),
            progress=progress,
            stop_after=stop_after,
        )
    return averaged()


def mean_input(preset: ScdmPreset) -> Floats:
    """(3,) the reflectance that is 0 after normalisation: what masked pixels hold, and the null condition."""
    return np.full(3, preset.offset / preset.counts, dtype=np.float32)


def _crops_of(source: CropSource, training: TrainingPreset, step: int) -> Batch:
    key = (training.seed, 1, step)
    return source.batch(key, count=training.batch, size=training.crop, augmentation=training.augmentation)


def _step(model: ScdmCascade, batch: Batch, optimiser: torch.optim.Optimizer, step: int) -> dict[str, float]:
    """One step of each stage; the losses."""
    training = model.config.training
    generator = generator_of(training.seed, 2, step)
    # The networks' dropout draws from the global generator, which must depend on the step alone too.
    torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
    optimiser.zero_grad(set_to_none=True)
    losses = {}
    for index, name in enumerate(("first", "second")):
        loss = stage_loss(model, index, batch, generator)
        # Stage by stage, so that one stage's activations are freed before the other's are made.
        loss.backward()  # type: ignore[no-untyped-call]
        losses[name] = round(loss.item(), 5)
    optimiser.step()
    return losses


def stage_loss(model: ScdmCascade, index: int, batch: Batch, generator: torch.Generator) -> Tensor:
    """SCDM equation 15 for one stage; missing bands are 0 after normalisation and do not count."""
    preset, network = model.config, model.stage(index)
    stage, training, coarse = preset.stages[index], preset.training, list(preset.coarse)
    device = next(network.parameters()).device
    batch = batch.to(device)
    mask = batch.bands[:, :, None, None] * batch.valid[:, None]
    truth = model.normalise(batch.target) * mask
    if index == 0:
        x_0, mask, condition = truth[:, coarse], mask[:, coarse], model.normalise(batch.rgb)
    else:
        x_0, condition = truth, truth[:, coarse]
    if stage.guidance > 0.0:
        condition = drop_condition(condition, training.condition_dropout, generator=generator)
    t = torch.randint(1, preset.timesteps + 1, (len(x_0),), generator=generator)
    eps = torch.randn(x_0.shape, generator=generator).to(device)
    alpha_bar = preset.schedule.alpha_bar_of(t, x_0)
    x_t = add_noise(x_0, eps, alpha_bar)
    # The published network counts 0 to T - 1.
    output = network(x_t, (t - 1).to(device), condition)
    return scdm_loss(
        output,
        eps,
        x_0=x_0,
        x_t=x_t,
        alpha_bar=alpha_bar,
        offset=preset.offset,
        scale=preset.scale,
        kind=training.noise_loss,
        spectral_weight=training.spectral_weight,
        mask=mask,
    )


@torch.inference_mode()
def validate(model: ScdmCascade, source: CropSource) -> dict[str, float]:
    """The loss of each stage on fixed crops, times and noise: a sample of all T steps would take hours."""
    batch = source.every_pixel((0,), size=model.config.training.crop, crops=VALIDATION_CROPS)
    losses = {}
    for index, name in enumerate(("first_validation", "second_validation")):
        values = [
            stage_loss(model, index, batch.crop(n), generator_of(0, 5, n)) for n in range(len(batch.rgb))
        ]
        losses[name] = round(float(torch.stack(values).mean()), 5)
    return losses
