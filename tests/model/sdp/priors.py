"""A tiny SDP prior and a scene whose spectra it learns."""

from __future__ import annotations

from typing import Any

from spectile.model.data.pairs import PairConfig
from spectile.model.networks.spectral_mlp import SpectralMLPSizes
from spectile.model.sdp.preset import SdpConfig, SdpFusion, SdpTraining
from tests.model.hsr_diff.fusions import BANDS, MSI

TRAINING = SdpTraining(
    iterations=4, batch=16, learning_rate=1e-3, ema_decay=0.5, crop=16, log_every=1, validate_every=1
)
QUICK = SdpFusion(start="upsampled", learning_rate=5e-3)


def tiny_prior(training: SdpTraining = TRAINING, **changes: Any) -> SdpConfig:
    values: dict[str, Any] = {
        "pair": PairConfig(ratio=4, psf_sigma=1.7, snr_db=(30.0, 40.0)),
        "network": SpectralMLPSizes(layers=3, width=16, time_width=8, dropout=0.1),
        "steps": 3, "fusion": QUICK,
    }  # fmt: skip
    return SdpConfig(BANDS, MSI, training=training, **values | changes)
