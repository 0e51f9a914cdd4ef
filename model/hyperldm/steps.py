"""One step of each part of a training, and what lies between the two (algorithm 1, equations 4, 6 and 24)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spectile.model.data.crops import Batch, CropSource
from spectile.model.diffusion.losses import prediction_loss, spectral_loss
from spectile.model.diffusion.parameterization import add_noise, target, to_x0
from spectile.model.hyperldm.discriminators import SPECTRA, Discriminators, deceit_loss, opponents_loss
from spectile.model.hyperldm.losses import codebook_losses, structural_loss
from spectile.model.hyperldm.network import HyperLdm
from spectile.model.hyperldm.preset import HyperConfig, HyperTraining
from spectile.model.training.ema import Ema
from spectile.model.training.run import generator_of

STATISTICS_BATCHES = 16
"""Of which the mean and deviation of the code are measured."""


class Trained(nn.Module):
    """The network, and the discriminators that are needed while it learns."""

    def __init__(self, config: HyperConfig) -> None:
        super().__init__()
        self.network = HyperLdm(config)
        self.discriminators = Discriminators(len(config.bands), config.autoencoder.discriminators)


def crops_of(source: CropSource, training: HyperTraining, number: int) -> Batch:
    """The crops of a step; of a negative number, further ones."""
    key = (training.seed, 1, number) if number >= 0 else (training.seed, 4, -number)
    return source.batch(key, count=training.batch, size=training.crop, augmentation=training.augmentation)


def optimiser_of(model: Trained, training: HyperTraining) -> torch.optim.Optimizer:
    """AdamW over all networks, whose decay is for the denoiser alone; without decay it is Adam."""
    auto = model.network.autoencoder
    opponents = list(model.discriminators.parameters())
    groups = [
        {"params": list(auto.parameters()), "weight_decay": 0.0},
        {"params": opponents, "weight_decay": 0.0, "betas": (0.5, 0.9)},  # of VQGAN (Esser et al. 2021)
        {"params": list(model.network.denoiser.parameters()), "weight_decay": training.weight_decay},
    ]
    return torch.optim.AdamW(groups, lr=0.0)


def rate(training: HyperTraining, number: int) -> float:
    """The learning rate of a step: a rise, a constant part, and a cosine to zero, in each of the two."""
    first = number < training.autoencoder_steps
    step = number if first else number - training.autoencoder_steps
    steps = training.autoencoder_steps if first else training.diffusion_steps
    peak = training.learning_rate if first else training.diffusion_rate
    hold = training.hold if first else training.diffusion_hold
    if step < training.warmup:
        return peak * (step + 1) / training.warmup
    share = (step / steps - hold) / (1.0 - hold) if hold < 1.0 else 0.0
    return peak * 0.5 * (1.0 + math.cos(math.pi * max(share, 0.0)))


def take_step(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Change the weights that have a gradient."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    held = [p for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    torch.nn.utils.clip_grad_norm_(held, 1.0)
    optimiser.step()


def filled(cube: Tensor, bands: Tensor) -> Tensor:
    """Spectra (N, B, h, w) whose missing bands, by (N, B), hold the nearest band that is there."""
    places = torch.arange(bands.shape[1], device=bands.device)
    far = (places[:, None] - places).abs() + 10_000 * (bands[:, None, :] == 0)
    nearest = far.argmin(2)[:, :, None, None].expand_as(cube)
    return cube.gather(1, nearest)


def autoencoder_step(
    model: Trained, optimiser: torch.optim.Optimizer, batch: Batch, training: HyperTraining, number: int
) -> dict[str, Tensor]:
    """One step of the VQGAN, and of its discriminators where it is their turn (equations 4 and 6)."""
    network, opponents = model.network, model.discriminators
    auto, config = network.autoencoder, network.config
    generator = generator_of(training.seed, 2, number)
    truth = filled(batch.target, batch.bands)
    code = auto.encode(network.spectra_of(truth))
    pull = commit = code.new_zeros(())
    passed = code
    if number >= training.quantise_from:
        if training.revive and number < training.autoencoder_steps * 3 // 4:
            places = torch.randint(code[:, 0].numel(), (config.autoencoder.codes,), generator=generator)
            auto.codebook.revive(code.detach(), places)
        nearest = auto.codebook(code)
        pull, commit = codebook_losses(code, nearest, config.autoencoder.distance)
        # Straight through: the gradient of the quantised code is taken for that of the code.
        passed = code + (nearest - code).detach()
    made = auto.decode(passed, auto.condition(network.condition_of(batch.rgb)))
    mask = batch.bands[:, :, None, None] * batch.valid[:, None]
    unit = config.counts / config.scale
    l1 = prediction_loss(made * unit, batch.target * unit, kind="l1", mask=mask)
    angle = spectral_loss(made, batch.target, mask=mask)
    loss = training.l1 * l1 + training.angle * angle
    loss = loss + training.codebook * pull + training.commitment * commit
    adversarial = training.adversarial > 0.0 and number >= training.adversarial_from
    pixels = torch.randint(batch.valid.numel(), (SPECTRA * len(truth),), generator=generator).to(truth.device)
    if adversarial:
        loss = loss + training.adversarial * deceit_loss(opponents, filled(made, batch.bands) * unit, pixels)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    opponents.zero_grad(set_to_none=True)
    take_step(optimiser, rate(training, number))
    losses = {"l1": l1, "angle": angle, "commitment": commit}
    if adversarial and number % training.discriminate_every == training.discriminate_every - 1:
        optimiser.zero_grad(set_to_none=True)
        judged = opponents_loss(opponents, truth * unit, filled(made.detach(), batch.bands) * unit, pixels)
        judged.backward()  # type: ignore[no-untyped-call]
        take_step(optimiser, rate(training, number))
        losses["opponents"] = judged
    return losses


@torch.no_grad()
def freeze(network: HyperLdm, ema: Ema, source: CropSource, training: HyperTraining) -> None:
    """Set the VQGAN to its average, and measure the mean and deviation of its code if they are asked for."""
    prefix = "autoencoder."
    own = {k.removeprefix(prefix): v for k, v in ema.tensors.items() if k.startswith(prefix)}
    network.autoencoder.load_state_dict(own)
    if network.config.latent_scale == "fixed":
        return
    network.latent_mean.zero_()
    network.latent_scale.fill_(1.0)
    codes = []
    for number in range(STATISTICS_BATCHES):
        batch = crops_of(source, training, -1 - number).to(network.device)
        code = network.latent(filled(batch.target, batch.bands))
        codes.append(code.movedim(1, -1)[coarse(batch.valid, network.lattice) > 0.5])
    every = torch.cat(codes)
    network.latent_mean.copy_(every.mean(0))
    network.latent_scale.copy_(every.std(0).clamp_min(1e-6))
    # What is measured is no weight: its average is itself.
    for name in ("latent_mean", "latent_scale"):
        ema.tensors[name].copy_(getattr(network, name))


def coarse(valid: Tensor, factor: int) -> Tensor:
    """(N, h/f, w/f) the share of valid pixels (N, h, w) in each value of the code."""
    return torch.nn.functional.avg_pool2d(valid[:, None], factor)[:, 0]


def diffusion_step(
    model: Trained, optimiser: torch.optim.Optimizer, batch: Batch, training: HyperTraining, number: int
) -> dict[str, Tensor]:
    """One step of the latent U-Net."""
    losses = diffusion_losses(model.network, batch, training, generator_of(training.seed, 3, number))
    optimiser.zero_grad(set_to_none=True)
    (losses["prediction"] + training.structure * losses["structure"]).backward()  # type: ignore[no-untyped-call]
    take_step(optimiser, rate(training, number))
    return losses


def diffusion_losses(
    network: HyperLdm, batch: Batch, training: HyperTraining, generator: torch.Generator
) -> dict[str, Tensor]:
    """The squared error of the prediction, and 1 − SSIM of x̂_0 (equations 23 and 24)."""
    config = network.config
    with torch.no_grad():
        x_0 = network.latent(filled(batch.target, batch.bands))
    count = len(x_0)
    t = torch.randint(1, config.timesteps + 1, (count,), generator=generator).to(x_0.device)
    eps = torch.randn(x_0.shape, generator=generator).to(x_0.device)
    alpha_bar = network.schedule.alpha_bar_of(t, x_0)
    noisy = add_noise(x_0, eps, alpha_bar)
    denoiser, kind = network.denoiser, config.denoiser.prediction
    output = denoiser(noisy, t - 1, denoiser.encode(network.condition_of(batch.rgb)))
    mask = (coarse(batch.valid, network.lattice) > 0.5)[:, None].expand_as(x_0)
    error = prediction_loss(output, target(x_0, eps, alpha_bar, kind), kind="mse", mask=mask)
    structure = error.new_zeros(())
    if training.structure:
        estimate = to_x0(output, noisy, alpha_bar, kind)
        if config.clamp:
            estimate = estimate.clamp(-config.clamp, config.clamp)
        structure = structural_loss(estimate, x_0, scales=training.structure_scales)
    return {"prediction": error, "structure": structure}
