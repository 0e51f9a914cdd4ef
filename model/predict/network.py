"""The one boundary between numpy and torch: a network of any system as something that predicts tiles.

It implements ``spectile.pipeline.block.predict.Predictor`` by its shape; the two packages never import each
other.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectile.catalog.bands import Bands
from spectile.catalog.calibration import Calibration
from spectile.catalog.choices import Layer
from spectile.catalog.counts import Moments, Part, stored_parts
from spectile.catalog.errors import CheckpointError, NetworkError, UsageError
from spectile.catalog.inputs import Batch, InputSpec
from spectile.model import checkpoint
from spectile.model.diffusion.noise import noise
from spectile.model.system import Config, Network

RUNTIME_BYTES = 290 * 2**20
"""Torch, its threads and its kernels' scratch, measured."""


class NetworkPredictor:
    """Predicts cubes with a network; a tile's values depend on its pixels and position alone.

    ``dtype`` and ``compiled`` say how the model's networks were accelerated; ``load_predictor`` does it.

    In the compact cascade a pixel depends on its surroundings; in the published one on its whole tile,
    through group normalisation, attention and truncation (``docs/scdm-paper.md``).
    """

    def __init__(
        self,
        network: Network,
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
        shares: bool = False,
    ) -> None:
        self._network = network
        self._endmembers = network.endmembers if shares else ()
        self._calibration = calibration
        self._device = torch.device(device)
        self._steps = steps
        self._seed = seed
        self._batch = batch
        self._inputs = network.inputs(fill.tolist())
        self._settings: dict[str, object] = {
            "name": name,
            "digest": digest,
            **_solver(network.config, steps),
            "seed": seed,
            "dtype": dtype,
            "compiled": compiled,
            "device": self._device.type,
            **network.config.settings,
        }

    @property
    def bands(self) -> Bands:
        """The bands of what it predicts."""
        bands: Bands = self._network.config.bands
        return bands

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What its network takes; masked pixels hold the training data's mean."""
        return self._inputs

    @property
    def stride(self) -> int:
        """The network's stride in pixels."""
        return self._network.stride

    @property
    def reach(self) -> int | None:
        """How many pixels away the network looks; None where at the whole tile."""
        return self._network.reach

    @property
    def batch(self) -> int:
        """The best number of tiles in a call."""
        return self._batch

    @property
    def calls(self) -> int:
        """Calls at once: on an accelerator two, in streams of their own, so that copies overlap the work."""
        return 1 if self._device.type == "cpu" else 2

    @property
    def calibration(self) -> Calibration | None:
        """The checkpoint's calibration; None if it has none."""
        return self._calibration

    @property
    def endmembers(self) -> tuple[str, ...]:
        """The spectra whose shares follow the bands; none unless ``shares`` were asked for."""
        return self._endmembers

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything that can change a value, as plain JSON values."""
        return dict(self._settings)

    @property
    def network(self) -> Network:
        """What it runs."""
        return self._network

    def with_steps(self, steps: int) -> NetworkPredictor:
        """The same with another number of solver steps, in [1, T]; the calibration does not hold for it."""
        check_steps(self._network.config, steps)
        other = copy.copy(self)
        other._steps, other._calibration = steps, None
        other._settings = {**self._settings, **_solver(self._network.config, steps)}
        return other

    def predict(self, batch: Batch, samples: range) -> Iterator[NDArray[np.float32]]:
        """Yield one (N, B, h, w) float32 reflectance array in [0, 1.6] for each sample, in order.

        With ``endmembers`` their G shares in [0, 1] follow the bands: (N, B + G, h, w).

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
        count, height, width = self._checked(batch)
        with _torch_errors():
            tiles, places, group = self._sent(batch)
        begun: dict[int, Any] = {}
        for sample in samples:
            with _torch_errors():
                out = torch.empty((count, self._channels, height, width), pin_memory=self._pinned)
                for first in range(0, count, group):
                    last = first + group
                    kept = begun if len(samples) > 1 else {}
                    group_tiles = [values[first:last] for values in tiles]
                    cube = self._sample(group_tiles, places[first:last], sample, first, kept)
                    out[first:last].copy_(cube[: count - first], non_blocking=True)
                if self._pinned:
                    torch.cuda.current_stream(self._device).synchronize()
            yield out.numpy()

    def _checked(self, batch: Batch) -> tuple[int, int, int]:
        """Number, rows and columns of a batch's tiles, which the network can take."""
        count, _, height, width = batch.rasters[self._inputs[0].name].values.shape
        if height % self.stride or width % self.stride:
            raise UsageError(
                "the tile does not fit the network",
                got=f"{height}×{width} px",
                expected=f"sides that are multiples of {self.stride}",
                remedy="choose another --tile",
            )
        if count > batch.size:
            raise UsageError("more tiles than the batch holds", got=count, expected=f"up to {batch.size}")
        return count, height, width

    def _sent(self, batch: Batch) -> tuple[list[Tensor], Tensor, int]:
        """A batch's tiles on the device, their places on the host, and how many go through together."""
        group = 1 if self._device.type == "cpu" else batch.size

        def padded(values: NDArray[Any]) -> Tensor:
            return torch.from_numpy(
                np.concatenate([values, np.repeat(values[-1:], -len(values) % group, axis=0)])
            )

        tiles = [self._send(padded(batch.rasters[spec.name].values)) for spec in self._inputs]
        return tiles, padded(batch.origins), group  # the noise's key is computed from places on the host

    @torch.inference_mode()
    def count(
        self, batch: Batch, samples: int, layers: Sequence[Layer], cut: tuple[slice, slice]
    ) -> tuple[dict[Part, NDArray[np.uint16]], NDArray[np.bool_]]:
        """Counts of the mean of the samples and of layers, reduced on the device; else as ``predict``.

        Parameters
        ----------
        samples : K, the number of samples.
        layers : to take beside the mean, with the calibration.
        cut : rows and columns of each tile that are wanted.

        Returns
        -------
        (N, B, h, w) uint16 of each part, and (N,) bool whether all means of a tile are finite.
        """
        self._checked(batch)
        with _torch_errors(), self._stream():
            tiles, places, group = self._sent(batch)
            made: dict[Part, Tensor] = {}
            doubts = []
            for first in range(0, len(batch), group):
                moments = Moments[Tensor]()
                begun: dict[int, Any] = {}
                group_tiles = [values[first : first + group] for values in tiles]
                count = min(group, len(batch) - first)
                for sample in range(samples):
                    kept = begun if samples > 1 else {}
                    cube = self._sample(group_tiles, places[first : first + group], sample, first, kept)
                    moments.add(cube[(slice(count), slice(None), *cut)].float())
                bands, shares = len(self.bands), len(self._endmembers)
                for part, band, values in stored_parts(moments, layers, self._calibration, bands, shares):
                    if part not in made:
                        depth = shares if part == "abundance" else bands
                        shape = len(batch), depth, *values.shape[-2:]
                        made[part] = torch.empty(shape, dtype=torch.uint16, device=self._device)
                    made[part][first : first + count, band] = values.to(torch.uint16)
                doubts.append(moments.doubt)
            counts = {part: self._received(values) for part, values in made.items()}
            finite = torch.isfinite(torch.cat(doubts)).cpu().numpy()  # waits for the transfers too
        return {part: values.numpy() for part, values in counts.items()}, finite

    def _stream(self) -> AbstractContextManager[Any]:
        """A stream of this call's own, where the device has streams."""
        if not self._pinned:
            return nullcontext()
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(stream)

    def _received(self, values: Tensor) -> Tensor:
        """The values on the host, once the stream is through."""
        if not self._pinned:
            return values
        there = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        return there.copy_(values, non_blocking=True)

    @property
    def _channels(self) -> int:
        return len(self.bands) + len(self._endmembers)

    @property
    def _pinned(self) -> bool:
        """Whether transfers go through page-locked memory, which is faster and lets the host go on."""
        return self._device.type == "cuda"

    def _send(self, values: Tensor) -> Tensor:
        """The values on the device."""
        return (values.pin_memory() if self._pinned else values).to(self._device, non_blocking=True)

    @torch.inference_mode()
    def _sample(
        self, tiles: Sequence[Tensor], origins: Tensor, sample: int, group: int, begun: dict[int, Any]
    ) -> Tensor:
        """One sample of a group of tiles; ``begun`` keeps what its other samples need too."""
        height, width = tiles[0].shape[2:]

        def draw(stage: int, step: int) -> Tensor:
            white = partial(
                noise, seed=self._seed, stage=stage, step=step, sample=sample, device=self._device
            )
            return self._network.noise(stage, white, origins, height, width)

        if group not in begun:
            begun[group] = self._network.begin(*tiles)
        finish = self._network.finish_mixed if self._endmembers else self._network.finish
        return finish(begun[group], draw, steps=self._steps, number=sample)

    def memory(self, tile: int) -> int:
        """Bytes that a call takes at its peak for square tiles of ``tile`` pixels, model included.

        The output of all tiles (twice: the caller holds one sample while the next is made; of shares also
        their mean), the weights,
        torch itself, what all samples of a tile share, and the activations of the tiles that go through
        together (``docs/model.md``).
        """
        together = 1 if self._device.type == "cpu" else self._batch
        weights: int = sum(value.numel() * 4 for value in self._network.state_dict().values())
        output = (2 * self._channels + len(self._endmembers)) * self._batch * 4 * tile**2
        activations = together * self._network.bytes_per_pixel * tile**2
        begun = self._batch * self._network.begun_bytes_per_pixel * tile**2
        return int(RUNTIME_BYTES + weights + output + activations + begun)


