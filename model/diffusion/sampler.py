"""Samplers: functions from a denoiser, a schedule and noise to a sample of x_0.

All share one form. ``denoise(x_t, t)`` estimates x_0 from a state; ``times`` falls from T to 0 and the
denoiser is evaluated at each time but the last; ``draw(0)`` is x_T and ``draw(i)`` the noise added in
the i-th step, standard normal. The step to t = 0 returns the estimate itself, so ``times = (T, 0)``
returns the posterior mean at t = T.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor

from spectile.model.diffusion.schedule import Schedule

Denoiser = Callable[[Tensor, float], Tensor]
Draw = Callable[[int], Tensor]
Variance = Literal["beta", "posterior"]


def ancestral(
    denoise: Denoiser,
    schedule: Schedule,
    *,
    times: Sequence[float],
    draw: Draw,
    truncate: Denoiser | None = None,
    variance: Variance = "beta",
) -> Tensor:
    """A sample by the reverse Markov chain (Ho et al. 2020, algorithm 2).

    The variance of a step is beta_t, or with ``posterior`` that of q(x_s | x_t, x_0), its lower bound (same,
    section 3.2).

    Written with x_0 in place of eps, which is the same mean (SCDM, equation 9), and for any two times
    t > s: beta = 1 - alpha_bar_t / alpha_bar_s (Nichol and Dhariwal 2021, section 4).
    ``truncate(x_t, t)``, if given, replaces each state before it is used. ``variance`` may be that of the
    posterior of the state given x_0 instead, beta (1 - alpha_bar_s) / (1 - alpha_bar_t) (same, equation 7).
    """
    x = draw(0)
    for i, (t, s) in enumerate(pairwise(times), start=1):
        if truncate is not None:
            x = truncate(x, t)
        x_0 = denoise(x, t)
        if s == 0:
            return x_0
        alpha_bar_t, alpha_bar_s = schedule.alpha_bar_at(t), schedule.alpha_bar_at(s)
        beta = 1.0 - alpha_bar_t / alpha_bar_s
        weight_0 = math.sqrt(alpha_bar_s) * beta / (1.0 - alpha_bar_t)
        weight_t = math.sqrt(1.0 - beta) * (1.0 - alpha_bar_s) / (1.0 - alpha_bar_t)
        spread = beta if variance == "beta" else beta * (1.0 - alpha_bar_s) / (1.0 - alpha_bar_t)
        x = weight_0 * x_0 + weight_t * x + math.sqrt(spread) * draw(i)
    raise AssertionError("times must end at 0")


def dpm_solver_pp_2m(denoise: Denoiser, schedule: Schedule, *, times: Sequence[float], draw: Draw) -> Tensor:
    """A sample by DPM-Solver++(2M) (Lu et al. 2022, "DPM-Solver++", algorithm 2); only x_T is drawn.

    lambda = ln(a / s) is half the log-SNR. The first step has no history and the last goes to infinite
    lambda: both are first order, the last because extrapolating there is unstable (same, section 5.2).
    """
    x = draw(0)
    before: Tensor | None = None
    h_before = 0.0
    for t, s in pairwise(times):
        x_0 = denoise(x, t)
        if s == 0:
            return x_0
        alpha_bar_t, alpha_bar_s = schedule.alpha_bar_at(t), schedule.alpha_bar_at(s)
        h = 0.5 * (schedule.log_snr(s) - schedule.log_snr(t))
        estimate = x_0
        if before is not None:
            half_over_r = 0.5 * h / h_before
            estimate = (1.0 + half_over_r) * x_0 - half_over_r * before
        ratio = math.sqrt((1.0 - alpha_bar_s) / (1.0 - alpha_bar_t))
        x = ratio * x - math.sqrt(alpha_bar_s) * math.expm1(-h) * estimate
        before, h_before = x_0, h
    raise AssertionError("times must end at 0")
