"""The protocol between the pipeline and whatever turns tiles into spectra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import VNIR48, Bands
from spectile.catalog.calibration import Calibration
from spectile.catalog.choices import Layer
from spectile.catalog.counts import Part
from spectile.catalog.inputs import RGB_SCENE, Batch, InputSpec
from spectile.pipeline.scene.bands import find_sensor


class Predictor(Protocol):
    """Turns batches of tiles into spectra; a pure function of its arguments and settings."""

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The rasters that it takes. The first lies on the cube's grid and gives the cube its colours."""
        ...

    @property
    def bands(self) -> Bands:
        """The bands of what it predicts."""
        ...

    @property
    def stride(self) -> int:
        """The network's stride in pixels: tile sizes and tile strides must be multiples of it."""
        ...

    @property
    def reach(self) -> int | None:
        """How many rows and columns away a pixel still changes what is predicted, by a stored count or more.

        0 for what looks at single pixels, None for what looks at the whole tile.
        """
        ...

    @property
    def batch(self) -> int:
        """The best number of tiles in a call; a run that lacks memory uses fewer."""
        ...

    @property
    def calibration(self) -> Calibration | None:
        """What the spread of its samples says about the error; None if that is not known."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything of the predictor that can change a value, the calibration included, as JSON values.

        At least ``name``, ``digest``, ``steps``, ``sampler``, ``seed``, ``dtype``, ``device``.
        """
        ...

    def predict(self, batch: Batch, samples: range) -> Iterator[NDArray[np.float32]]:
        """Yield one (N, B, h, w) float32 reflectance array for each sample index, in order.

        Parameters
        ----------
        batch : N tiles of every input. Noise is keyed on their origins, so that overlapping tiles agree.
        samples : the sample indices to draw.

        Raises
        ------
        MemoryError : there is not enough memory, of the device either.
        NetworkError : the network failed otherwise; a run tries the block again.
        """
        ...

    def memory(self, tile: int) -> int:
        """Bytes at the peak of a call of ``batch`` square tiles of ``tile`` pixels, model included."""
        ...


@runtime_checkable
class CountingPredictor(Predictor, Protocol):
    """A predictor that reduces samples to stored counts where they are, so that 2 bytes a value leave it."""

    @property
    def calls(self) -> int:
        """Calls at once that keep its device busy: one on a CPU, more where copies can overlap the work."""
        ...

    def count(
        self, batch: Batch, samples: int, layers: Sequence[Layer], cut: tuple[slice, slice]
    ) -> tuple[dict[Part, NDArray[np.uint16]], NDArray[np.bool_]]:
        """The counts of the samples 0 to ``samples`` − 1, as of ``stored_parts``.

        Parameters
        ----------
        batch : as of ``predict``.
        layers : to take beside the mean, with the predictor's calibration.
        cut : the rows and columns of each tile that are wanted.

        Returns
        -------
        (N, B, h, w) uint16 of each part, and (N,) bool whether all means of a tile are finite.

        Raises
        ------
        MemoryError, NetworkError : as of ``predict``.
        """
        ...


def calls_of(predictor: Predictor) -> int:
    """Calls at once that keep a predictor's device busy."""
    return predictor.calls if isinstance(predictor, CountingPredictor) else 1


class TileFindings(NamedTuple):
    """What a fusion finds in tiles, beside their spectra."""

    hsi_difference: NDArray[np.float32]
    """(N, h, w) difference of the HSI from the spectra seen through its PSF, reflectance: root mean square
    over bands, the same in all pixels of an HSI pixel."""
    changed: NDArray[np.bool_]
    """(N, h, w) where the scenes differ by more than noise, so that the upsampled HSI was taken."""


