"""The published values of HSR-Diff, and configurations that cannot be."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from spectile.catalog.errors import UsageError
from spectile.model.hsr_diff.preset import HsrDiffConfig, HsrDiffTraining, Phase, hsr_diff_paper
from tests.model.hsr_diff.fusions import tiny_config


def test_fixed_values_are_those_published() -> None:
    preset = hsr_diff_paper()
    assert (preset.network.width, preset.timesteps, preset.steps) == (256, 2000, 100)
    assert (len(preset.bands), preset.pair.ratio, preset.pair.snr_db) == (103, 4, None)
    training = preset.training
    assert training.learning_rate == 1e-4
    assert [(phase.size, phase.batch) for phase in training.phases] == [(64, 4), (128, 4)]
    assert (training.msi_weight, training.hsi_weight) == (1.0, 1.0)
    assert preset.variance == "beta"


def test_the_psf_is_as_wide_as_a_coarse_pixel() -> None:
    assert hsr_diff_paper().pair.psf_sigma == pytest.approx(4 / 2.355, rel=1e-3)


def test_a_configuration_survives_json() -> None:
    config = tiny_config()
    assert HsrDiffConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_phases_follow_each_other() -> None:
    training = HsrDiffTraining(phases=(Phase(16, 4, 10), Phase(32, 2, 5)))
    assert [training.phase_of(step).size for step in (0, 9, 10, 14)] == [16, 16, 32, 32]
    assert (training.steps, training.crop) == (15, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 2001}, "solver steps"),
        ({"beta_1": 0.5, "beta_T": 0.1}, "schedule"),
        ({"training": HsrDiffTraining(phases=(Phase(10, 1, 1),))}, "patches do not fit"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(tiny_config(), **changes)
