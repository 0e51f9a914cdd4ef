"""The one boundary between numpy and torch: a checkpoint as something that predicts tiles.

It implements ``spectile.pipeline.block.predict.Predictor`` by its shape; the two packages never import each
other.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectile.catalog.bands import Bands
from spectile.catalog.calibration import Calibration
from spectile.catalog.errors import CheckpointError, NetworkError, UsageError
from spectile.catalog.inputs import Batch, InputSpec
from spectile.catalog.limits import check_seed
from spectile.model import checkpoint
from spectile.model.cascade.cascade import Begun, CascadeConfig, SpectralCascade, Stage
from spectile.model.device import resolve_device
from spectile.model.diffusion.grain import grained
from spectile.model.diffusion.noise import noise
from spectile.model.predict.acceleration import accelerate, resolve_dtype
from spectile.model.scdm.cascade import KIND as SCDM
from spectile.model.scdm.cascade import ScdmCascade, load_scdm

DEFAULT_BATCH = {"cpu": 4, "cuda": 16}


class CascadePredictor:
    """Predicts cubes with a spectral cascade; what a tile holds depends on its pixels and position alone.

    ``dtype`` and ``compiled`` say how the model's networks were accelerated; ``load_predictor`` does it.

    In the compact cascade a pixel depends on its surroundings; in the published one on its whole tile,
    through group normalisation, attention and truncation (``docs/scdm-paper.md``).
    """

    def __init__(
        self,
        model: SpectralCascade | ScdmCascade,
        *,
        name: str,
        digest: str,
        fill: NDArray[np.float32],
        steps: int,
        seed: int,
        batch: int,
        device: str,
        dtype: str,
        compiled: bool = False,
        calibration: Calibration | None = None,
    ) -> None:
        self._model = model
        self._calibration = calibration
        self._device = torch.device(device)
        self._steps = steps
        self._seed = seed
        self._batch = batch
        self._fill = fill
        self._settings: dict[str, object] = {
            "name": name,
            "digest": digest,
            **_solver(model, steps),
            "seed": seed,
            "dtype": dtype,
            "compiled": compiled,
            "device": self._device.type,
            **model.settings,
        }

    @property
    def bands(self) -> Bands:
        """The bands of what it predicts."""
        return self._model.config.bands

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """A colour scene as the model's camera sees it; masked pixels hold the training data's mean."""
        return (InputSpec("rgb", self._model.config.response, tuple(map(float, self._fill))),)

    @property
    def stride(self) -> int:
        """The network's stride in pixels."""
        return self._model.stride

    @property
    def batch(self) -> int:
        """How many tiles a call takes best."""
        return self._batch

    @property
    def calibration(self) -> Calibration | None:
        """What the checkpoint knows of the error of its samples; None where it says nothing."""
        return self._calibration

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything that can change a value, as plain JSON values."""
        return dict(self._settings)

    @property
    def cascade(self) -> SpectralCascade | ScdmCascade:
        """The model that it runs."""
        return self._model

    def with_steps(self, steps: int) -> CascadePredictor:
        """The same with another number of solver steps, in [1, T]; the calibration does not hold for it."""
        _check_steps(self._model, steps)
        other = copy.copy(self)
        other._steps, other._calibration = steps, None
        other._settings = {**self._settings, **_solver(self._model, steps)}
        return other

    def predict(self, batch: Batch, samples: range) -> Iterator[NDArray[np.float32]]:
        """Yield one (N, B, h, w) float32 reflectance array in [0, 1.6] for each sample, in order.

        On a CPU tiles go through one at a time, which is both the fastest (a tile's activations stay in
        the cache) and independent of the batch to the last bit. On CUDA they go together, padded to the
        batch's ``size``, because kernels are chosen by shape. Masked pixels hold their fill, so that where
        they are adds nothing.

        Raises
        ------
        UsageError
            Where the tiles' sides are no multiples of ``stride``, or there are more than ``size``.
        MemoryError
            Where there is not enough memory.
        NetworkError
            Where torch fails otherwise.
        """
        rgb, origins = batch.rasters["rgb"].values, batch.origins
        count, _, height, width = rgb.shape
        if height % self.stride or width % self.stride:
            raise UsageError(
                "the tile does not fit the network",
                got=f"{height}×{width} px",
                expected=f"sides that are multiples of {self.stride}",
                remedy="choose another --tile",
            )
        if count > batch.size:
            raise UsageError("more tiles than the batch holds", got=count, expected=f"up to {batch.size}")
        group = 1 if self._device.type == "cpu" else batch.size
        padding = -count % group
        # The position stays on the host, where the noise's key is made of it.
        places = torch.from_numpy(np.concatenate([origins, np.repeat(origins[-1:], padding, axis=0)]))
        with _torch_errors():
            tiles = self._send(torch.from_numpy(np.concatenate([rgb, np.repeat(rgb[-1:], padding, axis=0)])))
        begun: dict[int, Begun] = {}
        for sample in samples:
            with _torch_errors():
                out = torch.empty((count, len(self.bands), height, width), pin_memory=self._pinned)
                for first in range(0, count, group):
                    last = first + group
                    held = begun if len(samples) > 1 else {}
                    cube = self._sample(tiles[first:last], places[first:last], sample, first, held)
                    out[first:last].copy_(cube[: count - first], non_blocking=True)
                if self._pinned:
                    torch.cuda.current_stream(self._device).synchronize()
            yield out.numpy()

    @property
    def _pinned(self) -> bool:
        """Whether transfers go through page-locked memory, which is faster and lets the host go on."""
        return self._device.type == "cuda"

    def _send(self, values: Tensor) -> Tensor:
        """The values on the device."""
        return (values.pin_memory() if self._pinned else values).to(self._device, non_blocking=True)

    @torch.inference_mode()
    def _sample(
        self, rgb: Tensor, origins: Tensor, sample: int, group: int, begun: dict[int, Begun]
    ) -> Tensor:
        """One sample of a group of tiles; ``begun`` keeps what its other samples need too."""
        height, width = rgb.shape[2:]

        model = self._model

        def draw(stage: int, step: int) -> Tensor:
            of = model.stage(stage)
            white = partial(
                noise, seed=self._seed, stage=stage, step=step, sample=sample,
                channels=of.config.components, device=self._device,
            )  # fmt: skip
            if not isinstance(of, Stage):
                return white(origins=origins, height=height, width=width)

            def lattice(level: int, first: tuple[int, int], shape: tuple[int, int]) -> Tensor:
                at = torch.tensor([first])
                return white(origins=at, height=shape[0], width=shape[1], level=level)[0]

            places = origins.tolist()
            return torch.stack([grained(lattice, of.grain, (row, col), height, width) for row, col in places])

        if not isinstance(model, SpectralCascade):
            return model.sample(rgb, draw, steps=self._steps)
        if group not in begun:
            begun[group] = model.begin(rgb)
        return model.finish(begun[group], draw, steps=self._steps, number=sample)

    def memory(self, tile: int) -> int:
        """Bytes that a call takes at its peak for square tiles of ``tile`` pixels, model included.

        The output of all tiles (twice: the caller holds one sample while the next is made), the weights,
        torch itself, what all samples of a tile share, and the activations of the tiles that go through
        together (``docs/model.md``).
        """
        together = 1 if self._device.type == "cpu" else self._batch
        weights: int = sum(value.numel() * 4 for value in self._model.state_dict().values())
        output = 2 * self._batch * len(self.bands) * 4 * tile**2
        activations = together * self._model.bytes_per_pixel * tile**2
        if isinstance(self._model, SpectralCascade):
            activations += self._batch * self._model.begun_bytes_per_pixel * tile**2
        return int(RUNTIME_BYTES + weights + output + activations)


@contextmanager
def _torch_errors() -> Iterator[None]:
    """Torch's errors as ours: those of memory, on a device or on the host, as MemoryError."""
    try:
        yield
    except RuntimeError as err:
        # On the host it is a plain RuntimeError, known by its text alone.
        if not isinstance(err, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(err):
            raise NetworkError("the network failed", got=repr(str(err).partition("\n")[0])) from err
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise MemoryError(str(err).partition("\n")[0]) from err


RUNTIME_BYTES = 290 * 2**20
"""Torch, its threads and its kernels' scratch, measured."""


def load_predictor(
    model: str,
    *,
    steps: int | None = None,
    seed: int = 0,
    batch: int | None = None,
    device: str = "auto",
    dtype: str = "float32",
    compiled: bool = False,
    threads: int | None = None,
) -> CascadePredictor:
    """The predictor of a shipped model's name or of a checkpoint folder.

    Parameters
    ----------
    model : ``vnir48``, or the path of a folder that ``spectile train`` wrote, of either kind.
    steps : solver steps a stage; None is the checkpoint's default, 1 gives the posterior mean.
    seed : of the noise, in [0, 2**32).
    batch : tiles a call; None is 4 on a CPU and 16 on CUDA. Changes no value on a CPU.
    device : ``auto``, ``cpu`` or ``cuda``.
    dtype : ``float32``, ``bfloat16`` for the networks, or ``auto``: bfloat16 for a compact cascade on a
        device that computes in it, else float32.
    compiled : compile the networks, which takes a minute or two before the first tile.
    threads : torch's on the CPU, in this process; None leaves them as they are.

    Raises
    ------
    CheckpointError
        Where the checkpoint is missing, damaged or of another kind.
    UsageError
        Where a setting cannot be used.
    """
    check_seed(seed)
    kind = resolve_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    size = DEFAULT_BATCH[kind] if batch is None else batch
    if size < 1:
        raise UsageError("batch", got=size, expected="1 or more")
    loaded = checkpoint.load(model)
    fill = fill_of(loaded)
    cascade = load_network(loaded)
    scdm = isinstance(cascade, ScdmCascade)
    count = cascade.config.steps if steps is None else steps
    _check_steps(cascade, count)
    # Bfloat16 was held against float32 on the compact cascade alone (docs/benchmarks.md).
    number = resolve_dtype(dtype, kind, tried=not scdm)
    accelerate(cascade, device=kind, dtype=number, compiled=compiled)
    return CascadePredictor(
        cascade.to(kind),
        name=str(loaded.metadata["name"]),
        digest=loaded.digest,
        fill=fill,
        steps=count,
        seed=seed,
        batch=size,
        device=kind,
        dtype=number,
        compiled=compiled,
        # Fitted at the checkpoint's own steps; with others the samples spread by another amount.
        calibration=load_calibration(loaded, cascade.config.bands) if count == cascade.config.steps else None,
    )


def _solver(model: SpectralCascade | ScdmCascade, steps: int) -> dict[str, object]:
    """What the steps make of the noise: the compact cascade's single step draws none."""
    mean = steps == 1 and isinstance(model, SpectralCascade)
    return {"steps": steps, "estimate": "posterior mean" if mean else "sample"}


def _check_steps(cascade: SpectralCascade | ScdmCascade, steps: int) -> None:
    if not 1 <= steps <= cascade.schedule.steps:
        raise UsageError("solver steps", got=steps, expected=f"1 to {cascade.schedule.steps}")


def load_calibration(loaded: checkpoint.Checkpoint, bands: Bands) -> Calibration | None:
    """What a checkpoint says of its bands' uncertainty; None where it says nothing.

    Raises
    ------
    CheckpointError : it is damaged, or of other bands.
    """
    if (said := loaded.metadata.get("calibration")) is None:
        return None
    calibration = Calibration.from_json(said)
    if len(calibration) != len(bands):
        raise CheckpointError(
            "the calibration is for other bands",
            where=str(loaded.folder), got=len(calibration), expected=len(bands),
        )  # fmt: skip
    return calibration


def load_network(loaded: checkpoint.Checkpoint) -> SpectralCascade | ScdmCascade:
    """The network of a checkpoint of either kind, in evaluation mode on the CPU; CheckpointError as below."""
    return load_scdm(loaded) if loaded.metadata.get("kind") == SCDM else load_cascade(loaded)


def fill_of(loaded: checkpoint.Checkpoint) -> NDArray[np.float32]:
    """(3,) what a checkpoint's masked pixels hold; CheckpointError where it does not say."""
    if (fill := loaded.metadata.get("fill")) is None:
        raise CheckpointError(
            "the checkpoint does not say what masked pixels hold",
            where=str(loaded.folder), remedy="one of an evaluation takes counts of its scene: train another",
        )  # fmt: skip
    return np.asarray(fill, dtype=np.float32)


def load_cascade(loaded: checkpoint.Checkpoint) -> SpectralCascade:
    """The network of a checkpoint, in evaluation mode on the CPU.

    Raises
    ------
    CheckpointError
        Where its configuration and its tensors do not make a cascade.
    """
    return checkpoint.load_module(
        loaded,
        lambda: SpectralCascade(CascadeConfig.from_json(loaded.metadata["cascade"])),
        "a spectral cascade",
    )
