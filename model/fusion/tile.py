"""A pair's tiles on their way: made ready, solved, and as samples that are not yet spectra."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from spectile.catalog.inputs import Batch
from spectile.model.diffusion.noise import noise
from spectile.model.fusion.expand import Expansion
from spectile.model.fusion.fuser import CLOSED, Fuser, Sharp, Window
from spectile.model.fusion.learned import Learned
from spectile.model.fusion.pair import PairWindow
from spectile.model.fusion.window import prepare

FINE, COARSE = 0, 1
"""Stages of the noise: on the fine grid, and on the coarse one."""


class Tile(NamedTuple):
    """A tile on its way."""

    part: PairWindow
    """As read."""
    window: Window
    """Made ready."""
    origin: list[int]
    """Row and column of its first pixel on the cube's grid."""
    solved: Sharp | None
    """What samples are drawn about, if they are."""


@dataclass(frozen=True)
class TileFuser:
    """Fuses tiles by one method; each by itself."""

    fuser: Fuser
    """The pair's."""
    name: str
    """Of a method in ``CLOSED``."""
    seed: int
    """Of the noise of samples."""
    draws: bool
    """Whether samples are drawn, or the mean is taken."""
    learned: Learned | None = None
    """A trained network, which is then the method."""

    def tiles(self, batch: Batch) -> Iterator[Tile]:
        """The tiles of a batch, made ready, and solved if samples are drawn about that."""
        for part, origin in zip(parts_of(batch), batch.origins.tolist(), strict=True):
            window = prepare(self.fuser, part)
            solved = self.fuser.solve(window, self.name, spread=True) if self.draws else None
            yield Tile(part, window, origin, solved)

    def _inner(self, fields: Tensor) -> Tensor:
        """Fields (…, H, W) without their margin."""
        edge = self.fuser.margin * self.fuser.pair.ratio
        return fields[..., edge:-edge, edge:-edge]

    def expansion(self, tile: Tile, samples: Sequence[int]) -> Expansion:
        """Samples of a tile, in the range that a reflectance can have; of what has none one, the mean."""
        fuser, window, method = self.fuser, tile.window, CLOSED[self.name]
        if self.learned is not None:
            (sample,) = samples
            return Expansion(fuser, None, self._draw(self.learned, tile, sample))
        if method.solves is None:
            fused = method.fuse(fuser, window)
            if window.changed.any():
                fused = torch.lerp(fused, fuser.upsample(window.hsi), window.changed)
            return Expansion(fuser, None, self._inner(fused))
        solved = tile.solved or fuser.solve(window, method.solves)
        basis, changed = fuser.spectra[method.solves], self._inner(window.changed)
        terms = torch.cat([self._inner(solved.mean), torch.ones_like(changed)[None]])
        matrix = torch.cat([basis, fuser.centre[:, :, 0]], dim=1)
        mixed = changed if changed.any() else None
        if mixed is not None:
            terms = terms * (1.0 - mixed)
        if tile.solved is None:
            return Expansion(fuser, matrix, terms, changed=mixed, hsi=window.hsi)
        errors = [self._inner(self._error(tile.solved, tile.origin, sample)) for sample in samples]
        factor = fuser.tensor(self.fuser.pair.calibration[0])[:, None]
        return Expansion(
            fuser, matrix, terms, error_matrix=factor * basis, errors=errors, changed=mixed, hsi=window.hsi
        )

    def _error(self, solved: Sharp, origin: list[int], sample: int) -> Tensor:
        """(p, H, W) a draw of the error of a tile's coefficients, with its margin."""
        fuser, ratio = self.fuser, self.fuser.pair.ratio
        height, width = solved.mean.shape[1:]
        at = torch.tensor([[one - fuser.margin * ratio for one in origin]])
        white, coarse = (
            noise(
                seed=self.seed, stage=stage, step=0, sample=sample, channels=channels,
                origins=at // step, height=height // step, width=width // step, device=fuser.device,
            )[0]
            for stage, step, channels in (
                (FINE, 1, 2 * len(solved.mean)), (COARSE, ratio, len(solved.mean))
            )
        )  # fmt: skip
        return fuser.residual(solved.scale, white.reshape(-1, 2, height, width), coarse)

    def _draw(self, learned: Learned, tile: Tile, sample: int) -> Tensor:
        """(B, h, w) a learned method's sample; it sees the window without the margin, filled, calibrated."""
        edge, window = self.fuser.margin, tile.window
        hsi, msi = window.hsi[:, edge:-edge, edge:-edge], self._inner(window.msi)

        def draw(stage: int, step: int) -> Tensor:
            return noise(
                seed=self.seed, stage=stage, step=step, sample=sample, channels=len(hsi),
                origins=torch.tensor([tile.origin]), height=msi.shape[1], width=msi.shape[2],
                device=self.fuser.device,
            )  # fmt: skip

        spectra = learned.fuse(hsi, msi, draw)
        if window.changed.any():
            upsampled = self._inner(self.fuser.upsample(window.hsi))
            spectra = torch.lerp(spectra, upsampled, self._inner(window.changed))
        return spectra


def parts_of(batch: Batch) -> Iterator[PairWindow]:
    """The tiles of a batch, as read."""
    hsi, msi = batch.rasters["hsi"], batch.rasters["msi"]
    for values in zip(hsi.values, hsi.valid, msi.values, msi.valid, strict=True):
        yield PairWindow(*values)
