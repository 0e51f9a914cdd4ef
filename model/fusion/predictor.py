"""A pair as something that predicts tiles: the one way from a method's name to fused spectra.

It implements ``spectile.pipeline.block.predict.FusingPredictor`` by its shape.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Mapping
from itertools import repeat
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
from spectile.model.fusion.consistency import difference, hsi_difference
from spectile.model.fusion.fuser import CLOSED, Fuser, Sharp, Window
from spectile.model.fusion.learned import Learned, load_learned
from spectile.model.fusion.pair import PairModel, PairWindow
from spectile.model.fusion.window import changed_pixels, prepare
from spectile.model.predict.network import RUNTIME_BYTES
from spectile.model.system import REFLECTANCE_LIMIT

DEFAULT = "fuse"
"""The name of whatever did best on the pair itself."""
PREFIX = "fuse:"
BATCH = 4
TOGETHER = 8
"""Bands that are expanded at once: few enough to stay in the processor's cache."""
FINE, COARSE = 0, 1
"""Stages of the noise: on the fine grid, and on the coarse one."""


class Findings(NamedTuple):
    """What a fusion finds in tiles, beside their spectra."""

    hsi_difference: NDArray[np.float32]
    """(N, h, w) root mean square over bands of HSI − blurred and decimated spectra, reflectance; the same in
    all fine pixels of a coarse one."""
    changed: NDArray[np.bool_]
    """(N, h, w) where the scenes differ, so that the upsampled HSI was taken."""


