"""Samples of spectra as what a cube stores: their mean, spread and quantiles, rounded to counts.

Written with what numpy arrays and torch tensors share, so that it runs where the samples are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, Literal, TypeVar

from spectile.catalog.calibration import Calibration
from spectile.catalog.choices import Layer

SCALE = 1e-4
"""Reflectance of one stored count."""
NODATA = 65535
"""The stored count of pixels without a value."""
NORMAL_Q95 = 1.6449
"""Without a calibration, quantiles are this many standard deviations from the mean."""

Part = Literal["mean", Layer]
"""What is stored of the samples."""
A = TypeVar("A", bound=Any)
"""A numpy array or a torch tensor, float32."""


class Moments(Generic[A]):
    """Mean and standard deviation of samples that come one after another.

    Sums are taken of the differences from the first sample, which are as small as the spread: so float32 is
    enough, and memory does not grow with the samples.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.doubt: Any = 0.0
        """(…) zero where all that ``stored_parts`` has yielded is finite, else NaN."""

    def add(self, sample: A) -> None:
        """Count a sample; it is kept, not copied, if it is the first."""
        self.samples += 1
        if self.samples == 1:
            self._first = sample
            return
        difference = sample - self._first
        if self.samples == 2:
            self._sum, self._squares = difference, difference * difference
            return
        self._sum += difference
        difference *= difference
        self._squares += difference

    def mean(self, at: Any = ...) -> A:
        """The mean of a part, by its index."""
        first: A = self._first[at]
        mean: A = first if self.samples == 1 else first + self._sum[at] / self.samples
        return mean

    def deviation(self, at: Any = ...) -> A:
        """The standard deviation (ddof 1) of a part, by its index; of two samples or more."""
        total = self._sum[at]
        variance = (self._squares[at] - total * total / self.samples) / (self.samples - 1)
        deviation: A = variance.clip(0, None) ** 0.5
        return deviation


def factor(layer: Layer, calibration: Calibration | None, band: int) -> float:
    """How many standard deviations a band's error is (``sd``), or its quantile lies beside the mean."""
    if calibration is None:
        return {"sd": 1.0, "q05": -NORMAL_Q95, "q95": NORMAL_Q95}[layer]
    return {"sd": calibration.spread, "q05": calibration.low, "q95": calibration.high}[layer][band]


def stored_parts(
    moments: Moments[A], layers: Sequence[Layer], calibration: Calibration | None, bands: int
) -> Iterator[tuple[Part, int, A]]:
    """Yield the counts of each part of each band, float32: band by band, which then stay in the cache.

    With s the standard deviation of the samples, ``sd`` is spread·s, ``q05`` is mean + low·s and ``q95``
    mean + high·s. Skewed factors can put the mean outside of them.

    Parameters
    ----------
    moments : of samples (…, B, h, w), reflectance; two or more where layers are wanted.
    bands : B.
    """
    for band in range(bands):
        at = (..., band, slice(None), slice(None))
        mean = moments.mean(at)
        moments.doubt = moments.doubt + mean.sum((-2, -1)) * 0
        yield "mean", band, to_counts(mean)
        if layers:
            deviation = moments.deviation(at)
        for layer in layers:
            scaled = deviation * factor(layer, calibration, band)
            yield layer, band, to_counts(scaled if layer == "sd" else mean + scaled)


def to_counts(reflectance: A) -> A:
    """Reflectance as counts, whole numbers of the same type; halves to the even one."""
    counts: A = (reflectance * (1 / SCALE)).round().clip(0, NODATA - 1)
    return counts
