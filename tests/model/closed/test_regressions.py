"""Regressions of single pixels against what is known by hand or by brute force."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from spectile.model.closed import regressions
from spectile.model.closed.regressions import Linear, Neighbours, NormalEquations, monomials, polynomial


def test_a_polynomial_keeps_the_precision_of_its_colours_and_has_its_terms() -> None:
    rgb = np.array([[0.5, 2.0, 4.0]], dtype=np.float32)
    assert monomials(2) == [(0,), (1,), (2,), (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    values = polynomial(rgb, degree=2)
    assert values.dtype == np.float32
    assert values.tolist() == [[1.0, 0.5, 2.0, 4.0, 0.25, 1.0, 2.0, 4.0, 8.0, 16.0]]


def test_coefficients_without_a_penalty_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    regressors, spectra = rng.normal(size=(200, 4)), rng.normal(size=(200, 3)).astype(np.float32)
    regressors[:, 0] = 1.0
    normal = NormalEquations(regressors, spectra)
    expected, *_ = np.linalg.lstsq(regressors, spectra.astype(np.float64), rcond=None)
    np.testing.assert_allclose(normal.solve(0.0), expected, atol=1e-10)
    np.testing.assert_allclose(normal.solve(0.0, normal.size), expected, atol=1e-10)


def test_a_penalty_spares_the_constant() -> None:
    spectra = np.full((50, 1), 3.0, dtype=np.float32)
    regressors = np.stack([np.ones(50), np.linspace(-1.0, 1.0, 50)], axis=1)
    np.testing.assert_allclose(NormalEquations(regressors, spectra).solve(1e6), [[3.0], [0.0]], atol=1e-9)


def test_a_penalty_counts_on_scaled_regressors() -> None:
    rng = np.random.default_rng(1)
    regressors, spectra = rng.normal(size=(100, 2)), rng.normal(size=(100, 1)).astype(np.float32)
    scale = np.array([1.0, 1000.0])
    scaled = NormalEquations(regressors * scale, spectra).solve(0.5, scale)
    np.testing.assert_allclose(scaled * scale[:, None], NormalEquations(regressors, spectra).solve(0.5))


def test_a_linear_estimate_stays_at_the_edge_of_what_was_fitted() -> None:
    low, high = np.zeros(3, np.float32), np.ones(3, np.float32)
    weight = np.arange(8, dtype=np.float32).reshape(4, 2)
    model = Linear(partial(polynomial, degree=1), weight, low, high)
    inside, beyond = np.ones((3, 2, 5), np.float32), np.full((3, 2, 5), 9.0, np.float32)
    assert model.predict(inside).shape == (2, 2, 5)
    np.testing.assert_array_equal(model.predict(beyond), model.predict(inside))


@pytest.mark.parametrize("query", [1, 7, 1000])
def test_neighbours_are_those_of_brute_force_however_many_are_looked_up_at_once(
    query: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regressions, "QUERY", query)
    rng = np.random.default_rng(2)
    colours, spectra = rng.random((40, 3), np.float32), rng.random((40, 5), np.float32)
    rgb = rng.random((3, 4, 6), np.float32)
    found = Neighbours(colours, spectra, 3).predict(rgb)
    for row in range(4):
        for col in range(6):
            nearest = np.argsort(np.linalg.norm(colours - rgb[:, row, col], axis=1))[:3]
            np.testing.assert_allclose(found[:, row, col], spectra[nearest].mean(axis=0), rtol=1e-5)
