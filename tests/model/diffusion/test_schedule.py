import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectile.catalog.errors import UsageError
from spectile.model.diffusion.schedule import Schedule, linear_schedule, logsnr_grid, uniform_grid

SCHEDULE = linear_schedule()


def test_linear_schedule_is_that_of_ddpm() -> None:
    assert SCHEDULE.steps == 1000
    assert SCHEDULE.alpha_bar_at(1) == 1 - 1e-4
    # By the sum of logarithms, independently of the running product.
    beta = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
    assert SCHEDULE.alpha_bar_at(1000) == pytest.approx(
        math.exp(math.fsum(map(math.log1p, (-b for b in beta))))
    )
    assert SCHEDULE.alpha_bar_at(1000) == pytest.approx(4.0358e-5, rel=1e-4)


def test_hyperldm_schedule_ends_where_its_paper_says() -> None:
    assert linear_schedule(100, beta_1=0.01, beta_T=0.2).alpha_bar_at(100) == pytest.approx(
        1.255e-5, rel=1e-3
    )


def test_tensor_and_scalar_look_up_agree() -> None:
    t = torch.tensor([1, 500, 1000])
    got = SCHEDULE.alpha_bar_of(t, torch.zeros(3, 2, 4, 4, dtype=torch.float64))
    assert got.shape == (3, 1, 1, 1)
    assert got.flatten().tolist() == [SCHEDULE.alpha_bar_at(float(x)) for x in t]


@given(st.floats(0.01, 1000.0))
def test_time_of_log_snr_inverts_log_snr(t: float) -> None:
    assert SCHEDULE.time_of_log_snr(SCHEDULE.log_snr(t)) == pytest.approx(t, abs=1e-6)


@given(st.integers(1, 1000), st.booleans())
def test_logsnr_grid_falls_strictly_from_T_to_zero(steps: int, whole: bool) -> None:
    times = logsnr_grid(SCHEDULE, steps, whole=whole)
    assert len(times) == steps + 1
    assert times[0] == 1000.0
    assert times[-1] == 0.0
    assert (np.diff(times) < 0).all()
    if whole:
        assert all(t.is_integer() for t in times)


def test_logsnr_grid_is_even_in_log_snr() -> None:
    values = [SCHEDULE.log_snr(t) for t in logsnr_grid(SCHEDULE, 10)[:-1]]
    spacing = (SCHEDULE.log_snr(1) - SCHEDULE.log_snr(1000)) / 10
    np.testing.assert_allclose(np.diff(values), spacing, rtol=1e-9)


@given(st.integers(1, 1000))
def test_uniform_grid_holds_distinct_whole_times(steps: int) -> None:
    times = uniform_grid(SCHEDULE, steps)
    assert len(set(times)) == steps + 1
    assert times[0] == 1000.0
    assert times[-1] == 0.0
    assert all(t.is_integer() for t in times)


def test_uniform_grid_of_all_steps_is_every_time() -> None:
    assert uniform_grid(SCHEDULE, 1000) == tuple(float(t) for t in range(1000, -1, -1))


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_step_count_out_of_range_is_refused(steps: int) -> None:
    with pytest.raises(UsageError, match="1 to 1000"):
        logsnr_grid(SCHEDULE, steps)
    with pytest.raises(UsageError, match="1 to 1000"):
        uniform_grid(SCHEDULE, steps)


@pytest.mark.parametrize("table", [(1.0,), (0.9, 0.5), (1.0, 0.5, 0.5), (1.0, 0.0)])
def test_a_table_that_is_no_schedule_is_refused(table: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="alpha_bar"):
        Schedule(table)
