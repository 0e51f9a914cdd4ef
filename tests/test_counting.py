"""What ``benchmarks/shared/counting.py`` counts, against sums by hand."""

from __future__ import annotations

import pytest
import torch

from benchmarks.shared.counting import multiply_adds


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (lambda x: x[:, :4].T @ x, 4 * 64 * 64),
        (lambda x: torch.einsum("ab,cb->ac", x, x[:3]), 64 * 3 * 64),
        (torch.fft.fft2, 2.5 * 64**2 * 12),
        (lambda x: x * 2.0 + 1.0, 64**2),
        (lambda x: torch.softmax(x, 0), 0),
    ],
    ids=["matrix product", "einsum", "Fourier transform", "single values", "softmax"],
)
def test_operations_are_counted_as_by_hand(compute, expected):
    x = torch.ones(64, 64)
    with torch.inference_mode():
        assert multiply_adds(lambda: compute(x)) == expected


def test_both_products_of_a_gradient_are_counted():
    x, weight = (torch.ones(size, requires_grad=True) for size in ((16, 8), (8, 8)))
    product = 16 * 8 * 8
    assert 3 * product <= multiply_adds(lambda: (x @ weight).sum().backward()) < 3.2 * product
