"""The solver against dense matrices."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from spectile.model.data.degrade import taps
from spectile.model.fusion.solve import Solver

SHAPE, RATIO, SIGMA = (16, 12), 4, (1.7, 1.2)


def _circulant(side: int, sigma: float) -> NDArray[np.float64]:
    """(side / ratio, side): blur and decimation around a ring."""
    first, weight = taps(RATIO, sigma)
    matrix = np.zeros((side // RATIO, side))
    for row in range(side // RATIO):
        for tap, value in enumerate(weight):
            matrix[row, (RATIO * row + first + tap) % side] += value
    return matrix


def _covariance(colour: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, P) the covariance of a periodic field with a power spectrum."""
    lags = np.fft.ifft2(colour).real
    rows = [np.roll(lags, (i, j), (0, 1)).ravel() for i in range(SHAPE[0]) for j in range(SHAPE[1])]
    return np.array(rows)


def test_the_correction_is_the_conditional_mean_of_a_gaussian_field() -> None:
    solver = Solver.of(SHAPE, RATIO, SIGMA, ranges=(4.0,), dtype=torch.float64)
    variances = torch.tensor([[0.3, 0.7], [0.2, 0.0]], dtype=torch.float64)
    noise = torch.tensor([0.05, 0.01], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    missing = torch.randn((2, 4, 3), generator=generator, dtype=torch.float64)
    got = solver.correct(missing, variances, noise).numpy()
    forward = np.kron(*(_circulant(side, sigma) for side, sigma in zip(SHAPE, SIGMA, strict=True)))
    for one in range(2):
        spectrum = (variances[one, :, None, None] * solver.colours).sum(0).numpy()
        prior = _covariance(spectrum)
        gain = prior @ forward.T @ np.linalg.inv(forward @ prior @ forward.T + float(noise[one]) * np.eye(12))
        np.testing.assert_allclose(got[one].ravel(), gain @ missing[one].numpy().ravel(), atol=1e-10)


def test_coarsening_is_the_blur_and_the_decimation() -> None:
    solver = Solver.of(SHAPE, RATIO, SIGMA, dtype=torch.float64)
    field = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows, cols = (_circulant(side, sigma) for side, sigma in zip(SHAPE, SIGMA, strict=True))
    np.testing.assert_allclose(solver.coarsen(field), rows @ field.numpy() @ cols.T, atol=1e-12)


def test_without_noise_the_corrected_estimate_has_the_coarse_image() -> None:
    solver = Solver.of(SHAPE, RATIO, SIGMA, dtype=torch.float64)
    missing = torch.randn((1, 4, 3), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    one = torch.ones((1, 1), dtype=torch.float64)
    added = solver.correct(missing, one, torch.zeros(1, dtype=torch.float64))
    np.testing.assert_allclose(solver.coarsen(added), missing, atol=1e-8)


def test_coloured_noise_has_the_covariance_that_the_solver_takes() -> None:
    solver = Solver.of((64, 64), RATIO, SIGMA, ranges=(3.0,))
    white = torch.randn((2, 50, 64, 64), generator=torch.Generator().manual_seed(3))
    field = solver.colour(white, torch.tensor([0.5, 1.5]))
    assert abs(float(field.var()) - 2.0) < 0.05
    spectrum = (0.5 * solver.colours[0] + 1.5 * solver.colours[1])[None]
    lag = float(torch.fft.ifft2(spectrum).real[0, 0, 1])
    assert abs(float((field[..., 1:] * field[..., :-1]).mean()) - lag) < 0.05
