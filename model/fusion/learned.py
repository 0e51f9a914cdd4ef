"""A trained fusion network, of a checkpoint's folder, as a method for a pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spectile.catalog.bands import Bands
from spectile.catalog.errors import UsageError
from spectile.model import checkpoint
from spectile.model.fusion.pair import PairModel
from spectile.model.hsr_diff.fusion import HsrDiff
from spectile.model.registry import load_network
from spectile.model.sdp.fusion import Sdp, Sensors, fuse

Draw = Callable[[int, int], Tensor]
"""(stage, step) → (1, B, H, W) standard normal, fixed on the scene's grid."""


@dataclass(frozen=True, eq=False)
class Learned:
    """A network and the pair that it fuses."""

    network: HsrDiff | Sdp
    """In evaluation mode, on its device."""
    sensors: Sensors
    """Of the pair, whose MSI is calibrated already."""
    settings: Mapping[str, object]
    """What can change a value, as plain JSON values."""

    @property
    def stride(self) -> int:
        """The network's, in fine pixels."""
        return int(self.network.stride)

    def memory(self, tile: int) -> int:
        """Bytes that the network takes for a tile of ``tile`` pixels, weights included."""
        weights = sum(value.numel() * 4 for value in self.network.state_dict().values())
        return int(weights + self.network.bytes_per_pixel * tile**2)

    def fuse(self, hsi: Tensor, msi: Tensor, draw: Draw) -> Tensor:
        """One fused cube (B, H, W) of an HSI (B, h, w) and a calibrated MSI (C, H, W), reflectance."""
        if isinstance(self.network, Sdp):
            steps = self.network.config.steps
            return fuse(
                hsi[None], msi[None], sensors=self.sensors, prior=self.network, steps=steps,
                draw=lambda step: draw(0, step),
            )[0]  # fmt: skip
        return self.network.sample([msi[None], hsi[None]], draw)[0]


def load_learned(folder: str, pair: PairModel, *, device: str) -> Learned:
    """The network of a checkpoint's folder, for a pair.

    SDP takes the pair's response and PSF; HSR-Diff has learned its own, which should be like them.

    Raises
    ------
    CheckpointError : it is missing or damaged.
    UsageError : it is of another kind, or for other bands or another ratio.
    """
    loaded = checkpoint.load(Path(folder))
    network = load_network(loaded)
    if not isinstance(network, (HsrDiff, Sdp)):
        raise UsageError(
            "the model fuses nothing", got=str(loaded.metadata.get("kind")), expected="hsr-diff or sdp"
        )
    config = network.config
    _check_bands("HSI", config.bands, pair.hsi_bands)
    if isinstance(network, HsrDiff):
        _check_bands("MSI", config.response, pair.msi_bands)
        if config.pair.ratio != pair.ratio:
            raise UsageError("the model is for another ratio", got=config.pair.ratio, expected=pair.ratio)
        if pair.psf_phase is not None:
            raise UsageError(
                "the model learned coarse pixels with their centre in the middle",
                got=f"a centre {pair.psf_phase:g} px from their first pixel",
            )
    network.to(device)

    def tensor(values: object) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=torch.float32, device=device)

    one = np.ones(len(pair.msi_bands))
    sigma = (float(pair.psf_sigma[0]), float(pair.psf_sigma[1]))
    sensors = Sensors(
        tensor(pair.response), tensor(one), tensor(0.0 * one), sigma, pair.psf_size, pair.ratio,
        pair.psf_phase,
    )  # fmt: skip
    settings = {
        "name": str(loaded.metadata["name"]), "model_digest": loaded.digest, "steps": config.steps,
        "estimate": config.estimate(config.steps), **config.settings,
    }  # fmt: skip
    return Learned(network, sensors, settings)


def _check_bands(what: str, known: Bands, given: Bands) -> None:
    """Raise unless each band's centre lies within half the width of the model's."""
    if len(known) == len(given):
        apart = np.abs(np.subtract(known.centre_nm, given.centre_nm))
        if (apart <= 0.5 * np.maximum(known.fwhm_nm, given.fwhm_nm)).all():
            return
    raise UsageError(f"the model is for other bands of the {what}", got=str(known), expected=str(given))
