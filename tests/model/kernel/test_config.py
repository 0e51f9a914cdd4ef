"""What a kernel ridge regression is, as JSON and back."""

from __future__ import annotations

import pytest

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.catalog.errors import UsageError
from spectile.model.kernel.config import KernelConfig


def test_a_configuration_survives_json_and_says_what_steps_give() -> None:
    config = KernelConfig(VNIR48, RGB_CAMERA, degree=2, kernels=8, components=3)
    assert KernelConfig.from_json(config.to_json()) == config
    assert (config.estimate(1), config.estimate(2)) == ("posterior mean", "sample")


def test_more_components_than_bands_are_refused() -> None:
    with pytest.raises(UsageError, match="components of the residual"):
        KernelConfig(VNIR48.subset(range(4)), RGB_CAMERA, components=5)


@pytest.mark.parametrize("damage", [{"bands": 3}, {"degree": "two"}, {"kernels": -1}])
def test_damaged_configurations_are_refused(damage: dict[str, object]) -> None:
    value = {**KernelConfig(VNIR48, RGB_CAMERA).to_json(), **damage}
    with pytest.raises((ValueError, UsageError)):
        KernelConfig.from_json(value)
