"""Every rung learns, repeats itself, and chooses on validation pixels alone."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pytest

from spectile.model.closed.regressions import Floats, NormalEquations, polynomial
from spectile.model.measure.ladder import (
    CLOSED_FORM,
    Fit,
    Fitted,
    fit_neighbours,
    join,
    rmse,
    root_polynomial,
)
from spectile.model.measure.ladder_networks import STEPS, trained


def _scene(seed: int, width: int = 24, bands: int = 12) -> tuple[Floats, Floats]:
    """Mixtures of three smooth spectra; the input is bands 9, 5 and 1."""
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 1, bands)[:, None]
    spectra = np.exp(-((at - np.array([0.1, 0.5, 0.9])) ** 2) / 0.1) + 0.1
    amount = rng.uniform(0.05, 0.5, (3, 16, width)).astype(np.float32)
    cube = np.tensordot(spectra, amount, 1).astype(np.float32)
    return cube[[9, 5, 1]], cube


TRAIN, VAL, TEST = _scene(0), _scene(1), _scene(2)
RUNGS: dict[str, Fit] = CLOSED_FORM | {name: trained(name, steps=4) for name in STEPS}


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ladder_regression", "ladder_networks"):
        monkeypatch.setattr(f"spectile.model.measure.{module}.BATCH", 2)


@cache
def fitted(name: str) -> Fitted:
    """A rung that is fitted once for the tests."""
    return RUNGS[name](*TRAIN, *VAL, seed=3)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "hyperldm" else name for name in RUNGS]
)
def test_a_rung_gives_a_finite_cube_and_the_same_one_again(name: str) -> None:
    first, second = (fit.predict(TEST[0]) for fit in (fitted(name), RUNGS[name](*TRAIN, *VAL, seed=3)))
    assert first.shape == TEST[1].shape
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", ["ridge", "polynomial_2", "regression", "cascade"])
def test_a_rung_with_a_linear_part_solves_a_linear_scene(name: str) -> None:
    estimate = fitted(name).predict(TEST[0])
    assert rmse(estimate, TEST[1]) < 0.05 * rmse(np.full_like(TEST[1], TEST[1].mean()), TEST[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "hscnn_plus", "mst_plus_plus"])
def test_a_network_learns_from_colour_more_than_the_mean(name: str) -> None:
    estimate = trained(name, steps=24)(*TRAIN, *VAL, seed=0).predict(TEST[0])
    mean = CLOSED_FORM["mean"](*TRAIN, *VAL, seed=0).predict(TEST[0])
    assert rmse(estimate, TEST[1]) < 0.8 * rmse(mean, TEST[1])


def test_the_mean_is_that_of_training_and_validation_together() -> None:
    estimate = CLOSED_FORM["mean"](*TRAIN, *VAL, seed=0).predict(TEST[0])
    both = join(TRAIN[1], VAL[1])
    np.testing.assert_allclose(estimate[:, 0, 0], both.mean((1, 2)), rtol=1e-5)


def test_polynomials_have_the_terms_of_their_degree() -> None:
    rgb = np.array([[0.2, 0.3, 0.5]], dtype=np.float32)
    assert [polynomial(rgb, degree=d).shape[1] for d in (1, 2, 3, 4)] == [4, 10, 20, 35]
    # Finlayson et al. 2015, 3, 6, 13 and 22 roots, here with a constant.
    assert [root_polynomial(rgb, degree=d).shape[1] for d in (1, 2, 3, 4)] == [4, 7, 14, 23]


def test_root_polynomials_are_proportional_to_exposure() -> None:
    rgb = np.random.default_rng(0).uniform(0.1, 1, (5, 3)).astype(np.float32)
    np.testing.assert_allclose(
        root_polynomial(3 * rgb, degree=4)[:, 1:], 3 * root_polynomial(rgb, degree=4)[:, 1:], rtol=1e-5
    )


def test_the_lookup_is_the_mean_of_the_nearest_by_brute_force() -> None:
    model = fit_neighbours(*TRAIN, *VAL, seed=0)
    colours = join(TRAIN[0], VAL[0]).reshape(3, -1).T
    spectra = join(TRAIN[1], VAL[1]).reshape(len(TRAIN[1]), -1).T
    distance = np.linalg.norm(colours - TEST[0][:, 3, 4], axis=1)
    expected = spectra[np.argsort(distance)[: model.chosen["k"]]].mean(axis=0)
    np.testing.assert_allclose(model.predict(TEST[0])[:, 3, 4], expected, rtol=1e-5)


def test_errors_from_moments_are_those_of_predicting_every_pixel() -> None:
    features = partial(polynomial, degree=2)
    rgb, spectra = (part.reshape(len(part), -1).T for part in TRAIN)
    weight = np.random.default_rng(0).normal(size=(10, spectra.shape[1]))
    squared = np.square(features(rgb) @ weight - spectra.astype(np.float64)).sum(axis=1).mean()
    unchanged = np.square(spectra.astype(np.float64)).sum(axis=1).mean()
    normal = NormalEquations(features(rgb.astype(np.float64)), spectra)
    assert normal.error(weight) == pytest.approx(squared - unchanged)


def test_what_is_chosen_depends_on_validation() -> None:
    rng = np.random.default_rng(0)
    noisy = (TRAIN[1] + rng.normal(0, 0.3, TRAIN[1].shape)).astype(np.float32)
    clean = fit_neighbours(TRAIN[0], noisy, *VAL, seed=0).chosen["k"]
    memorised = fit_neighbours(TRAIN[0], noisy, TRAIN[0], noisy, seed=0).chosen["k"]
    assert memorised == 1 < clean
