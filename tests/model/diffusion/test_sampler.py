"""Gaussian data, for which the exact denoiser and every sampler's limit are known."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from spectile.model.diffusion.sampler import Draw, ancestral, dpm_solver_pp_2m
from spectile.model.diffusion.schedule import linear_schedule, logsnr_grid, uniform_grid

SCHEDULE = linear_schedule()
MEAN = 0.7
SD = 0.4


def exact(x_t: Tensor, t: float) -> Tensor:
    """E[x_0 | x_t] for x_0 ~ N(MEAN, SD²), by conditioning of joint normals."""
    a = math.sqrt(SCHEDULE.alpha_bar_at(t))
    gain = a * SD**2 / (a**2 * SD**2 + 1 - a**2)
    return MEAN + gain * (x_t - a * MEAN)


def draws(count: int, seed: int = 0) -> Draw:
    def draw(step: int) -> Tensor:
        return torch.randn(
            count, generator=torch.Generator().manual_seed(seed + 7919 * step), dtype=torch.float64
        )

    return draw


def moments(x: Tensor) -> tuple[float, float]:
    return float(x.mean()), float(x.std())


def flow(x_T: Tensor) -> Tensor:
    """The exact end of the probability-flow ODE: it keeps a normal's standard score."""
    a = math.sqrt(SCHEDULE.alpha_bar_at(1000))
    return MEAN + SD * (x_T - a * MEAN) / math.sqrt(a**2 * SD**2 + 1 - a**2)


def worst_error(times: Sequence[float]) -> float:
    x_T = torch.linspace(-2, 2, 9, dtype=torch.float64)
    got = dpm_solver_pp_2m(exact, SCHEDULE, times=times, draw=lambda _: x_T)
    return float((got - flow(x_T)).abs().max())


def test_dpm_solver_reproduces_mean_and_spread_in_twenty_steps() -> None:
    # Solver error only, against the flow's exact end: 3 % of the standard deviation at |z| = 2.
    assert worst_error(logsnr_grid(SCHEDULE, 20)) < 0.03 * SD
    mean, sd = moments(
        dpm_solver_pp_2m(exact, SCHEDULE, times=logsnr_grid(SCHEDULE, 20), draw=draws(200_000))
    )
    assert mean == pytest.approx(MEAN, abs=0.005)
    assert sd == pytest.approx(SD, rel=0.02)


def test_ancestral_recovers_the_moments() -> None:
    mean, sd = moments(ancestral(exact, SCHEDULE, times=uniform_grid(SCHEDULE, 1000), draw=draws(20_000)))
    assert mean == pytest.approx(MEAN, abs=0.01)
    assert sd == pytest.approx(SD, rel=0.02)


def test_ancestral_step_is_that_of_the_paper() -> None:
    # SCDM, algorithm 2 line 8, in eps; ours is written in x_0.
    t, draw = 400.0, draws(100)
    alpha_bar, before = SCHEDULE.alpha_bar_at(t), SCHEDULE.alpha_bar_at(t - 1)
    beta = 1 - alpha_bar / before
    seen: list[Tensor] = []

    def denoise(x: Tensor, time: float) -> Tensor:
        seen.append(x)
        return exact(x, time)

    ancestral(denoise, SCHEDULE, times=(t, t - 1, 0.0), draw=draw)
    x = draw(0)
    eps = (x - math.sqrt(alpha_bar) * exact(x, t)) / math.sqrt(1 - alpha_bar)
    expected = (x - beta / math.sqrt(1 - alpha_bar) * eps) / math.sqrt(1 - beta) + math.sqrt(beta) * draw(1)
    torch.testing.assert_close(seen[1], expected, rtol=0, atol=1e-12)


def test_ancestral_adds_the_posteriors_variance_where_asked() -> None:
    t = 400
    states: dict[str, list[float]] = {}
    for variance in ("beta", "posterior"):
        for noise in (0.0, 1.0):

            def keep(x: Tensor, at: float, name: str = variance) -> Tensor:
                states.setdefault(name, []).append(float(x))
                return x

            ancestral(
                exact, SCHEDULE, times=(t, t - 1, 0.0), truncate=keep, variance=variance,  # type: ignore[arg-type]
                draw=lambda i, noise=noise: torch.full((1,), noise if i else 0.3, dtype=torch.float64),
            )  # fmt: skip
    sd = {name: seen[3] - seen[1] for name, seen in states.items()}
    a_t, a_s = SCHEDULE.alpha_bar_at(t), SCHEDULE.alpha_bar_at(t - 1)
    beta = 1.0 - a_t / a_s
    assert sd["beta"] == pytest.approx(math.sqrt(beta))
    assert sd["posterior"] == pytest.approx(math.sqrt(beta * (1.0 - a_s) / (1.0 - a_t)))


def test_ancestral_truncates_the_state_before_using_it() -> None:
    def truncate(x: Tensor, t: float) -> Tensor:
        return x.clamp(-0.5, 0.5)

    def clamped(step: int) -> Tensor:
        value = draws(100)(step)
        return value.clamp(-0.5, 0.5) if step == 0 else value

    times = (900.0, 300.0, 0.0)
    got = ancestral(lambda x, t: x, SCHEDULE, times=times, draw=draws(100), truncate=truncate)
    # The last estimate is the (clamped) state itself; the first step is that of a clamped x_T.
    plain = ancestral(lambda x, t: x, SCHEDULE, times=times, draw=clamped)
    torch.testing.assert_close(got, plain.clamp(-0.5, 0.5))


def test_the_error_of_dpm_solver_falls_with_the_square_of_the_step() -> None:
    # Stop at a fixed log-SNR, with the exact denoiser for the last step: the error is the solver's own.
    def error(steps: int) -> float:
        ends = SCHEDULE.log_snr(1000), 2.0
        values = torch.linspace(*ends, steps + 1, dtype=torch.float64).tolist()
        times = [1000.0, *(SCHEDULE.time_of_log_snr(v) for v in values[1:]), 0.0]
        states: list[Tensor] = []

        def denoise(x: Tensor, t: float) -> Tensor:
            states.append(x)
            return exact(x, t)

        x_T = torch.linspace(-2, 2, 9, dtype=torch.float64)
        dpm_solver_pp_2m(denoise, SCHEDULE, times=times, draw=lambda _: x_T)
        a = math.sqrt(SCHEDULE.alpha_bar_at(times[-2]))
        a_T = math.sqrt(SCHEDULE.alpha_bar_at(1000))
        score = (x_T - a_T * MEAN) / math.sqrt(a_T**2 * SD**2 + 1 - a_T**2)
        truth = a * MEAN + math.sqrt(a**2 * SD**2 + 1 - a**2) * score
        return float((states[-1] - truth).abs().max())

    measured = math.log2(error(80) / error(160))
    assert measured == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize("sampler", [ancestral, dpm_solver_pp_2m])
def test_one_step_is_exactly_the_estimate_at_T(sampler: Callable[..., Tensor]) -> None:
    def denoise(x: Tensor, t: float) -> Tensor:
        assert t == 1000.0
        return x.sin()

    got = sampler(denoise, SCHEDULE, times=logsnr_grid(SCHEDULE, 1), draw=draws(50))
    assert torch.equal(got, draws(50)(0).sin())


def test_the_deterministic_sampler_draws_only_the_first_state() -> None:
    asked: list[int] = []

    def draw(step: int) -> Tensor:
        asked.append(step)
        return torch.zeros(3)

    dpm_solver_pp_2m(exact, SCHEDULE, times=logsnr_grid(SCHEDULE, 5), draw=draw)
    assert asked == [0]
