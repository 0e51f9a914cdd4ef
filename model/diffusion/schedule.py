"""The forward process: the share of noise in a state at each time, and the times of a sampler.

Time t = 0 is data, t = T the noisiest state. Ho et al. 2020, equation 4; Chen et al. 2024 (SCDM),
equation 2: ``x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectile.catalog.errors import UsageError


@dataclass(frozen=True)
class Schedule:
    """A variance-preserving forward process with T steps."""

    alpha_bar: tuple[float, ...]
    """Share of signal power at t = 0, 1, ..., T; starts at one, decreases strictly and stays above zero."""

    def __post_init__(self) -> None:
        table = np.asarray(self.alpha_bar, dtype=np.float64)
        if table.size < 2 or table[0] != 1.0 or table[-1] <= 0.0 or not (np.diff(table) < 0).all():
            raise UsageError("alpha_bar must start at 1 and fall strictly, staying above 0")

    @property
    def steps(self) -> int:
        """T, the number of steps of the forward process."""
        return len(self.alpha_bar) - 1

    @cached_property
    def _log_alpha_bar(self) -> NDArray[np.float64]:
        return np.log(np.asarray(self.alpha_bar, dtype=np.float64))

    def alpha_bar_at(self, t: float) -> float:
        """The share of signal power at time t in [0, T]; between steps its logarithm is linear."""
        if float(t).is_integer():
            return self.alpha_bar[int(t)]
        return math.exp(float(np.interp(t, np.arange(self.steps + 1), self._log_alpha_bar)))

    def alpha_bar_of(self, t: Tensor, like: Tensor) -> Tensor:
        """The (N, 1, ...) share of signal power at (N,) integer times, in the rank and type of ``like``."""
        table = torch.tensor(self.alpha_bar, dtype=torch.float64, device=like.device)
        return table[t.to(like.device)].to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))

    def log_snr(self, t: float) -> float:
        """ln(alpha_bar / (1 - alpha_bar)) at time t in (0, T]."""
        alpha_bar = self.alpha_bar_at(t)
        return math.log(alpha_bar) - math.log1p(-alpha_bar)

    def time_of_log_snr(self, log_snr: float) -> float:
        """The time t in [0, T] with this log-SNR, clipped to the schedule's ends."""
        log_alpha_bar = -np.logaddexp(0.0, -log_snr)
        return float(np.interp(-log_alpha_bar, -self._log_alpha_bar, np.arange(self.steps + 1)))


def linear_schedule(steps: int = 1000, *, beta_1: float = 1e-4, beta_T: float = 0.02) -> Schedule:
    """The schedule whose beta rises linearly from ``beta_1`` to ``beta_T`` (Ho et al. 2020, section 4)."""
    beta = np.linspace(beta_1, beta_T, steps, dtype=np.float64)
    return Schedule((1.0, *np.cumprod(1.0 - beta).tolist()))


def uniform_grid(schedule: Schedule, steps: int) -> tuple[float, ...]:
    """``steps`` + 1 whole times from T down to 0, as evenly spaced as possible."""
    _check_steps(schedule, steps)
    return tuple(float(math.floor(t + 0.5)) for t in np.linspace(schedule.steps, 0.0, steps + 1))


def logsnr_grid(schedule: Schedule, steps: int, *, whole: bool = False) -> tuple[float, ...]:
    """``steps`` + 1 times from T down to 0, evenly spaced in log-SNR (Lu et al. 2022, section 6).

    The log-SNR is infinite at t = 0. So the grid goes from T to t = 1, and its last time is then replaced by
    0. The last evaluation of the network is one spacing before the end.

    Parameters
    ----------
    schedule : the forward process.
    steps : evaluations of the network, at least 1.
    whole : whether to round to distinct whole times, for a network that accepts only those.
    """
    _check_steps(schedule, steps)
    ends = schedule.log_snr(schedule.steps), schedule.log_snr(1)
    times = [schedule.time_of_log_snr(value) for value in np.linspace(*ends, steps + 1)[:-1]]
    times[0] = float(schedule.steps)
    if whole:
        times = _distinct([float(round(t)) for t in times])
    return (*times, 0.0)


def _distinct(times: list[float]) -> list[float]:
    """Whole times that start at the same time, decrease strictly and stay at or above 1."""
    lifted = times.copy()
    lifted[-1] = max(lifted[-1], 1.0)
    for i in reversed(range(len(times) - 1)):
        lifted[i] = max(lifted[i], lifted[i + 1] + 1.0)
    lifted[0] = times[0]
    for i in range(1, len(times)):
        lifted[i] = min(lifted[i], lifted[i - 1] - 1.0)
    return lifted


def _check_steps(schedule: Schedule, steps: int) -> None:
    if not 1 <= steps <= schedule.steps:
        raise UsageError("number of sampling steps", got=steps, expected=f"1 to {schedule.steps}")
