"""Training scenes as arrays, and the augmented crops that are drawn from them.

Nothing here knows files or geography. Everything random in batch i is a function of (seed, i). So a resumed
training equals one that was never interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom
from torch import Tensor

from spectile.catalog.bands import Bands, resampling_matrix
from spectile.catalog.errors import UsageError

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
    """Of each channel of the input."""
    weight: float = 1.0
    """How often it is drawn, against the others."""


@dataclass(frozen=True)
class Augmentation:
    """How the input is varied in training; a width of zero turns a variation off."""

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
    """Standard deviation of a gain on the input alone, because radiometry is never exact."""
    channel_gain: float = 0.02
    """The same for each channel by itself."""
    sensor_noise: float = 0.006
    """Largest standard deviation of noise on the input, reflectance."""
    masked: float = 0.1
    """Share of crops with a masked rectangle, which holds ``fill``."""
    mixed: float = 0.0
    """Share of crops of which a part shows another scene and does not count: other surroundings."""
    gamma: float = 0.0
    """Standard deviation of ln γ, the input alone being raised to the power γ: tone curves of displays."""
    responses: tuple[CameraResponse, ...] = ()
    """Responses of varied crops, drawn by weight; if empty, only the expected one."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Augmented crops."""

    rgb: Tensor
    """(N, C, h, w) float32, the input: R, G and B, or the channels of another sensor."""
    target: Tensor
    """(N, B, h, w) float32 reflectance in the model's bands, zero where a band is not there."""
    bands: Tensor
    """(N, B) float32, one where the scene has the band."""
    valid: Tensor
    """(N, h, w) float32, one where the pixel counts: real, not masked, and not shown by another crop."""
    weight: Tensor
    """(N,) float32, how much each pixel of a crop counts."""
    scene: Tensor
    """(N,) int64, the number of its scene in the source."""

    def crop(self, n: int) -> Batch:
        """A batch of the n-th crop alone."""
        return Batch(*(getattr(self, entry.name)[n : n + 1] for entry in fields(self)))

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device; pinned, it gets there while the host goes on."""
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))

    def pinned(self) -> Batch:
        """The same in page-locked memory, for a CUDA device."""
        return Batch(*(getattr(self, field.name).pin_memory() for field in fields(self)))

    def rmse(self, estimate: Tensor) -> float:
        """RMSE, reflectance, of an estimate (N, B, h, w) over known values of pixels that count."""
        weight = (self.weight[:, None, None] * self.valid)[:, None] * self.bands[:, :, None, None]
        return math.sqrt(float(((estimate - self.target).square() * weight).sum() / weight.sum()))


class CropSource:
    """Draws batches of crops from scenes, in the model's bands.

    Parameters
    ----------
    scenes : where crops come from.
    bands, response : of the model, and of its input.
    fill : (C,) what a masked pixel of the input holds; zero where the model's is not known yet.
    """

    def __init__(
        self, scenes: Sequence[TrainingScene], bands: Bands, response: Bands, fill: Floats | None = None
    ) -> None:
        if not scenes:
            raise UsageError("no scenes to train on")
        self.fill = np.zeros(len(response), dtype=np.float32) if fill is None else fill
        self.scenes = tuple(scenes)
        self.bands = bands
        self.response = response
        weight = np.array([scene.weight for scene in scenes], dtype=np.float64)
        self._share = weight / weight.sum()
        self._plans = [resampling_matrix(scene.bands, bands) for scene in scenes]
        self._known: dict[int, NDArray[np.floating]] = {}
        for scene, (_, supported) in zip(scenes, self._plans, strict=True):
            if not supported.any():
                raise UsageError("the scene has none of the model's bands", where=scene.name)
            if not resampling_matrix(scene.bands, response)[1].all():
                raise UsageError("the scene's bands do not cover the camera's channels", where=scene.name)

    @property
    def complete(self) -> list[bool]:
        """Which scenes have every band."""
        return [bool(supported.all()) for _, supported in self._plans]

    def groups(self) -> dict[str, list[int]]:
        """The numbers of its scenes by place, or by what the name begins with of scenes that show none."""
        groups: dict[str, list[int]] = {}
        for number, scene in enumerate(self.scenes):
            groups.setdefault(scene.site or scene.name.partition("/")[0], []).append(number)
        return groups

    def of_scenes(self, numbers: Sequence[int]) -> CropSource:
        """The same of some of its scenes."""
        scenes = [self.scenes[number] for number in numbers]
        return CropSource(scenes, self.bands, self.response, self.fill)

    def batch(
        self,
        key: tuple[int, ...],
        *,
        count: int,
        size: int,
        augmentation: Augmentation | None,
    ) -> Batch:
        """The batch of random key ``key``, of scenes drawn by their weight.

        Parameters
        ----------
        key : seeds everything random.
        count, size : number of crops and their side in pixels; smaller scenes are reflected outward, as the
            edges of a scene are in a run, and what is reflected does not count.
        augmentation : None gives crops through the nominal response with nothing varied.
        """
        rng = np.random.default_rng(key)
        chosen = rng.choice(len(self.scenes), size=count, p=self._share)
        shown = [self._drawn(index, size, augmentation, rng) for index in chosen]
        if augmentation is not None and augmentation.mixed:
            for seen in shown:
                if rng.random() < augmentation.mixed:
                    other = rng.choice(len(self.scenes), p=self._share)
                    seen.surround(self._drawn(other, size, augmentation, rng), rng)
        return _stacked(shown, np.ones(count, dtype=np.float32), chosen)

    def _drawn(
        self, index: int, size: int, augmentation: Augmentation | None, rng: np.random.Generator
    ) -> _Seen:
        at = _somewhere(self.scenes[index], size, rng, turn=augmentation is not None)
        return self._seen(index, at, augmentation, rng)

    def every_pixel(self, key: tuple[int, ...], *, size: int, crops: int | None = None) -> Batch:
        """Crops of every scene through the nominal response, in which no pixel counts twice.

        Scenes are cut into windows of at most ``size`` pixels a side. A crop shows a window with what lies
        around it, and counts the window alone. All scenes have the same weight, however many pixels of them
        count.

        Parameters
        ----------
        key : seeds the choice of windows.
        size : side of the crops, pixels.
        crops : at most so many windows a scene; None is all of them.
        """
        rng = np.random.default_rng(key)
        shown, counted, shows = [], [], []
        for index, scene in enumerate(self.scenes):
            windows = _windows(scene, size)
            if crops is not None and len(windows) > crops:
                windows = [windows[i] for i in sorted(rng.permutation(len(windows))[:crops])]
            of_scene = []
            for window in windows:
                at = _around(scene, window, size)
                seen = self._seen(index, at, None, rng)
                of_scene.append(seen._replace(valid=seen.valid * _inside(at, window)))
            shown += of_scene
            counted += [sum(int(crop.valid.sum()) for crop in of_scene)] * len(of_scene)
            shows += [index] * len(of_scene)
        pixels = np.array(counted, dtype=np.float32)
        # One on average over the pixels.
        mean = sum(int(crop.valid.sum()) for crop in shown) / len(self.scenes)
        return _stacked(shown, mean / pixels, np.array(shows))

    def _projected(self, index: int) -> NDArray[np.floating]:
        """(B + C, H, W) a scene in the model's bands and as the expected response sees it, in its own type.

        Made once: a crop that only varies in brightness is a crop of this, at a fraction of the cost.
        """
        if index not in self._known:
            scene, (matrix, _) = self.scenes[index], self._plans[index]
            both = np.concatenate([matrix, resampling_matrix(scene.bands, self.response)[0]])
            cube = np.where(scene.valid, scene.cube, 0.0).astype(np.float32)
            self._known[index] = np.tensordot(both.astype(np.float32), cube, 1).astype(scene.cube.dtype)
        return self._known[index]

    def _seen(
        self, index: int, at: _Square, augmentation: Augmentation | None, rng: np.random.Generator
    ) -> _Seen:
        """A crop of a scene as the model gets it."""
        scene, (_, supported) = self.scenes[index], self._plans[index]
        shown, valid = at.cut(scene.valid), at.cut(scene.valid, mode="constant")
        known = at.cut(self._projected(index)).astype(np.float32)
        gain = np.ones(shown.shape, np.float32)
        if augmentation is not None:
            gain = _illumination(augmentation, at.size, rng)
            known *= gain
        count = len(self.bands)
        target, rgb = known[:count], known[count:]
        if augmentation is not None:
            rgb = self._camera(scene, rgb, at, gain * shown, augmentation, rng)
            if rng.random() < augmentation.masked:
                rows, cols = (np.sort(rng.integers(0, at.size + 1, 2)) for _ in range(2))
                shown[rows[0] : rows[1], cols[0] : cols[1]] = False
        rgb[:, ~shown] = self.fill[:, None]
        return _Seen(rgb, target, supported.astype(np.float32), (valid & shown).astype(np.float32))

    def pixels(
        self, seed: int, augmentation: Augmentation | None, *, crop: int, crops: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Valid pixels for closed-form fits: input (P, C), reflectance (P, B), and (P, B) the bands it has.

        Each crop gives as many, whatever the size of its scene, where it has so many. ``crops`` are drawn, or
        ``FIT_CROPS``.
        """
        rng = np.random.default_rng((seed, 3))
        rgb, target, bands = [], [], []
        for i in range((FIT_CROPS if crops is None else crops) // 10):
            batch = self.batch((seed, 0, i), count=10, size=crop, augmentation=augmentation)
            for n, inside in enumerate(batch.valid.flatten(1)):
                at = torch.nonzero(inside)[:, 0]
                at = at[torch.from_numpy(rng.permutation(len(at))[:FIT_PIXELS])]
                rgb.append(batch.rgb[n].flatten(1).T[at])
                target.append(batch.target[n].flatten(1).T[at])
                bands.append(batch.bands[n].expand(len(at), -1))
        return torch.cat(rgb), torch.cat(target), torch.cat(bands)

    def _camera(
        self,
        scene: TrainingScene,
        expected: Floats,
        at: _Square,
        gain: Floats,
        augmentation: Augmentation,
        rng: np.random.Generator,
    ) -> Floats:
        """(C, h, w) what a varied camera sees of a square whose pixels are multiplied by ``gain`` (h, w).

        ``expected`` is what the expected response sees of it.
        """
        rgb, gamma = expected, 1.0
        if rng.random() >= augmentation.nominal:
            channels, response = len(self.response), self.response
            if augmentation.responses:
                weight = np.array([response.weight for response in augmentation.responses])
                drawn = rng.choice(len(weight), p=weight / weight.sum())
                response = augmentation.responses[drawn].bands
            shift = rng.uniform(-1, 1, channels) * augmentation.centre_nm
            varied = response.varied(shift, rng.uniform(*augmentation.width_factor, channels))
            matrix, seen = resampling_matrix(scene.bands, varied)
            if not seen.all():  # moved beyond the scene's bands
                matrix, _ = resampling_matrix(scene.bands, response)
            scale = np.exp(
                rng.normal(0, augmentation.input_gain) + rng.normal(0, augmentation.channel_gain, channels)
            )
            if augmentation.gamma > 0:
                gamma = np.exp(rng.normal(0, augmentation.gamma))
            # A masked pixel's value must be finite, because NaN times a weight of zero is NaN.
            cube = np.where(gain > 0, at.cut(scene.cube), 0.0).astype(np.float32) * gain
            rgb = np.tensordot((matrix * scale[:, None]).astype(np.float32), cube, 1)
        if gamma != 1.0:
            rgb = np.maximum(rgb, 0.0) ** np.float32(gamma)
        sd = augmentation.sensor_noise * rng.random() ** 2
        noisy = rgb + sd * rng.standard_normal(rgb.shape, dtype=np.float32)
        return np.maximum(noisy, 0.0).astype(np.float32)


class _Square(NamedTuple):
    """A square of a scene, reflected outward where the scene is smaller."""

    row: int
    """Of its upper left corner …"""
    col: int
    """… and the column."""
    size: int
    """Its side."""
    turns: int = 0
    """Quarter turns."""
    flip: bool = False
    """Whether it is mirrored, after that."""

    def cut(self, image: NDArray[Any], mode: Literal["symmetric", "constant"] = "symmetric") -> NDArray[Any]:
        """The square of an image (…, H, W); beyond it are reflections, or zeros."""
        inside = image[..., self.row : self.row + self.size, self.col : self.col + self.size]
        missing = [(0, self.size - extent) for extent in inside.shape[-2:]]
        around = [(0, 0)] * (image.ndim - 2)
        square = np.rot90(np.pad(inside, [*around, *missing], mode=mode), self.turns, (-2, -1))
        return np.ascontiguousarray(square[..., ::-1] if self.flip else square)


class _Seen(NamedTuple):
    """What a batch holds of one crop."""

    rgb: Floats
    target: Floats
    bands: Floats
    valid: Floats

    def surround(self, other: _Seen, rng: np.random.Generator) -> None:
        """Show another crop on one side of a straight line through the middle third; it does not count."""
        size = len(self.valid)
        angle, middle = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(-size / 6.0, size / 6.0)
        at = np.arange(size) - (size - 1) / 2.0
        beyond = at[:, None] * np.sin(angle) + at[None, :] * np.cos(angle) > middle
        self.rgb[:, beyond] = other.rgb[:, beyond]
        self.valid[beyond] = 0.0


def _stacked(shown: Sequence[_Seen], weight: Floats, scene: NDArray[np.integer]) -> Batch:
    rgb, target, bands, valid = (torch.from_numpy(np.stack(part)) for part in zip(*shown, strict=True))
    return Batch(
        rgb, target, bands, valid, torch.from_numpy(weight), torch.from_numpy(scene.astype(np.int64))
    )


def _somewhere(scene: TrainingScene, size: int, rng: np.random.Generator, *, turn: bool) -> _Square:
    """A random square; with ``turn``, flipped and rotated."""
    row, col = (int(rng.integers(0, max(extent - size, 0) + 1)) for extent in scene.valid.shape)
    if not turn:
        return _Square(row, col, size)
    return _Square(row, col, size, int(rng.integers(4)), bool(rng.integers(2)))


def _windows(scene: TrainingScene, size: int) -> list[tuple[slice, slice]]:
    """Windows of at most ``size`` pixels a side, about alike, that cut the scene up; no empty ones."""
    axes = []
    for extent in scene.valid.shape:
        parts = -(-extent // size)
        edges = [extent * part // parts for part in range(parts + 1)]
        axes.append([slice(*pair) for pair in pairwise(edges)])
    return [(rows, cols) for rows in axes[0] for cols in axes[1] if scene.valid[rows, cols].any()]


def _around(scene: TrainingScene, window: tuple[slice, slice], size: int) -> _Square:
    """The square with a window in its middle, as far as the scene reaches."""
    row, col = (
        min(max((part.start + part.stop - size) // 2, 0), max(extent - size, 0))
        for part, extent in zip(window, scene.valid.shape, strict=True)
    )
    return _Square(row, col, size)


def _inside(at: _Square, window: tuple[slice, slice]) -> Floats:
    """(size, size) one where a square shows a window."""
    inside = np.zeros((at.size, at.size), dtype=np.float32)
    rows, cols = window
    inside[rows.start - at.row : rows.stop - at.row, cols.start - at.col : cols.stop - at.col] = 1.0
    return inside


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
