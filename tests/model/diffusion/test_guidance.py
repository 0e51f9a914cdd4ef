import torch

from spectile.model.diffusion.guidance import drop_condition, guide, null_condition


def test_guidance_moves_away_from_the_unconditional_prediction() -> None:
    conditional, unconditional = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])
    assert guide(conditional, unconditional, 2.0).tolist() == [2.0, 0.0]
    assert torch.equal(guide(conditional, unconditional, 0.0), conditional)


def test_guidance_is_the_code_s_extrapolation_from_the_unconditional() -> None:
    conditional, unconditional = torch.randn(2, 100, generator=torch.Generator().manual_seed(0))
    expected = unconditional + (2.5 + 1.0) * (conditional - unconditional)
    torch.testing.assert_close(guide(conditional, unconditional, 2.5), expected)


def test_conditions_are_dropped_whole_and_as_often_as_asked() -> None:
    condition = torch.ones(10_000, 3, 2, 2)
    kept = drop_condition(condition, 0.1, generator=torch.Generator().manual_seed(0)).flatten(1)
    dropped = (kept == 0).all(dim=1)
    assert torch.equal(dropped, (kept == 0).any(dim=1))
    # Binomial sd is 0.003.
    assert abs(float(dropped.float().mean()) - 0.1) < 0.015
    assert torch.equal(condition, torch.ones(10_000, 3, 2, 2))


def test_no_condition_is_dropped_at_probability_zero_and_every_one_at_one() -> None:
    condition = torch.ones(50, 1, 1, 1)
    assert torch.equal(drop_condition(condition, 0.0, generator=torch.Generator()), condition)
    assert torch.equal(drop_condition(condition, 1.0, generator=torch.Generator()), null_condition(condition))
