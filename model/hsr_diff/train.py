"""Training of HSR-Diff as published (Wu et al. 2023, equation 8): x0-prediction at random noise levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spectile.model.data.crops import TrainingScene
from spectile.model.data.pairs import PairCrops, coarsen, observe, project
from spectile.model.device import resolve_device
from spectile.model.diffusion.losses import prediction_loss
from spectile.model.diffusion.parameterization import add_noise
from spectile.model.hsr_diff.fusion import HsrDiff
from spectile.model.hsr_diff.preset import HsrDiffConfig, HsrDiffTraining
from spectile.model.training.ema import Ema
from spectile.model.training.run import Progress, generator_of, run_steps, scene_facts

KIND = "hsr-diff"
"""The kind in a checkpoint of this model."""
VALIDATION_CROPS = 4
"""Crops that validation looks at."""
WHOLE = 0.999
"""Share of a coarse pixel's PSF that lies on pixels that count, for it to count too."""


class Losses(NamedTuple):
    """The three terms of equation 8, each a mean over its values, in normalised units."""

    msi: Tensor
    """‖X − R Ẑ‖₁."""
    hsi: Tensor
    """‖Y − Ẑ D‖₁."""
    cube: Tensor
    """‖Z − Ẑ‖₁."""

    def total(self, training: HsrDiffTraining) -> Tensor:
        """Their weighted sum."""
        return training.msi_weight * self.msi + training.hsi_weight * self.hsi + self.cube


def train(
    config: HsrDiffConfig,
    scenes: Sequence[TrainingScene],
    validation: Sequence[TrainingScene],
    out_dir: Path,
    *,
    metadata: Mapping[str, Any],
    device: str = "auto",
    progress: Progress = lambda record: None,
    stop_after: int | None = None,
) -> HsrDiff:
    """The trained network, on the device, whose checkpoint is in ``out_dir`` with its log and its state.

    A run that finds its own state in ``out_dir`` continues from it. On a CPU it ends with the same weights,
    to the bit, as one that was never interrupted; on CUDA as far as its kernels repeat themselves. Noise is
    drawn on the device, so a run does not move from one kind of device to another without other draws.

    Parameters
    ----------
    config : what to train and how.
    scenes, validation : to learn from, and to watch; validation decides nothing here. All have the model's
        bands.
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
    torch.manual_seed(training.seed)
    model = HsrDiff(config).to(where)
    source, watch = (
        PairCrops(part, config.bands, side=training.crop, device=where) for part in (scenes, validation)
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=training.learning_rate, betas=(0.9, 0.999))
    ema = Ema(model, decay=training.ema_decay, start=training.ema_start)

    def averaged() -> HsrDiff:
        return ema.averaged(HsrDiff(config)).to(where)

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
        facts={**metadata, "kind": KIND, "fill": mean_inputs(model, source), "preset": config.to_json()},
        steps=training.steps,
        log_every=training.log_every,
        validate_every=training.validate_every,
        step=lambda step: _step(model, source, optimiser, step),
        validate=lambda: validate(averaged(), watch),
        progress=progress,
        stop_after=stop_after,
    )
    return averaged()


def mean_inputs(model: HsrDiff, source: PairCrops) -> list[float]:
    """Reflectance that masked pixels of the MSI's C and the HSI's B bands hold: the training data's mean."""
    spectrum = source.mean()
    return [float(value) for value in torch.cat([model.response.to(spectrum) @ spectrum, spectrum]).cpu()]


def _step(model: HsrDiff, source: PairCrops, optimiser: torch.optim.Optimizer, step: int) -> dict[str, float]:
    """One step; the losses, where they are logged: reading them would make the device wait each time."""
    training = model.config.training
    phase = training.phase_of(step)
    cube, valid = source.draw(
        (training.seed, 1, step), count=phase.batch, size=phase.size, turn=training.turn
    )
    for parameter in model.stage(0).first_half():
        parameter.requires_grad_(not phase.second_half)
    optimiser.zero_grad(set_to_none=True)
    losses = pair_losses(model, cube, valid, generator_of(training.seed, 2, step, device=cube.device))
    losses.total(training).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    if (step + 1) % training.log_every:
        return {}
    return {name: round(value.item(), 6) for name, value in losses._asdict().items()}


def pair_losses(model: HsrDiff, cube: Tensor, valid: Tensor, generator: torch.Generator) -> Losses:
    """The terms of equation 8 for cubes (N, B, h, w) where they count (N, h, w), at random noise levels."""
    config = model.config
    seen = observe(cube, config.pair, model.response, generator)
    msi, hsi, truth = (model.normalise(values) for values in (seen.msi, seen.hsi, cube))
    gamma = draw_levels(model.levels, len(cube), generator)
    white = torch.randn(truth.shape, generator=generator, device=generator.device)
    state = add_noise(truth, white, gamma[:, None, None, None])
    narrow = config.training.precision == "bfloat16" and cube.is_cuda
    with torch.autocast(cube.device.type, dtype=torch.bfloat16, enabled=narrow):
        estimate = model.estimate(state, gamma, model.begin(*seen))
    estimate = estimate.float()
    weights = model.response.sum(1)[:, None, None]
    # R of a normalised cube lacks the offset of channels whose weights do not sum to one.
    seen_again = project(estimate, model.response) + (weights - 1.0) * config.offset / config.scale
    sigma = (config.pair.psf_sigma, config.pair.psf_sigma)
    coarse_again = coarsen(estimate, config.pair.ratio, sigma, size=config.pair.psf_size)
    whole = coarsen(valid, config.pair.ratio, sigma, size=config.pair.psf_size) > WHOLE
    return Losses(
        prediction_loss(seen_again, msi, kind="l1", mask=valid[:, None].expand_as(msi)),
        prediction_loss(coarse_again, hsi, kind="l1", mask=whole[:, None].expand_as(hsi)),
        prediction_loss(estimate, truth, kind="l1", mask=valid[:, None].expand_as(truth)),
    )


def draw_levels(levels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count,) noise levels γ ~ U(γ_{t−1}, γ_t) with t ~ U{1, T} (paper, 3.2.3; WaveGrad, section 3)."""
    where = generator.device
    t = torch.randint(1, len(levels), (count,), generator=generator, device=where)
    share = torch.rand(count, generator=generator, device=where)
    return levels[t] + share * (levels[t - 1] - levels[t])


@torch.inference_mode()
def validate(model: HsrDiff, source: PairCrops) -> dict[str, float]:
    """The losses on fixed crops, levels and noise: samples of all steps would take minutes."""
    training = model.config.training
    values = []
    for n in range(VALIDATION_CROPS):
        cube, valid = source.draw((0, 5, n), count=1, size=training.crop)
        values.append(torch.stack(pair_losses(model, cube, valid, generator_of(0, 6, n, device=cube.device))))
    means = torch.stack(values).mean(0)
    return {
        f"{name}_validation": round(float(mean), 6) for name, mean in zip(Losses._fields, means, strict=True)
    }