class _Fused(NamedTuple):
    """What else is known of the means that were predicted last."""

    spectra: weakref.ref[NDArray[np.float32]]
    """They."""
    windows: list[Window]
    """What each was fused of."""
    seen: list[Tensor | None]
    """(B, h, w) of each, what the coarse sensor sees of it, if that is known."""


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
        self._fused: _Fused | None = None
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
        with torch.inference_mode():
            windows = [prepare(self._fuser, part) for part in self._parts(batch)]
            if self._learned is None and self._samples is not None:
                solved = [self._fuser.solve(window, self.name, spread=True) for window in windows]
        for sample in samples:
            spectra = np.empty((len(windows), len(self.bands), height, width), dtype=np.float32)
            seen = []
            with torch.inference_mode():
                for at, (window, origin, out) in enumerate(
                    zip(windows, batch.origins.tolist(), torch.from_numpy(spectra), strict=True)
                ):
                    if self._learned is not None:
                        out.copy_(self._draw(self._learned, window, origin, sample))
                    elif self._samples is not None:
                        self._sample(solved[at], window, origin, sample, out)
                    else:
                        seen.append(self._mean(window, out))
            if self._samples is None and self._learned is None:
                self._fused = _Fused(weakref.ref(spectra), windows, seen)
                yield from repeat(spectra, len(samples))
                return
            yield spectra

    def inspect(self, batch: Batch, mean: NDArray[np.float32]) -> Findings:
        """What it finds in tiles, a pure function of each.

        Parameters
        ----------
        mean : (N, B, h, w) mean of the samples of the tiles, reflectance.
        """
        differences, changes = [], []
        known = self._fused if self._fused is not None and self._fused.spectra() is mean else None
        for at, (part, spectra) in enumerate(zip(self._parts(batch), mean, strict=True)):
            seen = None if known is None else known.seen[at]
            with torch.inference_mode():
                if known is None or seen is None:
                    left, changed = (
                        hsi_difference(self.pair, part, spectra),
                        changed_pixels(self._fuser, part),
                    )
                else:
                    edge = self._fuser.margin
                    left = difference(part, seen.cpu().numpy())
                    changed = known.windows[at].differs[edge:-edge, edge:-edge].cpu().numpy()
            differences.append(self._repeat(np.where(part.hsi_valid, left, 0.0)))
            changes.append(self._repeat(changed))
        return Findings(np.stack(differences).astype(np.float32), np.stack(changes).astype(np.bool_))

    def _repeat(self, coarse: NDArray[np.generic]) -> NDArray[np.generic]:
        return coarse.repeat(self.pair.ratio, axis=0).repeat(self.pair.ratio, axis=1)

    def _parts(self, batch: Batch) -> Iterator[PairWindow]:
        hsi, msi = batch.rasters["hsi"], batch.rasters["msi"]
        for values in zip(hsi.values, hsi.valid, msi.values, msi.valid, strict=True):
            yield PairWindow(*values)

    def _inner(self, fields: Tensor) -> Tensor:
        """Fields (…, H, W) without their margin."""
        edge = self._fuser.margin * self.pair.ratio
        return fields[..., edge:-edge, edge:-edge]

    def _mean(self, window: Window, out: Tensor) -> Tensor | None:
        """Put the mean into ``out`` (B, h, w); as of ``_expand``, or None."""
        method = CLOSED[self.name]
        if method.solves is not None:
            solved = self._fuser.solve(window, method.solves)
            return self._expand(self._fuser.spectra[method.solves], solved.mean, window, out)
        fused = method.fuse(self._fuser, window)
        if window.changed.any():
            fused = torch.lerp(fused, self._fuser.upsample(window.hsi), window.changed)
        out.copy_(self._inner(fused).clamp(0.0, REFLECTANCE_LIMIT))
        return None

    def _sample(self, solved: Sharp, window: Window, origin: list[int], sample: int, out: Tensor) -> None:
        """Put a sample into ``out`` (B, h, w): the mean, and a draw of its error."""
        fuser, ratio = self._fuser, self.pair.ratio
        height, width = solved.mean.shape[1:]
        at = torch.tensor([[one - fuser.margin * ratio for one in origin]])
        white, coarse = (
            noise(
                seed=self._seed, stage=stage, step=0, sample=sample, channels=channels,
                origins=at // step, height=height // step, width=width // step, device=fuser.device,
            )[0]
            for stage, step, channels in (
                (FINE, 1, 2 * len(solved.mean)), (COARSE, ratio, len(solved.mean))
            )
        )  # fmt: skip
        error = fuser.residual(solved.scale, white.reshape(-1, 2, height, width), coarse)
        factor = fuser.tensor(self.pair.calibration[0])[:, None]
        self._expand(fuser.spectra[self.name], solved.mean, window, out, factor, error)

    def _expand(
        self,
        basis: Tensor,
        solved: Tensor,
        window: Window,
        out: Tensor,
        factor: Tensor | None = None,
        error: Tensor | None = None,
    ) -> Tensor:
        """Put the spectra of coefficients into ``out`` (B, h, w), in the range that a reflectance can have.

        All that is linear is one product, a few bands at a time, so that nothing as large as the spectra
        themselves is made and read again. What the coarse sensor sees of them is a product too, but for bands
        that were cut to that range.

        Parameters
        ----------
        basis : (B, p), beside the mean spectrum.
        solved : (p, H, W) with its margin.
        factor, error : (B, 1) and (p, H, W) of what is added of the error.

        Returns
        -------
        (B, h / r, w / r) what the coarse sensor sees of ``out``.
        """
        fuser, shape = self._fuser, out.shape[1:]
        changed = self._inner(window.changed)
        terms = torch.cat([self._inner(solved), torch.ones_like(changed)[None]])
        matrix = torch.cat([basis, fuser.centre[:, :, 0]], dim=1)
        mixed = bool(changed.any())
        if mixed:
            terms = terms * (1.0 - changed)
        if factor is not None and error is not None:
            terms = torch.cat([terms, self._inner(error)])
            matrix = torch.cat([matrix, factor * basis], dim=1)
        coarse, terms, target = fuser.coarsen(terms), terms.flatten(1), out.flatten(1)
        seen = torch.tensordot(matrix, coarse, 1)
        together = TOGETHER if terms.device.type == "cpu" else len(matrix)
        for first in range(0, len(matrix), together):
            bands = slice(first, first + together)
            spectra = torch.mm(
                matrix[bands], terms, out=target[bands] if target.device == terms.device else None
            )
            if mixed:
                upsampled = self._inner(fuser.upsample(window.hsi[bands]))
                spectra.addcmul_(changed.reshape(1, -1), upsampled.flatten(1))
            low, high = spectra.aminmax()
            if mixed or low < 0.0 or high > REFLECTANCE_LIMIT:
                spectra.clamp_(0.0, REFLECTANCE_LIMIT)
                seen[bands] = fuser.coarsen(spectra.reshape(-1, *shape))
            if target.device != terms.device:
                target[bands] = spectra
        return seen

    def _draw(self, learned: Learned, window: Window, origin: list[int], sample: int) -> Tensor:
        """(B, h, w) a learned method's sample; it sees the window without the margin, filled, calibrated."""
        edge = self._fuser.margin
        hsi, msi = window.hsi[:, edge:-edge, edge:-edge], self._inner(window.msi)

        def draw(stage: int, step: int) -> Tensor:
            return noise(
                seed=self._seed, stage=stage, step=step, sample=sample, channels=len(hsi),
                origins=torch.tensor([origin]), height=msi.shape[1], width=msi.shape[2],
                device=self._fuser.device,
            )  # fmt: skip

        spectra = learned.fuse(hsi, msi, draw)
        if window.changed.any():
            upsampled = self._inner(self._fuser.upsample(window.hsi))
            spectra = torch.lerp(spectra, upsampled, self._inner(window.changed))
        return spectra.clamp(0.0, REFLECTANCE_LIMIT)

    def memory(self, tile: int) -> int:
        """Bytes at the peak of a call of ``batch`` square tiles of ``tile`` pixels."""
        side = tile + 2 * self._fuser.margin * self.pair.ratio
        bands, channels, size = len(self.bands), len(self.pair.msi_bands), self.pair.basis.shape[1]
        # Spectra and the interpolated HSI; coefficients, their transforms (complex) and noise; shares.
        working = side**2 * 4 * (3 * bands + 3 * channels + 14 * size + 2 * len(self.pair.weights))
        learned = 0 if self._learned is None else self._learned.memory(tile)
        return int(RUNTIME_BYTES + learned + working + 2 * self.batch * bands * 4 * tile**2)
