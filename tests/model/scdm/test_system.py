"""The published cascade behind the common door."""

from __future__ import annotations

import json

import pytest

from spectile.model.scdm import system
from spectile.model.scdm.preset import scdm_paper
from spectile.model.scdm.system import SYSTEM


def test_a_preset_comes_back_from_the_facts_of_a_checkpoint() -> None:
    for plan in ("houston", "pavia"):
        preset = scdm_paper(plan)  # type: ignore[arg-type]
        assert SYSTEM.config(json.loads(json.dumps({"preset": preset.to_json()}))) == preset
    with pytest.raises(KeyError):
        SYSTEM.config({"cascade": {}})


def test_what_is_known_without_weights_is_the_published_preset() -> None:
    assert SYSTEM.published is not None
    assert SYSTEM.published() == scdm_paper("houston")
    assert not SYSTEM.bfloat16, "nobody has held its samples in bfloat16 against those in float32"


def test_the_preset_says_how_to_train(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(system, "train", lambda *given, **named: seen.extend([*given, named]))
    preset = scdm_paper("houston")
    SYSTEM.train(preset, "left out", [], [], "out", metadata={}, device="cpu", progress=print)  # type: ignore[arg-type]
    assert seen == [preset, [], [], "out", {"metadata": {}, "device": "cpu", "progress": print}]
