"""A pair as something that predicts tiles: the one way from a method's name to fused spectra.

It implements ``spectile.pipeline.block.predict.FusingPredictor`` by its shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from spectile.catalog.bands import Bands
from spectile.catalog.calibration import Calibration
from spectile.catalog.choices import Layer
from spectile.catalog.counts import Part
from spectile.catalog.errors import UsageError
from spectile.catalog.inputs import Batch, InputSpec
from spectile.catalog.limits import check_seed
from spectile.model.device import resolve_device
from spectile.model.fusion.consistency import difference, hsi_difference
from spectile.model.fusion.fuser import CLOSED, Fuser
from spectile.model.fusion.learned import Learned, load_learned
from spectile.model.fusion.pair import PairModel
from spectile.model.fusion.tile import TileFuser, parts_of
from spectile.model.fusion.window import changed_pixels
from spectile.model.predict.network import RUNTIME_BYTES

DEFAULT = "fuse"
"""The name of whatever did best on the pair itself."""
PREFIX = "fuse:"
BATCH = 1
"""Tiles are fused one by one."""


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
        self._tiles = TileFuser(self._fuser, name, seed, samples is not None, learned)
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
        """Where a pixel adds less than a stored count, as measured: echoes of a correction have died away.

        None for a learned method, which may look at the whole tile.
        """
        if self._learned is not None:
            return None
        return (2 * self._fuser.margin + 1) * self.pair.ratio

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
            tiles = list(self._tiles.tiles(batch))
        for sample in samples:
            spectra = np.empty((len(tiles), len(self.bands), height, width), dtype=np.float32)
            with torch.inference_mode():
                for tile, out in zip(tiles, torch.from_numpy(spectra), strict=True):
                    self._tiles.expansion(tile, [sample]).put(out)
            if self._samples is None and self._learned is None:
                yield from repeat(spectra, len(samples))
                return
            yield spectra

    @property
    def calls(self) -> int:
        """Calls at once: one."""
        return 1

    def count(
        self, batch: Batch, samples: int, layers: Sequence[Layer], cut: tuple[slice, slice]
    ) -> tuple[dict[Part, NDArray[np.uint16]], NDArray[np.bool_]]:
        """As of ``count_fused``, without the findings."""
        counts, finite, _ = self.count_fused(batch, samples, layers, cut)
        return counts, finite

    def count_fused(
        self, batch: Batch, samples: int, layers: Sequence[Layer], cut: tuple[slice, slice]
    ) -> tuple[dict[Part, NDArray[np.uint16]], NDArray[np.bool_], Findings]:
        """Counts of the mean of the samples and of layers, and what is found in tiles; else as ``predict``.

        Spectra are made a few at a time, and no halo of any.

        Parameters
        ----------
        samples : K, the number of samples.
        layers : to take beside the mean, with the calibration.
        cut : rows and columns of each tile that are wanted.

        Returns
        -------
        (N, B, h, w) uint16 of each part, (N,) bool whether a tile's coefficients are finite, and the findings
        in ``cut``.
        """
        made: dict[Part, list[NDArray[np.uint16]]] = {}
        finite, differences, changes = [], [], []
        with torch.inference_mode():
            for tile in self._tiles.tiles(batch):
                expansion = self._tiles.expansion(tile, range(samples))
                for name, counts in expansion.count(layers, self.calibration, cut).items():
                    made.setdefault(name, []).append(counts.cpu().numpy())
                finite.append(expansion.is_finite)
                left = difference(tile.part, expansion.seen().cpu().numpy())
                differences.append(self._repeat(np.where(tile.part.hsi_valid, left, 0.0))[cut])
                edge = self._fuser.margin
                changes.append(self._repeat(tile.window.differs[edge:-edge, edge:-edge].cpu().numpy())[cut])
        counted = {
            name: arrays[0][None] if len(arrays) == 1 else np.stack(arrays) for name, arrays in made.items()
        }
        found = Findings(np.stack(differences).astype(np.float32), np.stack(changes).astype(np.bool_))
        return counted, np.array(finite), found

    def inspect(self, batch: Batch, mean: NDArray[np.float32]) -> Findings:
        """What it finds in tiles, a pure function of each.

        Parameters
        ----------
        mean : (N, B, h, w) mean of the samples of the tiles, reflectance.
        """
        differences, changes = [], []
        for part, spectra in zip(parts_of(batch), mean, strict=True):
            with torch.inference_mode():
                left = hsi_difference(self.pair, part, spectra)
                differences.append(self._repeat(np.where(part.hsi_valid, left, 0.0)))
                changes.append(self._repeat(changed_pixels(self._fuser, part)))
        return Findings(np.stack(differences).astype(np.float32), np.stack(changes).astype(np.bool_))

    def _repeat(self, coarse: NDArray[np.generic]) -> NDArray[np.generic]:
        return coarse.repeat(self.pair.ratio, axis=0).repeat(self.pair.ratio, axis=1)

    def memory(self, tile: int) -> int:
        """Bytes at the peak of a call of ``batch`` square tiles of ``tile`` pixels."""
        side = tile + 2 * self._fuser.margin * self.pair.ratio
        bands, channels, size = len(self.bands), len(self.pair.msi_bands), self.pair.basis.shape[1]
        drawn = self._samples or 0
        # Coefficients, their transforms and filters; of samples noise, its colours and an error each.
        numbers = 3 * channels + 2 * len(self.pair.weights) + (14 + 12 * (drawn > 0) + drawn) * size
        learned = 0 if self._learned is None else self._learned.memory(tile)
        result = 4 * bands * tile**2
        if self._learned is not None or CLOSED[self.name].solves is None:
            numbers += 3 * bands  # spectra, and the interpolated HSI
            result *= 2
        return int(RUNTIME_BYTES + learned + 4 * numbers * side**2 + self.batch * result)