@contextmanager
def _torch_errors() -> Iterator[None]:
    """Turn torch's errors into ours; those of memory, on device or host, into MemoryError."""
    try:
        yield
    except RuntimeError as err:
        # On the host it is a plain RuntimeError; only its text tells.
        if not isinstance(err, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(err):
            raise NetworkError("the network failed", got=repr(str(err).partition("\n")[0])) from err
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise MemoryError(str(err).partition("\n")[0]) from err


def _solver(config: Config, steps: int) -> dict[str, object]:
    return {"steps": steps, "estimate": config.estimate(steps)}


def check_steps(config: Config, steps: int) -> None:
    """Raise UsageError where a schedule has no so many steps."""
    if not 1 <= steps <= config.timesteps:
        raise UsageError("solver steps", got=steps, expected=f"1 to {config.timesteps}")


def load_calibration(loaded: checkpoint.Checkpoint, bands: Bands) -> Calibration | None:
    """The calibration of a checkpoint's bands; None if it has none.

    Raises
    ------
    CheckpointError : it is damaged, or of other bands.
    """
    if (factors := loaded.metadata.get("calibration")) is None:
        return None
    calibration = Calibration.from_json(factors)
    if len(calibration) != len(bands):
        raise CheckpointError(
            "the calibration is for other bands",
            where=str(loaded.folder), got=len(calibration), expected=len(bands),
        )  # fmt: skip
    return calibration


def fill_of(loaded: checkpoint.Checkpoint) -> NDArray[np.float32]:
    """(C,) what a checkpoint's masked pixels hold; CheckpointError where it does not say."""
    if (fill := loaded.metadata.get("fill")) is None:
        raise CheckpointError(
            "the checkpoint does not say what masked pixels hold",
            where=str(loaded.folder), remedy="use one of spectile train; evaluations make others",
        )  # fmt: skip
    return np.asarray(fill, dtype=np.float32)
