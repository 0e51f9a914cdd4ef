"""How the ladder's networks are trained: the same crops, averaging and choice of length for all.

Each is trained on training pixels for several lengths; the length that did best on validation pixels is
that of the run, from the same seed, on both parts together.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from spectile.catalog.bands import Bands
from spectile.catalog.calibration import Calibration
from spectile.model import checkpoint
from spectile.model.closed.regressions import Floats
from spectile.model.data.crops import Augmentation, Batch, CropSource, TrainingScene
from spectile.model.measure.ladder import Fitted, join
from spectile.model.system import Network
from spectile.model.training.ema import Ema

CROP = 32
BATCH = 8
WATCH_SAMPLES = 8
"""Samples on validation, for models that draw samples."""
DECAY = 0.98
"""Of the averaged weights, …"""
START = 20
"""… and their first step."""
STILL = Augmentation(
    nominal=1.0, illumination=(1.0, 1.0), texture=0.0, input_gain=0.0, channel_gain=0.0,
    sensor_noise=0.0, masked=0.0,
)  # fmt: skip
"""Nothing is varied but the crops' orientation: input and truth are counts of one sensor."""


class PairSource(CropSource):
    """Crops of one image whose input is given rather than simulated from its bands."""

    def __init__(self, rgb: Floats, cube: Floats) -> None:
        self.rgb = torch.from_numpy(np.ascontiguousarray(rgb))
        self.cube = torch.from_numpy(np.ascontiguousarray(cube))
        valid = np.ones(cube.shape[1:], dtype=bool)
        # Wavelengths decide nothing here: the input is given, not simulated through a response.
        bands = Bands.evenly_spaced(1.0, float(len(cube)), len(cube))
        self.scenes = (TrainingScene("image", cube, bands, valid),)

    @property
    def complete(self) -> list[bool]:
        """The one image has every band."""
        return [True]

    def groups(self) -> dict[str, list[int]]:
        """The one image."""
        return {"image": [0]}

    def of_scenes(self, numbers: Sequence[int]) -> PairSource:
        """Itself."""
        del numbers
        return self

    def batch(
        self, key: tuple[int, ...], *, count: int, size: int, augmentation: Augmentation | None, **_: object
    ) -> Batch:
        """Crops of random key ``key``, turned and flipped unless ``augmentation`` is None."""
        rng = np.random.default_rng(key)
        height, width = self.rgb.shape[1:]
        size = min(size, height, width)
        rgb: list[Tensor] = []
        cube: list[Tensor] = []
        for _crop in range(count):
            # Around a random pixel, so that the image's edges are seen as often as its middle.
            row, col = (
                int(np.clip(rng.integers(extent) - size // 2, 0, extent - size)) for extent in (height, width)
            )
            turns, flip = int(rng.integers(4)), bool(rng.integers(2))
            for image, crops in ((self.rgb, rgb), (self.cube, cube)):
                crop = image[:, row : row + size, col : col + size]
                if augmentation is not None:
                    crop = crop.rot90(turns, (1, 2))
                    crop = crop.flip(2) if flip else crop
                crops.append(crop)
        target = torch.stack(cube)
        return Batch(
            torch.stack(rgb),
            target,
            torch.ones(target.shape[:2]),
            torch.ones(count, size, size),
            torch.ones(count),
            torch.zeros(count, dtype=torch.int64),
        )

    def pixels(
        self, seed: int, augmentation: Augmentation | None, *, crop: int, crops: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Every pixel once: crops show those near the image's edges half as often."""
        del seed, augmentation, crop, crops
        rgb, target = self.rgb.flatten(1).T, self.cube.flatten(1).T
        return rgb, target, torch.ones_like(target)


class Estimator(Protocol):
    """A network in training: what can be trained, measured and used."""

    @property
    def module(self) -> nn.Module:
        """Its weights."""
        ...

    def step(self, source: PairSource, step: int) -> None:
        """One optimiser step."""
        ...

    def error(self, module: nn.Module, rgb: Floats, cube: Floats) -> float:
        """What the length of training is chosen by; lower is better. May calibrate the module in place."""
        ...

    def fitted(self, module: nn.Module, steps: int, watched: nn.Module, rgb: Floats, cube: Floats) -> Fitted:
        """The rung with the given (averaged) weights after so many steps.

        ``watched`` are the weights of as many steps that never saw the validation part (rgb, cube).
        """
        ...


def fit_length(
    train_rgb: Floats,
    train_cube: Floats,
    val_rgb: Floats,
    val_cube: Floats,
    *,
    seed: int,
    lengths: Sequence[int],
    build: Callable[[PairSource, int, int], Estimator],
) -> Fitted:
    """Choose one of the lengths of training on validation, then train for as long on everything.

    Each length is a run of its own with its own schedule of the learning rate: a long run that is cut short
    has not converged. ``build`` takes what to train on, a seed and a number of steps.
    """

    def run(source: PairSource, length: int) -> tuple[Estimator, nn.Module]:
        torch.manual_seed(seed)
        estimator = build(source, seed, length)
        ema = Ema(estimator.module, decay=DECAY, start=START)
        for step in range(length):
            estimator.step(source, step)
            ema.update(estimator.module)
        return estimator, averaged(estimator, ema)

    training = PairSource(train_rgb, train_cube)
    tries: dict[int, tuple[float, nn.Module]] = {}
    for length in sorted(set(lengths)):
        estimator, module = run(training, length)
        tries[length] = estimator.error(module, val_rgb, val_cube), module
    best = min(tries, key=lambda length: tries[length][0])
    everything = PairSource(join(train_rgb, val_rgb), join(train_cube, val_cube))
    estimator, module = run(everything, best)
    return estimator.fitted(module, best, tries[best][1], val_rgb, val_cube)


def averaged(estimator: Estimator, ema: Ema) -> nn.Module:
    """A copy of the network with its averaged weights."""
    module = copy.deepcopy(estimator.module)
    module.load_state_dict(ema.state()[0])
    return module.eval()


def whole(rgb: Floats, cube: Floats) -> Batch:
    """An image as a batch of one, reflected to the compact network's stride; the rest does not count."""
    padded, height, width = padded_image(rgb)
    target = torch.zeros((1, len(cube), *padded.shape[2:]))
    target[0, :, :height, :width] = torch.from_numpy(cube)
    valid = torch.zeros((1, *padded.shape[2:]))
    valid[0, :height, :width] = 1.0
    return Batch(
        padded, target, torch.ones(1, len(cube)), valid, torch.ones(1), torch.zeros(1, dtype=torch.int64)
    )


def padded_image(rgb: Floats) -> tuple[Tensor, int, int]:
    """(1, 3, h, w) reflected at the lower right to multiples of the compact network's stride."""
    height, width = rgb.shape[1:]
    missing = [(0, 0), (0, -height % 8), (0, -width % 8)]
    padded = np.pad(rgb, missing, mode="symmetric")
    return torch.from_numpy(padded)[None], height, width


@dataclass(frozen=True, eq=False)
class Diffusion:
    """A trained network that draws samples; its single estimate is that of one solver step a stage.

    Of the cascade that is the posterior mean, of a diffused code the decoded mean of the code.
    """

    model: Network
    """RGB → all bands."""
    chosen: dict[str, object]
    """The length of training."""
    calibration: Calibration | None = None
    """Per band, from the validation part."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What it is, for a checkpoint."""

    def predict(self, rgb: Floats) -> Floats:
        """(B, h, w) float32."""
        return self.draw(rgb, torch.Generator().manual_seed(0), steps=1)

    def save(self, folder: Path) -> None:
        """Write the network as a checkpoint; what it expects are the counts of one scene, not reflectance."""
        checkpoint.save(
            folder,
            self.model.state_dict(),
            {
                "name": folder.name,
                **self.facts,
                "chosen": self.chosen,
                "calibration": None if self.calibration is None else self.calibration.to_json(),
            },
        )

    def samples(self, rgb: Floats, count: int, *, seed: int) -> Floats:
        """(count, B, h, w) float32 samples at the default steps."""
        generator = torch.Generator().manual_seed(seed)
        return np.stack([self.draw(rgb, generator, number=number) for number in range(count)])

    def draw(
        self, rgb: Floats, generator: torch.Generator, *, steps: int | None = None, number: int = 0
    ) -> Floats:
        """Sample ``number``, (B, h, w) float32."""
        padded, height, width = padded_image(rgb)

        draw = self.model.drawn_by(generator, 1, *padded.shape[2:])
        with torch.inference_mode():
            cube = self.model.sample(padded, draw, steps=steps, number=number)
            out: Floats = cube[0, :, :height, :width].numpy()
        return out
