"""A pair as something that predicts tiles: the one way from a method's name to fused spectra.

It implements ``spectile.pipeline.block.predict.FusingPredictor`` by its shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectile.catalog.bands import Bands
from spectile.catalog.calibration import Calibration
from spectile.catalog.errors import UsageError
from spectile.catalog.inputs import Batch, InputSpec
from spectile.catalog.limits import check_seed
from spectile.model.device import resolve_device
from spectile.model.diffusion.noise import noise
from spectile.model.fusion.consistency import hsi_difference
from spectile.model.fusion.fuser import CLOSED, Fuser
from spectile.model.fusion.learned import Learned, load_learned
from spectile.model.fusion.pair import PairModel, PairWindow
from spectile.model.fusion.window import changed_pixels, prepare
from spectile.model.predict.network import RUNTIME_BYTES
from spectile.model.system import REFLECTANCE_LIMIT

DEFAULT = "fuse"
"""The name of whatever did best on the pair itself."""
PREFIX = "fuse:"
BATCH = 4
FINE, COARSE = 0, 1
"""Stages of the noise: on the fine grid, and on the coarse one."""


class Findings(NamedTuple):
    """What a fusion finds in tiles, beside their spectra."""

    hsi_difference: NDArray[np.float32]
    """(N, h, w) root mean square over bands of HSI − blurred and decimated spectra, reflectance; the same in
    all fine pixels of a coarse one."""
    changed: NDArray[np.bool_]
    """(N, h, w) where the scenes differ, so that the upsampled HSI was taken."""


def method_names() -> tuple[str, ...]:
    """What ``load_fusion`` takes."""
    return (DEFAULT, *(PREFIX + name for name in CLOSED))


def load_fusion(
    method: str,
    pair: PairModel,
    *,
    seed: int = 0,
    batch: int | None = None,
    device: str = "auto",
    samples: int | None = None,
) -> FusionPredictor:
    """The predictor of a method's name.

    Parameters
    ----------
    method : ``fuse`` for the pair's own choice, one of ``method_names``, or the folder of a trained SDP or
        HSR-Diff, each of whose samples is one estimate.
    seed : of the noise of samples, in [0, 2**32).
    batch : tiles a call; changes no value.
    device : ``auto``, ``cpu`` or ``cuda``.
    samples : how many will be drawn; None or 1 gives the posterior mean, which errs less than a sample.

    Raises
    ------
    UsageError : there is no such method, it has no samples, or a setting cannot be used.
    """
    check_seed(seed)
    if batch is not None and batch < 1:
        raise UsageError("batch", got=batch, expected="1 or more")
    if method not in method_names() and Path(method).is_dir():
        where = resolve_device(device)
        return FusionPredictor(
            pair, "cubic", seed=seed, batch=batch or BATCH, device=where, samples=None,
            learned=load_learned(method, pair, device=where),
        )  # fmt: skip
    if method not in method_names():
        raise UsageError("unknown method of fusion", got=method, expected=", ".join(method_names()))
    name = pair.method if method == DEFAULT else method.removeprefix(PREFIX)
    drawn = samples is not None and samples > 1
    if drawn and not CLOSED[name].draws:
        raise UsageError(
            "this method has no samples", got=f"{PREFIX}{name}",
            expected=", ".join(PREFIX + one for one, known in CLOSED.items() if known.draws),
        )  # fmt: skip
    return FusionPredictor(
        pair,
        name,
        seed=seed,
        batch=batch or BATCH,
        device=resolve_device(device),
        samples=samples if drawn else None,
    )


class FusionPredictor:
    """Fuses tiles of a pair; a tile's values depend on its pixels and position alone."""

    def __init__(
        self,
        pair: PairModel,
        name: str,
        *,
        seed: int,
        batch: int,
        device: str,
        samples: int | None,
        learned: Learned | None = None,
    ) -> None:
        """Take a method by its name in ``CLOSED``, or a learned one; ``samples`` is None for the mean."""
        self.pair, self.name, self.batch = pair, name, batch
        self._seed, self._samples, self._learned = seed, samples, learned
        self._fuser = Fuser(pair, device=device)
        seen = pair.gain * (pair.response @ pair.mean) + pair.offset
        self.inputs = (
            InputSpec("msi", pair.msi_bands, tuple(map(float, seen))),
            InputSpec("hsi", pair.hsi_bands, tuple(map(float, pair.mean)), ratio=pair.ratio),
        )
        """The MSI on the cube's grid, and the HSI; masked pixels hold the mean."""

    @property
    def bands(self) -> Bands:
        """Those of the HSI."""
        return self.pair.hsi_bands

    @property
    def stride(self) -> int:
        """One coarse pixel, or what a learned method needs."""
        return self.pair.ratio if self._learned is None else math.lcm(self.pair.ratio, self._learned.stride)

    @property
    def reach(self) -> int | None:
        """The width of the solver's margin, beyond which a pixel adds less than a stored count.

        None for a learned method, which may look at the whole tile.
        """
        if self._learned is not None:
            return None
        return self._fuser.margin * self.pair.ratio

    @property
    def calibration(self) -> Calibration | None:
        """What the samples' spread is worth, by Wald on the pair; None for the mean, or without Wald.

        The mean of K samples errs by √(1 + 1/K) times what one of them spreads.
        """
        if self._samples is None or not self.pair.wald:
            return None
        spread = float(np.sqrt(1.0 + 1.0 / self._samples))
        _, low, high = self.pair.calibration * spread
        return Calibration(
            self._samples, (spread,) * len(self.bands), tuple(low.tolist()), tuple(high.tolist())
        )

    @property
    def response(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(C, B) and (C,): the MSI is response · spectrum + offset."""
        weights = self.pair.gain[:, None] * self.pair.response
        return weights.astype(np.float32), self.pair.offset.astype(np.float32)

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything that can change a value, as plain JSON values."""
        if self._learned is not None:
            return {
                "digest": self.pair.digest, "seed": self._seed, "dtype": "float32",
                "device": self._fuser.device.type, **self._learned.settings,
            }  # fmt: skip
        return {
            "name": f"{PREFIX}{self.name}",
            "digest": self.pair.digest,
            "steps": 0,
            "sampler": "none" if self._samples is None else "conditional draws",
            "estimate": "posterior mean" if self._samples is None else "sample",
            "seed": self._seed,
            "dtype": "float32",
            "device": self._fuser.device.type,
        }

    def predict(self, batch: Batch, samples: range) -> Iterator[NDArray[np.float32]]:
        """Yield one (N, B, h, w) float32 reflectance array in [0, 1.6] for each sample, in order.

        Raises
        ------
        UsageError : the tiles' sides are no multiples of the ratio.
        """
        height, width = batch.rasters["msi"].values.shape[2:]
        if height % self.stride or width % self.stride:
            raise UsageError(
                "the tile is no whole number of coarse pixels", got=f"{height}×{width} px",
                expected=f"multiples of {self.stride}", remedy="choose another --tile",
            )  # fmt: skip
        if self._learned is not None:
            for sample in samples:
                with torch.inference_mode():
                    drawn = [
                        self._draw(self._learned, part, origin, sample)
                        for part, origin in zip(self._parts(batch), batch.origins.tolist(), strict=True)
                    ]
                yield np.stack(drawn)
            return
        if self._samples is None:
            with torch.inference_mode():
                fused = np.stack([self._mean(part) for part in self._parts(batch)])
            for _ in samples:
                yield fused
            return
        for sample in samples:
            with torch.inference_mode():
                out = [
                    self._sample(part, origin, sample)
                    for part, origin in zip(self._parts(batch), batch.origins.tolist(), strict=True)
                ]
            yield np.stack(out)

    def inspect(self, batch: Batch, mean: NDArray[np.float32]) -> Findings:
        """What it finds in tiles, a pure function of each.

        Parameters
        ----------
        mean : (N, B, h, w) mean of the samples of the tiles, reflectance.
        """
        differences, changes = [], []
        for part, spectra in zip(self._parts(batch), mean, strict=True):
            with torch.inference_mode():
                left = hsi_difference(self.pair, part, spectra)
                differences.append(self._repeat(np.where(part.hsi_valid, left, 0.0)))
                changes.append(self._repeat(changed_pixels(self._fuser, part)))
        return Findings(np.stack(differences).astype(np.float32), np.stack(changes).astype(np.bool_))

    def _repeat(self, coarse: NDArray[np.generic]) -> NDArray[np.generic]:
        return coarse.repeat(self.pair.ratio, axis=0).repeat(self.pair.ratio, axis=1)

    def _parts(self, batch: Batch) -> Iterator[PairWindow]:
        hsi, msi = batch.rasters["hsi"], batch.rasters["msi"]
        for values in zip(hsi.values, hsi.valid, msi.values, msi.valid, strict=True):
            yield PairWindow(*values)

    def _finish(self, spectra: Tensor) -> NDArray[np.float32]:
        """Without the margin, in the range that a reflectance can have."""
        edge = self._fuser.margin * self.pair.ratio
        inner = spectra[:, edge:-edge, edge:-edge].clamp(0.0, REFLECTANCE_LIMIT)
        found: NDArray[np.float32] = inner.contiguous().cpu().numpy()
        return found

    def _mean(self, part: PairWindow) -> NDArray[np.float32]:
        window = prepare(self._fuser, part)
        fused = CLOSED[self.name].fuse(self._fuser, window)
        if window.changed.any():
            fused = torch.lerp(fused, self._fuser.upsample(window.hsi), window.changed)
        return self._finish(fused)

    def _sample(self, part: PairWindow, origin: list[int], sample: int) -> NDArray[np.float32]:
        fuser, ratio = self._fuser, self.pair.ratio
        window = prepare(fuser, part)
        sharp = fuser.solve(window, "mixture", spread=True)
        height, width = sharp.mean.shape[1:]
        at = torch.tensor([[one - fuser.margin * ratio for one in origin]])
        white, coarse = (
            noise(
                seed=self._seed, stage=stage, step=0, sample=sample, channels=channels,
                origins=at // step, height=height // step, width=width // step, device=fuser.device,
            )[0]
            for stage, step, channels in ((FINE, 1, 2 * len(sharp.mean)), (COARSE, ratio, len(sharp.mean)))
        )  # fmt: skip
        error = fuser.residual(sharp.scale, white.reshape(-1, 2, height, width), coarse)
        factor = fuser.tensor(self.pair.calibration[0])[:, None, None]
        spectra = fuser.to_spectra(sharp.mean, "mixture")
        if window.changed.any():
            spectra = torch.lerp(spectra, fuser.upsample(window.hsi), window.changed)
        return self._finish(spectra + factor * torch.tensordot(fuser.spectra["mixture"], error, 1))

    def _draw(
        self, learned: Learned, part: PairWindow, origin: list[int], sample: int
    ) -> NDArray[np.float32]:
        """A learned method's sample; it sees the window without the margin, filled and calibrated."""
        window, ratio = prepare(self._fuser, part), self.pair.ratio
        edge = self._fuser.margin
        fine = slice(edge * ratio, -edge * ratio)
        hsi, msi = window.hsi[:, edge:-edge, edge:-edge], window.msi[:, fine, fine]

        def draw(stage: int, step: int) -> Tensor:
            return noise(
                seed=self._seed, stage=stage, step=step, sample=sample, channels=len(hsi),
                origins=torch.tensor([origin]), height=msi.shape[1], width=msi.shape[2],
                device=self._fuser.device,
            )  # fmt: skip

        spectra = learned.fuse(hsi, msi, draw)
        if window.changed.any():
            upsampled = self._fuser.upsample(window.hsi)[:, fine, fine]
            spectra = torch.lerp(spectra, upsampled, window.changed[fine, fine])
        found: NDArray[np.float32] = spectra.clamp(0.0, REFLECTANCE_LIMIT).cpu().numpy()
        return found

    def memory(self, tile: int) -> int:
        """Bytes at the peak of a call of ``batch`` square tiles of ``tile`` pixels."""
        side = tile + 2 * self._fuser.margin * self.pair.ratio
        bands, channels, size = len(self.bands), len(self.pair.msi_bands), self.pair.basis.shape[1]
        # Spectra and the interpolated HSI; coefficients, their transforms (complex) and noise; shares.
        working = side**2 * 4 * (3 * bands + 3 * channels + 14 * size + 2 * len(self.pair.weights))
        learned = 0 if self._learned is None else self._learned.memory(tile)
        return int(RUNTIME_BYTES + learned + working + 2 * self.batch * bands * 4 * tile**2)
