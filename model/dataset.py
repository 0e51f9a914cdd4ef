"""Training scenes as arrays, and the augmented crops that are drawn from them.

Nothing here knows files or geography. Whatever is random in batch i is a function of (seed, i), which is
what makes a resumed training run exactly the one that was never interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom
from torch import Tensor

from catalog.bands import Bands, resampling_matrix
from catalog.errors import UsageError

Floats = NDArray[np.float32]

FIT_CROPS = 1500
"""Crops that closed-form fits take pixels from …"""
FIT_PIXELS = 200
"""… and how many of each."""


@dataclass(frozen=True, eq=False)
class TrainingScene:
    """A hyperspectral scene in its own bands."""

    name: str
    """What it is called in logs and errors."""
    cube: NDArray[np.floating]
    """(S, H, W) reflectance; float16 is precise enough and half the memory."""
    bands: Bands
    """Its S bands, good ones only."""
    valid: NDArray[np.bool_]
    """(H, W), False where the pixel must not be learned from."""
    weight: float = 1.0
    """How often it is drawn, against the others."""
    site: str = ""
    """The place that it shows; empty where it shows none, as simulated scenes and libraries do."""

    def __post_init__(self) -> None:
        bands, *size = self.cube.shape
        if bands != len(self.bands) or tuple(size) != self.valid.shape:
            raise UsageError(
                "cube, bands and mask do not match",
                where=self.name,
                got=f"{self.cube.shape}, {len(self.bands)} bands, mask {self.valid.shape}",
            )
        if not self.valid.any():
            raise UsageError("no valid pixel to learn from", where=self.name)
        if not np.isfinite(self.cube[:, self.valid]).all():
            raise UsageError(
                "valid pixels hold NaN or infinity", where=self.name, remedy="mask them, or drop the bands"
            )


@dataclass(frozen=True)
class CameraResponse:
    """A response that the input may have."""

    bands: Bands
    """Of R, G and B."""
    weight: float = 1.0
    """How often it is drawn, against the others."""


@dataclass(frozen=True)
class Augmentation:
    """How the input is varied in training; every width of zero turns its part off."""

    nominal: float = 0.6
    """Share of crops through exactly the expected response and gain; the rest is varied as below."""
    centre_nm: float = 12.0
    """The centre of each channel's response moves by up to this."""
    width_factor: tuple[float, float] = (0.8, 1.3)
    """The width of each channel's response is multiplied by a factor in this range."""
    illumination: tuple[float, float] = (0.7, 1.3)
    """The whole scene, truth and input, is multiplied by a factor in this range."""
    texture: float = 0.15
    """Largest deviation of a shading texture (lognormal), on truth and input alike."""
    input_gain: float = 0.03
    """Standard deviation of a gain on the input alone: radiometry is never quite right."""
    channel_gain: float = 0.02
    """The same for each channel by itself."""
    sensor_noise: float = 0.006
    """Largest standard deviation of noise on the input, reflectance."""
    masked: float = 0.1
    """Share of crops with a masked rectangle, which holds ``fill``."""
    gamma: float = 0.0
    """Standard deviation of ln γ, the input alone being raised to the power γ: tone curves of displays."""
    responses: tuple[CameraResponse, ...] = ()
    """What a varied crop draws its response from, by weight; none is the expected one alone."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Augmented crops."""

    rgb: Tensor
    """(N, 3, h, w) float32, the input."""
    target: Tensor
    """(N, B, h, w) float32 reflectance in the model's bands, zero where a band is not there."""
    bands: Tensor
    """(N, B) float32, one where the scene has the band."""
    valid: Tensor
    """(N, h, w) float32, one where the pixel counts."""

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))

    def rmse(self, estimate: Tensor) -> float:
        """RMSE, reflectance, of an estimate (N, B, h, w) over what is known and counts."""
        weight = self.valid[:, None] * self.bands[:, :, None, None]
        return math.sqrt(float(((estimate - self.target).square() * weight).sum() / weight.sum()))


