import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spectile.model.diffusion.truncation import percentile, quantile, truncate


def test_percentile_rises_from_p_T_to_one_as_in_the_code() -> None:
    table = np.linspace(0.96, 1.0, 1000)[::-1]  # indexed by t - 1
    for t in (1, 2, 500, 1000):
        assert percentile(float(t), steps=1000, p_T=0.96) == pytest.approx(table[t - 1])


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=40), st.floats(0.0, 1.0))
@settings(deadline=None)
def test_quantile_is_numpy_s(values: list[float], share: float) -> None:
    got = quantile(torch.tensor([values]), share)
    expected = np.quantile(np.asarray(values, dtype=np.float64), share)
    assert float(got) == pytest.approx(float(expected), rel=1e-5, abs=1e-4)


def test_quantile_works_beyond_the_limit_of_torch() -> None:
    count = 2**24 + 3
    values = torch.arange(count, dtype=torch.float64).flip(0)[None]
    assert float(quantile(values, 0.96)) == pytest.approx(0.96 * (count - 1), abs=1e-6)


def test_each_image_has_its_own_threshold() -> None:
    quiet, loud = torch.full((1, 2, 5, 5), 0.3), torch.linspace(-10, 10, 50).reshape(1, 2, 5, 5)
    got = truncate(torch.cat([quiet, loud]), 0.9)
    assert torch.equal(got[:1], quiet)
    limit = float(np.quantile(loud.abs().numpy(), 0.9))
    torch.testing.assert_close(got[1:], loud.clamp(-limit, limit))


def test_the_threshold_is_never_below_one() -> None:
    x = torch.cat([torch.zeros(99), torch.tensor([5.0])]).reshape(1, 1, 10, 10)
    assert truncate(x, 0.5).max() == 1.0


def test_all_values_stay_at_the_last_step() -> None:
    x = torch.linspace(-7, 9, 64).reshape(1, 4, 4, 4)
    assert torch.equal(truncate(x, percentile(1.0, steps=1000, p_T=0.88)), x)


def test_the_threshold_of_half_precision_is_taken_in_single() -> None:
    x = torch.linspace(-7, 9, 64).reshape(1, 4, 4, 4)
    torch.testing.assert_close(truncate(x.bfloat16(), 0.9).float(), truncate(x, 0.9), rtol=0.01, atol=0.01)
