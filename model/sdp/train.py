"""Training of SDP's prior (Liu et al. 2023, equation 9, table I): noise in single spectra, squared error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spectile.model.data.crops import TrainingScene
from spectile.model.data.pairs import PairCrops
from spectile.model.device import resolve_device
from spectile.model.diffusion.losses import prediction_loss
from spectile.model.diffusion.parameterization import add_noise
from spectile.model.sdp.fusion import Sdp
from spectile.model.sdp.preset import SdpConfig
from spectile.model.training.ema import Ema
from spectile.model.training.run import Progress, generator_of, run_steps, scene_facts

KIND = "sdp"
"""The kind in a checkpoint of this prior."""
VALIDATION_SPECTRA = 4096
"""That validation looks at."""


@dataclass(frozen=True, eq=False)
class Spectra:
    """Spectra on the device, of several scenes."""

    values: Tensor
    """(P, B) float32 reflectance, scene after scene."""
    first: Tensor
    """(S,) int64, where each scene begins."""
    count: Tensor
    """(S,) how many it has."""
    weight: Tensor
    """(S,) how often it is drawn."""

    @classmethod
    def of(cls, crops: PairCrops) -> Spectra:
        """All valid spectra of scenes."""
        of_scenes = crops.spectra()
        where = of_scenes[0].device
        count = torch.tensor([len(spectra) for spectra in of_scenes], device=where)
        weight = torch.tensor(crops.share, dtype=torch.float32, device=where)
        return cls(torch.cat(of_scenes), count.cumsum(0) - count, count, weight)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, B), scenes by their weights, with repetition."""
        scene = torch.multinomial(self.weight, count, replacement=True, generator=generator)
        share = torch.rand(count, generator=generator, device=generator.device)
        # Rounding may give the count itself.
        at = torch.minimum((share * self.count[scene]).long(), self.count[scene] - 1)
        return self.values[self.first[scene] + at]


def train(
    config: SdpConfig,
    scenes: Sequence[TrainingScene],
    validation: Sequence[TrainingScene],
    out_dir: Path,
    *,
    metadata: Mapping[str, Any],
    device: str = "auto",
    progress: Progress = lambda record: None,
    stop_after: int | None = None,
) -> Sdp:
    """The trained prior, on the device, whose checkpoint is in ``out_dir`` with its log and its state.

    A run that finds its own state in ``out_dir`` continues from it. On a CPU it ends with the same weights,
    to the bit, as one that was never interrupted; on CUDA as far as its kernels repeat themselves. Spectra
    and noise are drawn on the device, so other kinds of device draw others.

    Parameters
    ----------
    config : what to train and how.
    scenes, validation : whose spectra to learn from, and to watch by; validation decides nothing here. All
        have the model's bands.
    out_dir : the checkpoint's folder.
    metadata : facts for the checkpoint: name, recipe, data.
    device : ``auto``, ``cpu`` or ``cuda``.
    progress : is called with each record that goes to the log.
    stop_after : end early after this step, as an interruption would.

    Raises
    ------
    UsageError
        Where the scenes, the bands or the device cannot be used.
    CheckpointError
        Where the state in ``out_dir`` is of another configuration, or damaged.
    """
    training, where = config.training, torch.device(resolve_device(device))
    source, watch = (PairCrops(part, config.bands, side=1, device=where) for part in (scenes, validation))
    spectra, watched = Spectra.of(source), Spectra.of(watch)
    torch.manual_seed(training.seed)
    model = Sdp(config).to(where)
    if config.scale is None:
        model.scale.fill_(float(spectra.values.max()))
    mean = source.mean()
    fill = torch.cat([model.response @ mean, mean]).tolist()
    optimiser = torch.optim.Adam(
        model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    ema = Ema(model, decay=training.ema_decay, start=training.ema_start)

    def averaged() -> Sdp:
        return ema.averaged(Sdp(config)).to(where)

    run_steps(
        model,
        optimiser,
        ema,
        out_dir,
        identity={
            "preset": config.to_json(),
            "scenes": scene_facts(scenes),
            "validation": scene_facts(validation),
        },
        facts={**metadata, "kind": KIND, "fill": fill, "preset": config.to_json()},
        steps=training.iterations,
        log_every=training.log_every,
        validate_every=training.validate_every,
        step=lambda step: _step(model, spectra, optimiser, step),
        validate=lambda: validate(averaged(), watched),
        progress=progress,
        stop_after=stop_after,
    )
    return averaged()


def learning_rate(config: SdpConfig, step: int) -> float:
    """Adam's, at a step from 0 (paper, table I)."""
    training = config.training
    return training.learning_rate * max(1.0 - step / training.learning_rate_fall, 1e-3)


def _step(model: Sdp, spectra: Spectra, optimiser: torch.optim.Optimizer, step: int) -> dict[str, float]:
    """One batch; the loss, where it is logged: reading it would make the device wait each time."""
    training = model.config.training
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(model.config, step)
    generator = generator_of(training.seed, 1, step, device=spectra.values.device)
    # Dropout draws from the global generator, which must depend on the step alone too.
    torch.manual_seed(training.seed + step)
    optimiser.zero_grad(set_to_none=True)
    loss = denoising_loss(model, spectra.draw(training.batch, generator), generator)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return {} if (step + 1) % training.log_every else {"noise": round(loss.item(), 6)}


def denoising_loss(model: Sdp, spectra: Tensor, generator: torch.Generator) -> Tensor:
    """Equation 9 for spectra (P, B), reflectance, each at a time of its own: a mean over all values."""
    where = generator.device
    t = torch.randint(1, len(model.levels), (len(spectra),), generator=generator, device=where)
    eps = torch.randn(spectra.shape, generator=generator, device=where)
    x_t = add_noise(spectra / model.scale, eps, model.levels[t, None])
    return prediction_loss(model.stage(0)(x_t, t - 1), eps, kind="mse")


@torch.inference_mode()
def validate(model: Sdp, spectra: Spectra) -> dict[str, float]:
    """The loss on fixed spectra, times and noise."""
    generator = generator_of(0, 5, device=spectra.values.device)
    loss = denoising_loss(model, spectra.draw(VALIDATION_SPECTRA, generator), generator)
    return {"noise_validation": round(loss.item(), 6)}
