"""A HyperLDM of a few thousand parameters, and a scene that it can learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.model.data.crops import TrainingScene
from spectile.model.hyperldm.preset import (
    AutoencoderConfig,
    DenoiserConfig,
    Endmember,
    HyperConfig,
    HyperTraining,
    hyperldm_paper,
)

TRAINING = HyperTraining(
    autoencoder_steps=4, diffusion_steps=3, batch=2, crop=16, learning_rate=1e-3, warmup=1,
    adversarial_from=1, discriminate_every=2, revive=True, ema_decay=0.5, log_every=1, validate_every=2,
)  # fmt: skip


def spectra(count: int = 5) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """(count, 48) smooth spectra between zero and one, the first one dark."""
    nm = np.linspace(0.0, 1.0, len(VNIR48))
    rows = [0.02 + 0.0 * nm, *(0.5 + 0.45 * np.sin(2.0 + k + (1.0 + k) * nm) for k in range(count - 1))]
    return np.stack(rows).astype(np.float32)


LIBRARY = tuple(Endmember(f"material {i}", tuple(map(float, row))) for i, row in enumerate(spectra()))


def compact() -> HyperConfig:
    """Of local layers alone, as ``hyperldm48``."""
    return HyperConfig(
        VNIR48,
        RGB_CAMERA,
        endmembers=len(LIBRARY),
        library=LIBRARY,
        autoencoder=AutoencoderConfig(
            fold=2, widths=(8, 12), blocks=1, norm="channel", attention=False, latent=4, codes=16,
            condition="features", spectra="root", discriminators=(8, 8),
        ),
        denoiser=DenoiserConfig(
            widths=(8, 12), blocks=1, middle=False, attention_levels=(), time_width=16, condition=6,
            condition_widths=(8, 8), condition_time="none", norm="channel", prediction="v",
        ),
        scale=10_000.0, latent_scale="measured", clamp=0.0, sampler="dpm_solver_pp_2m", steps=4,
    )  # fmt: skip


def narrow_paper() -> HyperConfig:
    """The published preset with few channels and levels."""
    preset = hyperldm_paper()
    return replace(
        preset,
        endmembers=len(LIBRARY),
        library=LIBRARY,
        autoencoder=replace(preset.autoencoder, widths=(8, 8, 8), codes=16, discriminators=(8, 8)),
        denoiser=replace(
            preset.denoiser, widths=(8, 16), attention_levels=(1,), time_width=16, condition=4,
            condition_widths=(4, 4, 4),
        ),
        steps=3,
    )  # fmt: skip


def scene(bands: int = 48, seed: int = 0, size: int = 32) -> TrainingScene:
    """Mixtures of the library, ``size`` pixels a side; with fewer bands, the last ones are missing."""
    rng = np.random.default_rng(seed)
    places = (size // 2, size // 2)
    shares = rng.dirichlet(np.full(len(LIBRARY), 0.4), size=places).repeat(2, 0).repeat(2, 1)
    cube = np.moveaxis(shares @ spectra(), -1, 0)[:bands].astype(np.float32)
    valid = np.ones((size, size), bool)
    return TrainingScene(f"mixtures {bands}", cube, VNIR48.subset(range(bands)), valid)
