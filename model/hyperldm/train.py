"""Training of HyperLDM in three steps: the VQGAN, the statistics of its code, the diffusion (algorithm 1).

All three are one run with one state, which goes on where it was interrupted. One optimiser has the weights of
all networks; a step changes those alone that got a gradient in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spectile.catalog.errors import UsageError
from spectile.model.closed.factors import calibrate_bands
from spectile.model.data.crops import Batch, CropSource, Floats, TrainingScene
from spectile.model.device import resolve_device
from spectile.model.hyperldm.network import HyperLdm
from spectile.model.hyperldm.preset import HyperConfig, HyperTraining
from spectile.model.hyperldm.steps import (
    Trained,
    autoencoder_step,
    crops_of,
    diffusion_step,
    filled,
    freeze,
    optimiser_of,
)
from spectile.model.training.ahead import Ahead, crop_threads
from spectile.model.training.ema import Ema
from spectile.model.training.run import Progress, generator_of, run_steps, scene_facts

KIND = "hyperldm"
"""In recipes and checkpoints."""
FILL_BATCHES = 8
"""Of which the mean colour is taken, which masked pixels hold."""
VALIDATION_CROPS = 2
"""Of each validation scene at most, to watch the training."""
CALIBRATION_CROPS = 4
"""Of each, to calibrate."""
CALIBRATION_SAMPLES = 16


def train(
    config: HyperConfig,
    training: HyperTraining,
    scenes: Sequence[TrainingScene],
    validation: Sequence[TrainingScene],
    out_dir: Path,
    *,
    metadata: Mapping[str, Any],
    device: str = "auto",
    progress: Progress = lambda record: None,
    stop_after: int | None = None,
) -> HyperLdm:
    """The trained network, on the device, whose checkpoint is in ``out_dir`` with its log and its state.

    A run that finds its own state in ``out_dir`` continues from it. On a CPU it ends with the same weights,
    to the bit, as one that was never interrupted; on CUDA as far as its kernels repeat themselves.

    Parameters
    ----------
    config, training : what to train and how.
    scenes, validation : to learn from; to watch, and to calibrate the layers.
    out_dir : the checkpoint's folder.
    metadata : facts for the checkpoint: name, recipe, data, held-out metrics.
    device : ``auto``, ``cpu`` or ``cuda``; for CUDA, threads make the crops ahead.
    progress : is called with each record that goes to the log.
    stop_after : end early after this step, as an interruption would.

    Raises
    ------
    UsageError
        Where there is no library, or the scenes, the crops or the device cannot be used.
    CheckpointError
        Where the state in ``out_dir`` is of another configuration, or damaged.
    """
    where = resolve_device(device)
    if not config.library:
        raise UsageError("no spectral library to mix spectra of", remedy="name one in the recipe's [library]")
    torch.manual_seed(training.seed)
    model = Trained(config)
    network = model.network
    if training.crop % network.stride:
        raise UsageError(
            "crops do not fit the network", got=training.crop, expected=f"a multiple of {network.stride}"
        )
    fill = mean_colour(CropSource(scenes, config.bands, config.response), training)
    source, watch = (CropSource(part, config.bands, config.response, fill) for part in (scenes, validation))
    model.to(where)
    optimiser = optimiser_of(model, training)
    ema = Ema(model, decay=training.ema_decay, start=training.warmup, part="network")
    facts = {
        **metadata,
        "kind": KIND,
        "fill": fill.tolist(),
        "preset": config.to_json(),
        "training": asdict(training),
        "schedule": {
            "kind": "linear",
            "timesteps": config.timesteps,
            "beta": [config.beta_1, config.beta_T],
        },
    }
    finished: list[HyperLdm] = []

    def averaged() -> HyperLdm:
        return ema.averaged(HyperLdm(config)).to(where)

    def finish() -> tuple[dict[str, Tensor], dict[str, Any]]:
        finished.append(averaged())
        return _finish(finished[-1], watch, training)

    def make(number: int) -> Batch:
        batch = crops_of(source, training, number)
        return batch.pinned() if where == "cuda" else batch

    def step(number: int) -> dict[str, float]:
        batch = batches(number).to(where)
        if number == training.autoencoder_steps:
            freeze(network, ema, source, training)
        losses = (
            autoencoder_step(model, optimiser, batch, training, number)
            if number < training.autoencoder_steps
            else diffusion_step(model, optimiser, batch, training, number)
        )
        # Reading a loss waits for the device, so it is done where it is written down alone.
        logged = (number + 1) % training.log_every == 0
        return {name: round(float(loss.detach()), 5) for name, loss in losses.items()} if logged else {}

    with Ahead(make, training.steps, threads=crop_threads(where)) as batches:
        run_steps(
            model,
            optimiser,
            ema,
            out_dir,
            identity={
                "preset": config.to_json(),
                "training": asdict(training),
                "scenes": scene_facts(scenes),
                "validation": scene_facts(validation),
            },
            facts=facts,
            steps=training.steps,
            log_every=training.log_every,
            validate_every=training.validate_every,
            step=step,
            validate=lambda: validate(averaged(), watch, training),
            progress=progress,
            finish=finish,
            stop_after=stop_after,
        )
    return finished[-1] if finished else averaged()


def mean_colour(source: CropSource, training: HyperTraining) -> Floats:
    """(3,) the mean of the input over valid pixels: what masked pixels hold."""
    batches = [crops_of(source, training, -1 - number) for number in range(FILL_BATCHES)]
    seen = torch.cat([batch.rgb.movedim(1, -1)[batch.valid > 0] for batch in batches])
    fill: Floats = seen.mean(0).numpy()
    return fill


def _finish(
    network: HyperLdm, watch: CropSource, training: HyperTraining
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Round the networks to half precision and calibrate the rounded ones; their tensors and facts."""
    weights = dict(network.named_parameters())
    network.load_state_dict({k: v.half() if k in weights else v for k, v in network.state_dict().items()})
    batch = watch.every_pixel((training.seed, 8), size=training.crop, crops=CALIBRATION_CROPS)
    factors = calibrate_bands(network, batch, samples=CALIBRATION_SAMPLES, seed=training.seed)
    tensors = {k: v.half() if k in weights else v for k, v in network.state_dict().items()}
    return tensors, {"calibration": factors.to_json()}


@torch.inference_mode()
def validate(network: HyperLdm, source: CropSource, training: HyperTraining) -> dict[str, float]:
    """RMSE on fixed crops of the VQGAN alone, which gets the truth, and of a sample of the whole."""
    batch = source.every_pixel((0,), size=training.crop, crops=VALIDATION_CROPS).to(network.device)
    truth = filled(batch.target, batch.bands)
    draw = network.drawn_by(generator_of(0, 5, 0), 1, *batch.rgb.shape[2:])
    made, drawn = [], []
    for n in range(len(batch.rgb)):
        made.append(network.reconstruct(batch.rgb[n : n + 1], truth[n : n + 1]))
        drawn.append(network.sample(batch.rgb[n : n + 1], draw))
    used = torch.unique(
        network.autoencoder.codebook.nearest(network.autoencoder.encode(network.spectra_of(truth)))
    )
    return {
        "vqgan_rmse": round(batch.rmse(torch.cat(made)), 5),
        "sample_rmse": round(batch.rmse(torch.cat(drawn)), 5),
        "codes_used": len(used),
    }