@runtime_checkable
class FusingPredictor(Predictor, Protocol):
    """A predictor of a pair of scenes: ``msi``, on the cube's grid, and ``hsi``, on a coarser one."""

    @property
    def response(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How the MSI sees spectra: (C, B) matrix R and (C,) offset; MSI = R · spectrum + offset."""
        ...

    def inspect(
        self, batch: Batch, mean: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What it finds in tiles, a pure function of each: the fields of ``TileFindings``.

        Parameters
        ----------
        mean : (N, B, h, w) mean of the samples of the tiles, reflectance.
        """
        ...


@runtime_checkable
class MixingPredictor(Predictor, Protocol):
    """A predictor that can mix the spectra of a library.

    Where it has ``endmembers``, their shares follow the bands in what it predicts, (N, B + G, h, w).
    """

    @property
    def endmembers(self) -> tuple[str, ...]:
        """The G names of the spectra whose shares it gives; none unless they were asked for."""
        ...


def endmembers_of(predictor: Predictor) -> tuple[str, ...]:
    """The names of the spectra whose shares a predictor gives beside its bands."""
    return predictor.endmembers if isinstance(predictor, MixingPredictor) else ()


@runtime_checkable
class CountingFusion(FusingPredictor, Protocol):
    """A fusion that reduces samples to stored counts where they are, and knows what it finds meanwhile."""

    def count_fused(
        self, batch: Batch, samples: int, layers: Sequence[Layer], cut: tuple[slice, slice]
    ) -> tuple[
        dict[Part, NDArray[np.uint16]], NDArray[np.bool_], tuple[NDArray[np.float32], NDArray[np.bool_]]
    ]:
        """As of ``CountingPredictor.count``, and the fields of ``TileFindings`` in ``cut``."""
        ...


@dataclass
class BandsRepeat:
    """A predictor that costs nothing: the scene's bands, interpolated over the wavelengths.

    It stands in for the network where the pipeline itself is measured or tested.
    """

    bands: Bands = VNIR48
    """The bands of the cube."""
    batch: int = 1
    """Tiles a call."""
    stride: int = 1
    """It looks at single pixels."""
    reach: int | None = 0
    """It looks at single pixels."""
    sensor: str = ""
    """The sensor of whose bands it takes a scene, as of ``find_sensor``; empty for a colour scene."""

    @cached_property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The scene."""
        if not self.sensor:
            return (RGB_SCENE,)
        bands = find_sensor(self.sensor).bands
        return (InputSpec("scene", bands, (0.2,) * len(bands)),)

    @property
    def calibration(self) -> Calibration | None:
        """None: its samples are all the same."""
        return None

    @property
    def settings(self) -> Mapping[str, object]:
        """The sensor is part of its name; nothing else can be set."""
        name = f"bands-repeat:{self.sensor}" if self.sensor else "bands-repeat"
        return {"name": name, "digest": "", "steps": 0, "sampler": "none", "seed": 0, "dtype": "float32",
                "device": "cpu"}  # fmt: skip

    def predict(self, batch: Batch, samples: range) -> Iterator[NDArray[np.float32]]:
        """Yield the same (N, B, h, w) reflectance for each sample."""
        (spec,) = self.inputs
        scene, centre = batch.rasters[spec.name].values, np.array(spec.bands.centre_nm)
        order = np.argsort(centre)
        one = np.eye(len(centre))[:, order]
        weights = np.array([np.interp(self.bands.centre_nm, centre[order], row) for row in one], np.float32)
        # No matrix product: its threads would go on spinning while others write.
        spectra = np.empty((len(scene), len(self.bands), *scene.shape[2:]), dtype=np.float32)
        for band, weight in enumerate(weights.T):
            first, *others = np.flatnonzero(weight)
            np.multiply(scene[:, first], weight[first], out=spectra[:, band])
            for other in others:
                spectra[:, band] += scene[:, other] * weight[other]
        for _ in samples:
            yield spectra

    def memory(self, tile: int) -> int:
        """Bytes of one batch of spectra."""
        return 2 * self.batch * len(self.bands) * tile * tile * 4
