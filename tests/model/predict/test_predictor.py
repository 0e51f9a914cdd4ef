"""A model's name becomes its predictor, or one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spectile.catalog.calibration import Calibration
from spectile.catalog.errors import CheckpointError, UsageError
from spectile.model import checkpoint
from spectile.model.predict.network import NetworkPredictor
from spectile.model.predict.predictor import load_predictor
from tests.model.predict.tiles import predict, scene_of


def test_without_its_weights_it_says_the_same(
    predictor: NetworkPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "read_tensors", lambda path: pytest.fail("weights were read"))
    known = load_predictor("vnir48", device="cpu", weights=False)
    assert known.settings == predictor.settings
    for name in ("bands", "inputs", "stride", "reach"):
        assert getattr(known, name) == getattr(predictor, name)
    assert known.calibration == predictor.calibration
    assert known.memory(256) == predictor.memory(256)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "unknown device"),
        ({"dtype": "float16"}, "unknown dtype"),
        ({"batch": 0}, "batch"),
        ({"steps": 0}, "steps"),
        ({"steps": 1001}, "steps"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_predictor("vnir48", **options)  # type: ignore[arg-type]


def test_a_folder_works_as_a_model(predictor: NetworkPredictor, tmp_path: Path) -> None:
    shipped = checkpoint.load("vnir48")
    checkpoint.save(tmp_path, shipped.tensors, shipped.metadata)
    scene = scene_of(32)
    copy = load_predictor(str(tmp_path), device="cpu")
    assert np.array_equal(predict(copy, scene, [(0, 0)], 32), predict(predictor, scene, [(0, 0)], 32))


def test_tensors_of_another_network_are_one_line(tmp_path: Path) -> None:
    shipped = checkpoint.load("vnir48")
    checkpoint.save(tmp_path, {"a": torch.zeros(2)}, shipped.metadata)
    with pytest.raises(CheckpointError, match="not the weights") as caught:
        load_predictor(str(tmp_path), device="cpu")
    assert "\n" not in str(caught.value)


def test_the_calibration_comes_from_the_checkpoint_at_its_own_steps_and_is_in_the_digest(
    tmp_path: Path,
) -> None:
    shipped = checkpoint.load("vnir48")
    plain = {key: value for key, value in shipped.metadata.items() if key != "calibration"}
    given = Calibration(8, (2.0,) * 48, (-3.0,) * 48, (2.5,) * 48)
    checkpoint.save(tmp_path / "without", shipped.tensors, plain)
    checkpoint.save(tmp_path / "with", shipped.tensors, {**plain, "calibration": given.to_json()})
    without, calibrated = (load_predictor(str(tmp_path / name), device="cpu") for name in ("without", "with"))
    assert without.calibration is None
    assert calibrated.calibration == given
    assert without.settings["digest"] != calibrated.settings["digest"]
    steps = int(str(calibrated.settings["steps"]))
    assert load_predictor(str(tmp_path / "with"), steps=steps + 1, device="cpu").calibration is None


def test_a_calibration_of_other_bands_is_refused(tmp_path: Path) -> None:
    shipped = checkpoint.load("vnir48")
    given = Calibration(8, (2.0,) * 47, (-3.0,) * 47, (2.5,) * 47)
    checkpoint.save(tmp_path, shipped.tensors, {**shipped.metadata, "calibration": given.to_json()})
    with pytest.raises(CheckpointError, match="for other bands"):
        load_predictor(str(tmp_path), device="cpu")


STAGE = {"components": 8, "condition_width": 48, "condition_blocks": 1, "width": 48}


@pytest.mark.parametrize(
    "change",
    [
        {"members": 10**9},
        {"timesteps": 10**12},
        {"coarse": 10**6},
        {"odd": 1},
        {"steps": 0},
        {"stages": [{**STAGE, "condition_width": 10**9}] * 2},
        {"stages": [{**STAGE, "condition_blocks": 10**9}] * 2},
        {"stages": [{**STAGE, "width": 4096}] * 2},
        {"stages": [{**STAGE, "odd": 1}] * 2},
        {"stages": []},
        {"bands": {"centre_nm": [1.0], "fwhm_nm": []}},
        {"bands": []},
    ],
)
def test_a_configuration_that_asks_for_the_absurd_is_one_line(
    change: dict[str, object], tmp_path: Path
) -> None:
    shipped = checkpoint.load("vnir48")
    cascade = {**shipped.metadata["cascade"], **change}
    checkpoint.save(tmp_path, shipped.tensors, {**shipped.metadata, "cascade": cascade})
    with pytest.raises(CheckpointError, match="not the weights of a spectral cascade") as caught:
        load_predictor(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_checkpoint_that_does_not_say_what_masked_pixels_hold_is_one_line(tmp_path: Path) -> None:
    shipped = checkpoint.load("vnir48")
    facts = {key: value for key, value in shipped.metadata.items() if key != "fill"}
    checkpoint.save(tmp_path, shipped.tensors, facts)
    with pytest.raises(CheckpointError, match="masked pixels"):
        load_predictor(str(tmp_path))
