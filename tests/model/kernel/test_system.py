"""The kernel regression by its kind."""

from __future__ import annotations

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.model.kernel.config import KernelConfig
from spectile.model.kernel.system import SYSTEM


def test_the_configuration_is_read_from_the_facts_of_a_checkpoint() -> None:
    config = KernelConfig(VNIR48, RGB_CAMERA, kernels=4, components=2)
    assert SYSTEM.config({"preset": config.to_json()}) == config
    assert SYSTEM.build(config).config == config
