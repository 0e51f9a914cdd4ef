"""HyperLDM as a rung of the ladder: the networks of ``hyperldm48`` over a library of the scene's pixels."""

from __future__ import annotations

import torch
from torch import nn

from spectile.catalog.bands import Bands
from spectile.model.cascade.config import TrainConfig
from spectile.model.closed.factors import calibrate_bands
from spectile.model.closed.regressions import Floats, pixels_of
from spectile.model.hyperldm.endmembers import choose_endmembers
from spectile.model.hyperldm.network import HyperLdm
from spectile.model.hyperldm.preset import (
    AutoencoderConfig,
    DenoiserConfig,
    Endmember,
    HyperConfig,
    HyperTraining,
)
from spectile.model.hyperldm.steps import (
    Trained,
    autoencoder_step,
    crops_of,
    diffusion_step,
    freeze,
    optimiser_of,
)
from spectile.model.hyperldm.train import KIND
from spectile.model.measure.ladder_regression import chosen
from spectile.model.measure.ladder_training import (
    DECAY,
    START,
    WATCH_SAMPLES,
    Diffusion,
    PairSource,
    whole,
)
from spectile.model.measure.metrics import reliability
from spectile.model.training.ema import Ema

ENDMEMBERS = 64
"""Pixels that the decoder mixes, as many as ``hyperldm48`` has spectra."""
CALIBRATION_SAMPLES = 16


class HyperRung:
    """Trains the VQGAN in the first half of the steps and the diffusion in the second.

    Without discriminators: they serve the look of samples, and the ladder measures error.
    """

    def __init__(self, source: PairSource, config: TrainConfig) -> None:
        half, rate = max(config.steps // 2, 1), config.learning_rate
        self._training = HyperTraining(
            autoencoder_steps=half, diffusion_steps=max(config.steps - half, 1), batch=config.batch,
            crop=config.crop, learning_rate=rate, hold=0.3, diffusion_rate=rate, diffusion_hold=0.2,
            warmup=config.warmup, l1=100.0, angle=100.0, codebook=1.0, commitment=0.25, adversarial=0.0,
            quantise_from=half // 4, revive=True, structure=0.0, seed=config.seed,
            augmentation=config.augmentation,
        )  # fmt: skip
        self._model = Trained(config_of(source))
        self._optimiser = optimiser_of(self._model, self._training)
        self._ema = Ema(self._model, decay=DECAY, start=START, part="network")

    @property
    def module(self) -> HyperLdm:
        """The network."""
        return self._model.network

    def step(self, source: PairSource, step: int) -> None:
        """One step of the VQGAN or of the diffusion."""
        training, first = self._training, self._training.autoencoder_steps
        if step == first:
            freeze(self.module, self._ema, source, training)
        take = autoencoder_step if step < first else diffusion_step
        take(self._model, self._optimiser, crops_of(source, training, step), training, step)
        self._ema.update(self._model)

    def error(self, module: nn.Module, rgb: Floats, cube: Floats) -> float:
        """The CRPS."""
        drawn = Diffusion(self._measured(module), {}).samples(rgb, WATCH_SAMPLES, seed=0)
        return reliability(torch.from_numpy(cube), torch.from_numpy(drawn), torch.ones(cube.shape[1:])).crps

    def fitted(
        self, module: nn.Module, steps: int, watched: nn.Module, rgb: Floats, cube: Floats
    ) -> Diffusion:
        """The rung, calibrated by weights that never saw the validation part."""
        assert isinstance(watched, HyperLdm)
        factors = calibrate_bands(watched, whole(rgb, cube), samples=CALIBRATION_SAMPLES, seed=1)
        network = self._measured(module)
        facts = {"kind": KIND, "preset": network.config.to_json()}
        return Diffusion(network, chosen(network, steps), factors, facts)

    def _measured(self, module: nn.Module) -> HyperLdm:
        """The averaged weights with the code's own mean and deviation, which are measured and no average."""
        assert isinstance(module, HyperLdm)
        for name in ("latent_mean", "latent_scale"):
            module.get_buffer(name).copy_(self.module.get_buffer(name))
        return module


def config_of(source: PairSource) -> HyperConfig:
    """``hyperldm48`` for the bands of a scene, with a library of its pixels."""
    count = len(source.cube)
    pixels = pixels_of(source.cube.numpy())
    taken = pixels[choose_endmembers(pixels, min(ENDMEMBERS, len(pixels)))]
    library = tuple(
        Endmember(f"pixel {number}", tuple(map(float, spectrum))) for number, spectrum in enumerate(taken)
    )
    # Wavelengths decide nothing here: the crops' input is given, not simulated through a response.
    bands = Bands.evenly_spaced(1.0, float(count), count)
    return HyperConfig(
        bands, bands.subset([0, 1, 2]), endmembers=len(library), library=library,
        autoencoder=AutoencoderConfig(
            fold=2, widths=(64, 128), blocks=1, norm="channel", attention=False, condition="features",
            spectra="root", discriminators=(8,),
        ),
        denoiser=DenoiserConfig(
            widths=(64, 96), blocks=1, middle=False, attention_levels=(), time_width=128, condition=64,
            condition_widths=(48, 96), condition_time="none", norm="channel", prediction="v",
        ),
        scale=10_000.0, beta_1=0.01, latent_scale="measured", clamp=0.0, sampler="dpm_solver_pp_2m", steps=5,
    )  # fmt: skip
