"""The parts of a training run that stand alone; what a kill leaves is in test_killed_training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spectile.catalog.bands import VNIR48
from spectile.catalog.errors import CheckpointError
from spectile.model.data.crops import TrainingScene
from spectile.model.facts import FILE
from spectile.model.training.run import STATE, check_folder, generator_of, scene_facts


def test_a_generator_depends_on_every_part_of_its_key() -> None:
    keys = [(0, 0), (0, 1), (1, 0), (1, 1)]
    drawn = [float(torch.rand(1, generator=generator_of(*key))) for key in keys]
    assert len(set(drawn)) == len(keys)
    assert drawn == [float(torch.rand(1, generator=generator_of(*key))) for key in keys]


def test_a_folder_with_a_checkpoint_of_somebody_else_is_refused(tmp_path: Path) -> None:
    check_folder(tmp_path / "new")
    (tmp_path / FILE).touch()
    with pytest.raises(CheckpointError, match="no state of its training"):
        check_folder(tmp_path)
    (tmp_path / STATE).touch()
    check_folder(tmp_path)


def test_the_facts_of_a_scene_change_with_its_values_its_mask_and_its_weight() -> None:
    cube, valid = np.full((48, 4, 5), 0.2, np.float32), np.ones((4, 5), bool)
    brighter, masked = cube.copy(), valid.copy()
    brighter[7, 2, 3] += 0.1
    masked[0, 0] = False
    scenes = [
        TrainingScene("scene", cube, VNIR48, valid),
        TrainingScene("scene", brighter, VNIR48, valid),
        TrainingScene("scene", cube, VNIR48, masked),
        TrainingScene("scene", cube, VNIR48, valid, 2.0),
    ]
    facts = [repr(fact) for fact in scene_facts(scenes)]
    assert len(set(facts)) == 4
    assert repr(scene_facts(scenes[:1])[0]) == facts[0]
