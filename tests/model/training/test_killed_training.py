"""A training that was killed anywhere ends, when it is started again, as one that never was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.catalog.errors import CheckpointError
from spectile.model import checkpoint
from spectile.model.cascade import train as cascade
from spectile.model.cascade.cascade import CascadeConfig, StageConfig
from spectile.model.cascade.config import TrainConfig
from spectile.model.data.crops import TrainingScene
from spectile.model.scdm import train as scdm
from spectile.model.scdm.preset import TrainingPreset, scdm_paper

Train = Callable[..., Any]

TINY = {
    "width": 8,
    "multipliers": (1, 1),
    "blocks": 1,
    "attention_levels": (1,),
    "time_width": 8,
    "groups": 4,
}
CASCADE = CascadeConfig(
    VNIR48, RGB_CAMERA, stages=(StageConfig(2, 8, 1, 8, kernels=8), StageConfig(2, 8, 1, 8))
)


class Killed(BaseException):
    """The end of a process."""


def _scene() -> TrainingScene:
    rng = np.random.default_rng(0)
    slope = np.linspace(0.2, 1.0, 48, dtype=np.float32)[:, None, None]
    cube = 0.05 + 0.5 * slope * rng.random((1, 24, 24), dtype=np.float32)
    return TrainingScene("scene", cube, VNIR48, np.ones((24, 24), bool))


def _compact(folder: Path, **options: Any) -> Any:
    config = TrainConfig(steps=4, batch=1, crop=16, warmup=1, validate_every=2, log_every=1)
    return cascade.train(
        config, CASCADE, [_scene()], [_scene()], folder, metadata={"name": "tiny"}, **options
    )


def _paper(folder: Path, **options: Any) -> Any:
    preset = scdm_paper("houston")
    stages = tuple(replace(each, network=replace(each.network, **TINY)) for each in preset.stages)
    training = TrainingPreset(iterations=4, batch=1, crop=16, ema_start=1, log_every=1, validate_every=2)
    preset = replace(preset, stages=stages, training=training)
    metadata = {"name": "tiny"}
    return scdm.train(preset, [_scene()], [_scene()], folder, metadata=metadata, device="cpu", **options)


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spectile.model.data.crops.FIT_CROPS", 10)
        patch.setattr("spectile.model.cascade.train.CALIBRATION_CROPS", 1)
        patch.setattr("spectile.model.cascade.train.CALIBRATION_SAMPLES", 2)
        yield


@pytest.fixture(scope="module", params=[_compact, _paper])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Train, str]:
    """A way of training, and the digest of what it gives when nobody stops it."""
    folder = tmp_path_factory.mktemp("whole")
    request.param(folder)
    return request.param, checkpoint.load(folder).digest


def _kill(monkeypatch: pytest.MonkeyPatch, number: int, after: bool) -> None:
    """End the process at the ``number``-th file that is moved into its place, before or after the move."""
    real, calls = os.replace, iter(range(1, 1000))

    def move(source: Any, target: Any) -> None:
        last = next(calls) == number
        if not last or after:
            real(source, target)
        if last:
            raise Killed

    monkeypatch.setattr(os, "replace", move)


@pytest.mark.parametrize(
    ("number", "after"),
    [(2, False), (3, False), (4, False), (4, True)],
    ids=["first checkpoint", "last state", "last checkpoint", "last record"],
)
def test_a_kill_between_any_two_writes_changes_nothing(
    whole: tuple[Train, str], number: int, after: bool, tmp_path: Path
) -> None:
    run, digest = whole
    with pytest.MonkeyPatch.context() as patch:
        _kill(patch, number, after)
        with pytest.raises(Killed):
            run(tmp_path)
    run(tmp_path)
    assert checkpoint.load(tmp_path).digest == digest
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {each["step"] for each in records if "of" not in each} == {2, 4}
    assert {path.name for path in tmp_path.iterdir()} == {
        "log.jsonl",
        "model.safetensors",
        "state.safetensors",
    }


def test_a_run_that_is_started_again_at_its_end_gives_the_same(
    whole: tuple[Train, str], tmp_path: Path
) -> None:
    run, digest = whole
    run(tmp_path)
    run(tmp_path)
    assert checkpoint.load(tmp_path).digest == digest


def test_a_line_of_the_log_that_was_cut_off_is_dropped(whole: tuple[Train, str], tmp_path: Path) -> None:
    run, digest = whole
    run(tmp_path, stop_after=2)
    log = tmp_path / "log.jsonl"
    before = log.read_bytes()
    log.write_bytes(before + b'{"step": 3, "of": 4, "fir')
    run(tmp_path)
    lines = log.read_bytes()
    assert lines.startswith(before)
    assert all(json.loads(line) for line in lines.splitlines())
    assert checkpoint.load(tmp_path).digest == digest


def test_a_checkpoint_without_its_state_is_not_written_over(whole: tuple[Train, str], tmp_path: Path) -> None:
    run, _ = whole
    checkpoint.save(tmp_path, {"a": torch.ones(2)}, {"name": "somebody's"})
    with pytest.raises(CheckpointError, match="no state of its training"):
        run(tmp_path)
    assert checkpoint.load(tmp_path).metadata["name"] == "somebody's"


@pytest.mark.parametrize("spoil", ["step", "model/", "cut"])
def test_a_state_that_does_not_fit_is_one_line(spoil: str, tmp_path: Path) -> None:
    _compact(tmp_path, stop_after=2)
    path = tmp_path / "state.safetensors"
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        kept = {k: v for k, v in checkpoint.read_tensors(path).items() if not k.startswith(spoil)}
        checkpoint.write(path, kept, checkpoint.read_json(path))
    with pytest.raises(CheckpointError, match=r"state\.safetensors") as caught:
        _compact(tmp_path)
    assert "\n" not in str(caught.value)
