"""A closed form is chosen on groups that are left out, and knows its coefficients without each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.catalog.errors import UsageError
from spectile.model.closed.closed_form import COLOUR_FEATURES, ClosedForm, Coefficients, colour_features
from spectile.model.closed.places import Fit, Group, complete_groups, draw_groups, fit_by_places
from spectile.model.data.crops import CropSource
from tests.model.kernel.places import place


def drawn(*scenes) -> list[Group]:
    source = CropSource(scenes, VNIR48, RGB_CAMERA)
    return complete_groups(draw_groups(source, None, seed=0, crop=16, crops=20))


def fitted(groups: list[Group]) -> tuple[ClosedForm, Fit, dict[str, torch.Tensor]]:
    closed = ClosedForm(COLOUR_FEATURES, 48, kernels=12)
    features = {group.name: colour_features(group.values) for group in groups}
    generator = torch.Generator().manual_seed(0)
    return closed, fit_by_places(closed, groups, features, [3, COLOUR_FEATURES], generator), features


def test_groups_are_places_or_what_names_begin_with_and_share_by_weight() -> None:
    libraries = [place("", seed) for seed in (3, 4)]
    groups = drawn(place("one", 0), place("one", 1), place("two", 2), *libraries)
    assert {group.name: round(group.share, 3) for group in groups} == {"one": 0.4, "two": 0.2, "": 0.4}
    assert [group.is_place for group in groups] == [True, True, False]
    assert all(len(group.values) == len(group.spectra) for group in groups)


def test_what_a_group_gets_without_itself_is_the_fit_of_the_others() -> None:
    scenes = [place("one", 0), place("two", 1, edge=0.7), place("three", 2, edge=1.2)]
    closed, fit, features = fitted(drawn(*scenes))
    for name, (own, left_out) in fit.errors.items():
        assert 0.0 < own < left_out, name
    weights = fit.without["three"].T.float()
    row, constant = closed.weight[-1:], closed.bias[-1:]
    given = Coefficients(torch.cat([weights[:, 1:], row])[None], torch.cat([weights[:, 0], constant])[None])
    pixels = features["three"][:200].T[None, :, :, None]
    (ours, size), support = closed.expect(pixels), closed.support(pixels)
    others, _ = closed.expect(pixels, given)
    truth = drawn(*scenes)[2].spectra[:200].T[None, :, :, None]
    assert float((others - truth).square().mean()) > float((ours - truth).square().mean())
    assert size.shape == support.shape == (1, 1, 200, 1)


def test_support_is_near_one_at_colours_of_training_and_gone_far_from_them() -> None:
    groups = drawn(place("one", 0), place("two", 1))
    closed, _, features = fitted(groups)
    near = closed.support(features["one"][:300].T[None, :, :, None])
    far = colour_features(torch.tensor([1.4, 0.0, 1.4])[None, :, None, None])
    assert float(near.median()) > 0.6
    assert float(closed.support(far)) < 1e-3


def test_one_group_has_the_least_penalty_and_is_not_left_out() -> None:
    _, fit, _ = fitted(drawn(place("one", 0)))
    assert fit.choice.share == 1.0
    own, left_out = fit.errors["one"]
    assert own == pytest.approx(left_out)
    assert torch.equal(fit.weights, fit.without["one"])


def test_groups_that_all_lack_a_band_are_refused() -> None:
    with pytest.raises(UsageError, match="every band"):
        drawn(place("one", 0, first=2), place("two", 1, first=5))


def test_bands_can_be_chosen() -> None:
    (group,) = drawn(place("one", 0))
    part = group.of_bands((0, 4, 8))
    assert torch.equal(part.spectra, group.spectra[:, [0, 4, 8]])
    np.testing.assert_array_equal(part.known, np.ones(3))
