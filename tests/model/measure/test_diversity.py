"""The diversity scores are those of the paper on cases that can be worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from spectile.catalog.errors import CheckpointError
from spectile.model import checkpoint
from spectile.model.measure.diversity import (
    KIND,
    SpectralClassifier,
    load_classifier,
    multiple_diversity,
    nearest_distance,
    spectral_diversity,
    spectral_fid,
    spread_for,
)


def test_equal_samples_have_no_diversity_and_certain_disagreement_has_all() -> None:
    certain = np.eye(4)[[0, 1, 2, 3]]  # four pixels
    assert multiple_diversity(np.stack([certain] * 3)) == pytest.approx(1.0)
    disagreeing = np.stack([np.eye(4)[[k, k]] for k in range(4)])  # four samples of two pixels
    assert multiple_diversity(disagreeing) == pytest.approx(4.0)
    assert multiple_diversity(disagreeing[:2]) == pytest.approx(2.0)


def test_a_class_counts_by_its_own_pixels_and_an_empty_one_as_one() -> None:
    shares = np.array([[0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [0.2, 0.8, 0.0]])  # the second is of class 0
    q = np.array([0.7, 0.3])
    p = np.array([[0.9, 0.1], [0.5, 0.5]])
    first = math.exp((p * np.log(p / q)).sum(1).mean())
    assert spectral_diversity(shares) == pytest.approx((first + 1.0 + 1.0) / 3)


def test_the_spectral_fid_of_gaussians_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(0.0, 1.0, (200_000, 2))
    two = rng.normal(0.0, 1.0, (200_000, 2)) * [2.0, 1.0] + [0.5, 0.0]
    # (0.5)² of the means, (2 − 1)² of the deviations
    assert spectral_fid(one, two) == pytest.approx(1.25, abs=0.02)
    assert spectral_fid(one, one) == pytest.approx(0.0, abs=1e-5)


def test_the_nearest_known_spectrum_is_the_nearest() -> None:
    known = np.array([[0.0, 0.0], [1.0, 1.0]])
    assert nearest_distance(np.array([[0.1, 0.1], [1.0, 1.0]]), known) == pytest.approx([0.1, 0.0])


def test_samples_are_widened_until_one_errs_by_what_is_asked() -> None:
    rng = np.random.default_rng(0)
    truth, samples = rng.normal(size=(3, 40)), rng.normal(size=(5, 3, 40))
    factor = spread_for(truth, samples, 2.0)
    assert factor is not None
    mean = samples.mean(0)
    wide = mean + factor * (samples - mean)
    assert math.sqrt(np.square(wide - truth).mean()) == pytest.approx(2.0)
    assert spread_for(truth, samples, 0.1) is None


def test_a_classifier_learns_shapes_and_not_brightness_and_survives_its_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, nm = SpectralClassifier(20, 2), torch.linspace(0.0, 1.0, 20)
    shapes = torch.stack([0.2 + 0.5 * nm, 0.7 - 0.5 * nm])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(40):
        label = torch.arange(64) % 2
        bright = 0.3 + torch.rand(64, 1, generator=torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(shapes[label] * bright), label).backward()
        optimiser.step()
    spectra = (shapes * 0.1).numpy()
    shares = model.shares(spectra)
    assert shares.argmax(1).tolist() == [0, 1]
    assert np.allclose(shares, model.shares(spectra * 5.0), atol=1e-6)
    facts = {"name": "two", "kind": KIND, "preset": {"bands": 20, "classes": ["up", "down"]}}
    checkpoint.save(tmp_path, model.state_dict(), facts)
    assert np.array_equal(load_classifier(checkpoint.load(tmp_path)).shares(spectra), shares)


def test_another_checkpoint_is_no_classifier() -> None:
    with pytest.raises(CheckpointError, match="not a classifier"):
        load_classifier(checkpoint.load("vnir48-rgb"))
