"""The closed form's features, its mean, its residual's size and its components."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spectile.model.closed.closed_form import COLOUR_FEATURES, ClosedForm, colour_features


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3))
def test_features_are_finite_and_bounded_for_any_input(rgb: list[float]) -> None:
    features = colour_features(torch.tensor(rgb).reshape(1, 3, 1, 1))
    assert torch.isfinite(features).all()
    assert features.abs().max() <= 1.5**2


def test_the_root_polynomials_scale_with_exposure() -> None:
    rgb = torch.rand(1, 3, 4, 4) * 0.4
    assert torch.allclose(colour_features(2 * rgb)[:, :13], 2 * colour_features(rgb)[:, :13], atol=1e-6)


def test_the_basis_holds_the_residual_in_order_of_its_deviation() -> None:
    closed = ClosedForm(3, 5)
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(5, 5, generator=generator))[0]
    residual = torch.randn(20000, 2, generator=generator) * torch.tensor([0.3, 0.05]) @ directions[:, :2].T
    features = torch.rand(20000, 3, generator=generator)
    closed.fit(features, features @ torch.rand(3, 5) + residual, ridge=1e-9, generator=generator)
    diffused = closed.basis[:, :2]
    first, second = diffused.norm(dim=0)
    assert first / second == pytest.approx(6.0, rel=0.05)
    assert torch.allclose(closed.basis.T @ closed.basis, torch.diag(closed.basis.square().sum(0)), atol=1e-6)
    white = torch.linalg.lstsq(diffused, residual.T).solution
    spread = white @ white.T / 20000
    # White but for one factor: the scatter of a multivariate t is not the covariance of a normal law.
    assert 0.4 < spread[0, 0] < 2.5
    assert torch.allclose(spread / spread[0, 0], torch.eye(2), atol=0.1)


def test_rare_spikes_do_not_set_the_scale_of_the_basis() -> None:
    forms = [ClosedForm(3, 5) for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    features, residual = torch.rand(20000, 3), 0.01 * torch.randn(20000, 5, generator=generator)
    spiked = residual.clone()
    spiked[::500] *= 50.0
    scales = []
    for closed, error in zip(forms, (residual, spiked), strict=True):
        closed.fit(features, features @ torch.ones(3, 5) + error, ridge=1e-9, generator=generator)
        scales.append(float(closed.basis[:, :1].norm()))
    # A plain covariance would be 2.4 times as wide.
    assert scales[1] < 1.25 * scales[0]


def test_the_expected_size_follows_the_colour() -> None:
    closed = ClosedForm(3, 5)
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(20000, 3, generator=generator)
    error = features[:, :1] * torch.randn(20000, 5, generator=generator) * 0.1
    closed.fit(features, features @ torch.ones(3, 5) + error, ridge=1e-9, generator=generator)
    probe = torch.tensor([[0.2, 0.5, 0.5], [0.8, 0.5, 0.5]]).T[None, :, :, None]
    small, large = closed.prepare(probe).size.flatten()
    assert large / small == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize("kernels", [0, 16])
def test_a_mean_in_chunks_is_the_mean_at_once(kernels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    colours, targets = (
        torch.rand(2000, 3, generator=generator) * 0.5,
        torch.rand(2000, 4, generator=generator),
    )
    closed = ClosedForm(COLOUR_FEATURES, 4, kernels)
    closed.fit(colour_features(colours), targets, ridge=1e-5, generator=generator)
    features = colour_features(torch.rand(2, 3, 64, 64, generator=generator) * 0.5)
    whole = closed.prepare(features)
    pixel = closed.prepare(features[:, :, 60:61, 7:8])
    for name in ("mean", "size", "condition"):
        part = getattr(whole, name)[:, :, 60:61, 7:8]
        assert torch.allclose(part, getattr(pixel, name), atol=1e-5), name
    assert whole.condition.shape[1] == closed.condition_channels
