"""The structural loss is SSIM's, and the codebook's gradients go where equation 4 sends them."""

from __future__ import annotations

import pytest
import torch

from spectile.model.hyperldm.losses import codebook_losses, structural_loss
from spectile.model.measure.metrics import mssim


def test_one_scale_is_one_minus_the_ssim_of_the_evaluation() -> None:
    torch.manual_seed(0)
    truth = torch.rand(1, 3, 24, 24) * 2 - 1
    estimate = truth + 0.2 * torch.randn_like(truth)
    valid = torch.ones(1, 24, 24, dtype=torch.bool)
    expected = 1.0 - mssim(truth, estimate, valid, peak=2.0)
    # float32 here, float64 there
    assert float(structural_loss(estimate, truth)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_it_is_zero_for_the_truth_and_grows_with_the_error(scales: int) -> None:
    torch.manual_seed(0)
    truth, noise = torch.rand(1, 2, 64, 64), torch.randn(1, 2, 64, 64)
    losses = [float(structural_loss(truth + sd * noise, truth, scales=scales)) for sd in (0.0, 0.1, 0.4)]
    assert losses[0] == pytest.approx(0.0, abs=1e-5)
    assert 0.001 < losses[1] < losses[2]


def test_a_code_smaller_than_the_window_has_a_loss_too() -> None:
    truth = torch.rand(1, 2, 4, 4)
    assert float(structural_loss(truth + 0.3, truth)) > 0.01


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_one_term_moves_the_codes_and_the_other_the_encoder(kind: str) -> None:
    code, nearest = torch.zeros(1, 2, 2, 2, requires_grad=True), torch.ones(1, 2, 2, 2, requires_grad=True)
    pull, commit = codebook_losses(code, nearest, kind)  # type: ignore[arg-type]
    pull.backward()
    assert code.grad is None
    assert nearest.grad is not None
    assert bool((nearest.grad > 0).all())
    commit.backward()
    assert code.grad is not None
    assert bool((code.grad < 0).all())
    assert float(pull.detach()) == float(commit.detach()) == 1.0
