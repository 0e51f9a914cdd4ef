"""How far the samples of a model can be trusted, band by band, measured where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spectile.catalog.errors import CheckpointError


@dataclass(frozen=True)
class Calibration:
    """Factors that turn the standard deviation s of the samples (ddof 1) into the expected error.

    Quantiles of the standardised residuals (truth − mean) / s on data that no training saw: the
    normalised scores of Papadopoulos et al. (2002), with data split off for calibration as in Lei et al.
    (2018). They are widened by the growth of the errors in places that training never saw. They hold on
    average over data like those used, and not for a scene of another kind.
    """

    samples: int
    """Number of samples K with which it was fitted; the errors of s and of the mean depend on K."""
    spread: tuple[float, ...]
    """Per band, the factor that turns s into the standard deviation of the error."""
    low: tuple[float, ...]
    """Per band: the truth is below mean + low·s in 5 % of cases."""
    high: tuple[float, ...]
    """Per band: the truth is above mean + high·s in 5 % of cases."""

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise CheckpointError("calibration: samples", got=self.samples, expected="2 or more")
        lengths = {len(self.spread), len(self.low), len(self.high)}
        if len(lengths) > 1 or not self.spread:
            raise CheckpointError(
                "calibration: every band needs a spread, a low and a high factor",
                got=f"{len(self.spread)}, {len(self.low)} and {len(self.high)}",
            )
        if not np.isfinite([self.spread, self.low, self.high]).all():
            raise CheckpointError("calibration: factors must be finite")
        if min(self.spread) <= 0:
            raise CheckpointError("calibration: spread", got=min(self.spread), expected="more than 0")
        for band, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if low >= high:
                raise CheckpointError(
                    f"calibration: low must be below high in band {band}", got=f"{low:g} and {high:g}"
                )

    def __len__(self) -> int:
        return len(self.spread)

    def widened(self, factor: float) -> Calibration:
        """All factors times one."""
        spread, low, high = (
            tuple(value * factor for value in side) for side in (self.spread, self.low, self.high)
        )
        return Calibration(self.samples, spread, low, high)

    def to_json(self) -> dict[str, Any]:
        """The calibration as plain values."""
        return {key: list(value) if key != "samples" else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Calibration:
        """The calibration that ``to_json`` wrote.

        Raises
        ------
        CheckpointError : the value is not a calibration, or its factors cannot be used.
        """
        try:
            factors = (tuple(map(float, value[name])) for name in ("spread", "low", "high"))
            return cls(int(value["samples"]), *factors)
        except (KeyError, TypeError, ValueError, OverflowError) as err:
            raise CheckpointError("the calibration is damaged", got=repr(err)) from err