class CropSource:
    """Draws batches of crops from scenes, in the model's bands."""

    def __init__(self, scenes: Sequence[TrainingScene], bands: Bands, response: Bands) -> None:
        if not scenes:
            raise UsageError("no scenes to train on")
        self.scenes = tuple(scenes)
        self.bands = bands
        self.response = response
        weight = np.array([scene.weight for scene in scenes], dtype=np.float64)
        self._share = weight / weight.sum()
        self._plans = [resampling_matrix(scene.bands, bands) for scene in scenes]
        for scene, (_, supported) in zip(scenes, self._plans, strict=True):
            if not supported.any():
                raise UsageError("the scene has none of the model's bands", where=scene.name)
            if not resampling_matrix(scene.bands, response)[1].all():
                raise UsageError("the scene's bands do not cover the camera's channels", where=scene.name)

    @property
    def complete(self) -> list[bool]:
        """Which scenes have every band."""
        return [bool(supported.all()) for _, supported in self._plans]

    def batch(
        self,
        key: tuple[int, ...],
        *,
        count: int,
        size: int,
        augmentation: Augmentation | None,
        fill: Floats | None = None,
        scenes: Sequence[int] | None = None,
    ) -> Batch:
        """The batch of random key ``key``.

        Parameters
        ----------
        key : seeds everything random.
        count, size : number of crops and their side in pixels; smaller scenes are reflected outward.
        augmentation : None gives crops through the nominal response with nothing varied.
        fill : (3,) what a masked pixel holds; zero where it is not known yet.
        scenes : the scene of each crop; None draws them by weight.
        """
        rng = np.random.default_rng(key)
        rgb = np.empty((count, 3, size, size), dtype=np.float32)
        target = np.zeros((count, len(self.bands), size, size), dtype=np.float32)
        bands = np.zeros((count, len(self.bands)), dtype=np.float32)
        valid = np.zeros((count, size, size), dtype=np.float32)
        chosen = rng.choice(len(self.scenes), size=count, p=self._share) if scenes is None else scenes
        for n, index in enumerate(chosen):
            scene, (matrix, supported) = self.scenes[index], self._plans[index]
            cube, inside = _crop(scene, size, rng, turn=augmentation is not None)
            if augmentation is not None:
                cube = cube * _illumination(augmentation, size, rng)
            target[n] = np.tensordot(matrix.astype(np.float32), cube, 1)
            rgb[n] = self._camera(scene, cube, augmentation, rng)
            if augmentation is not None and rng.random() < augmentation.masked:
                rows, cols = (np.sort(rng.integers(0, size + 1, 2)) for _ in range(2))
                inside[rows[0] : rows[1], cols[0] : cols[1]] = False
            rgb[n][:, ~inside] = 0.0 if fill is None else fill[:, None]
            bands[n], valid[n] = supported, inside
        return Batch(*(torch.from_numpy(x) for x in (rgb, target, bands, valid)))

    def pixels(
        self, seed: int, augmentation: Augmentation | None, *, crop: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Valid pixels for closed-form fits: RGB (P, 3), reflectance (P, B), and (P, B) the bands it has."""
        rng = np.random.default_rng((seed, 3))
        rgb, target, bands = [], [], []
        for i in range(FIT_CROPS // 10):
            batch = self.batch((seed, 0, i), count=10, size=crop, augmentation=augmentation)
            at = torch.nonzero(batch.valid.flatten())[:, 0]
            at = at[torch.from_numpy(rng.permutation(len(at))[: 10 * FIT_PIXELS])]
            rgb.append(batch.rgb.movedim(1, -1).flatten(0, 2)[at])
            target.append(batch.target.movedim(1, -1).flatten(0, 2)[at])
            bands.append(batch.bands[at // batch.valid[0].numel()])
        return torch.cat(rgb), torch.cat(target), torch.cat(bands)

    def _camera(
        self, scene: TrainingScene, cube: Floats, augmentation: Augmentation | None, rng: np.random.Generator
    ) -> Floats:
        """(3, h, w) what the camera sees of the cube."""
        if augmentation is None:
            return np.tensordot(resampling_matrix(scene.bands, self.response)[0], cube, 1).astype(np.float32)
        matrix, _ = resampling_matrix(scene.bands, self.response)
        gain, gamma = np.ones(3), 1.0
        if rng.random() >= augmentation.nominal:
            response = self.response
            if augmentation.responses:
                weight = np.array([each.weight for each in augmentation.responses])
                drawn = rng.choice(len(weight), p=weight / weight.sum())
                response = augmentation.responses[drawn].bands
            shift = rng.uniform(-1, 1, 3) * augmentation.centre_nm
            varied = response.varied(shift, rng.uniform(*augmentation.width_factor, 3))
            matrix, seen = resampling_matrix(scene.bands, varied)
            if not seen.all():  # moved beyond the scene's bands
                matrix, _ = resampling_matrix(scene.bands, response)
            gain = np.exp(
                rng.normal(0, augmentation.input_gain) + rng.normal(0, augmentation.channel_gain, 3)
            )
            if augmentation.gamma > 0:
                gamma = np.exp(rng.normal(0, augmentation.gamma))
        rgb = np.tensordot((matrix * gain[:, None]).astype(np.float32), cube, 1)
        if gamma != 1.0:
            rgb = np.maximum(rgb, 0.0) ** np.float32(gamma)
        sd = augmentation.sensor_noise * rng.random() ** 2
        noisy = rgb + sd * rng.standard_normal(rgb.shape, dtype=np.float32)
        return np.maximum(noisy, 0.0).astype(np.float32)


def _crop(
    scene: TrainingScene, size: int, rng: np.random.Generator, *, turn: bool
) -> tuple[Floats, NDArray[np.bool_]]:
    """A random window, (S, size, size) float32 and its mask; with ``turn``, flipped and rotated."""
    height, width = scene.valid.shape
    row, col = (int(rng.integers(0, max(extent - size, 0) + 1)) for extent in (height, width))
    window = slice(row, row + size), slice(col, col + size)
    cube = scene.cube[(slice(None), *window)].astype(np.float32)
    valid = scene.valid[window]
    missing = [(0, size - extent) for extent in valid.shape]
    cube = np.pad(cube, [(0, 0), *missing], mode="symmetric")
    valid = np.pad(valid, missing, mode="symmetric")
    # A masked pixel's value must be finite, or a weight of zero could not silence it.
    cube[:, ~valid] = 0.0
    if turn:
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        cube, valid = np.rot90(cube, turns, (1, 2)), np.rot90(valid, turns)
        if flip:
            cube, valid = cube[:, :, ::-1], valid[:, ::-1]
    return np.ascontiguousarray(cube), valid.copy()


def _illumination(augmentation: Augmentation, size: int, rng: np.random.Generator) -> Floats:
    """(size, size) a gain common to all bands: one factor, with a texture of two grain sizes on it."""
    low, high = np.log(augmentation.illumination)
    shading = np.full((size, size), rng.uniform(low, high))
    sd = augmentation.texture * rng.random()
    shading += sd * 0.7 * rng.standard_normal((size, size))
    grain = rng.standard_normal((-(-size // 8) + 1,) * 2)
    shading += sd * 0.7 * zoom(grain, 8, order=1)[:size, :size]
    gain: Floats = np.exp(shading).astype(np.float32)
    return gain
