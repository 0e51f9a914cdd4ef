"""Facts are checked by type before any weight is read, and without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from spectile.catalog.errors import CheckpointError
from spectile.model import checkpoint
from spectile.model.facts import FILE, SHIPPED, read_facts, split_name

FACTORS = {"samples": 4, "spread": [1.0], "low": [-1.6], "high": [1.6]}


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"calibration": {**FACTORS, "spread": ["wide"]}}, "calibration.spread.0"),
        ({"calibration": {**FACTORS, "samples": "many"}}, "calibration.samples"),
        ({"calibration": {**FACTORS, "odd": 1}}, "calibration.odd"),
        ({"calibration": {"samples": 4}}, "calibration.spread"),
        ({"sites": {"here": {"own": 0.1}}}, "sites.here.left_out"),
        ({"sites": {"here": {"own": "small", "left_out": 0.1}}}, "sites.here.own"),
        ({"held_out": {"scene": 0.1}}, "held_out.scene"),
        ({"fill": ["a", 0.1, 0.1]}, "fill.0"),
        ({"data": ["a file"]}, "data.0"),
    ],
)
def test_a_fact_of_another_type_is_named_in_one_line_though_its_digest_holds(
    facts: dict[str, Any], named: str, tmp_path: Path
) -> None:
    checkpoint.save(tmp_path, {"a": torch.zeros(1)}, {"name": "tiny", **facts})
    with pytest.raises(CheckpointError, match=f"the checkpoint's header is invalid: {named}") as caught:
        read_facts(tmp_path / FILE)
    assert "\n" not in str(caught.value)


def test_the_shipped_facts_are_read_without_torch() -> None:
    code = (
        "import sys\n"
        "from importlib.resources import files\n"
        "from spectile.model.facts import FILE, read_facts\n"
        "facts = read_facts(files('spectile.model') / 'weights' / 'vnir48' / FILE)\n"
        "print(facts['name'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["vnir48", "False"]


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("vnir48", ("vnir48", None)),
        ("vnir48:ridge", ("vnir48", "ridge")),
        ("runs/a:b", ("runs/a:b", None)),
        ("runs/a:b:lookup", ("runs/a:b", "lookup")),
    ],
)
def test_a_regression_is_the_last_part_of_a_name(model: str, parts: tuple[str, str | None]) -> None:
    assert split_name(model) == parts


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_were_trained_on_data_with_clear_terms(name: str) -> None:
    facts = read_facts(Path(checkpoint.locate(name)) / FILE)
    trained_on = [entry for entry in facts["data"] if entry.get("use") != "held-out table alone"]
    assert trained_on
    clear = {"Apache-2.0", "BSD-3-Clause", "CC0-1.0", "MIT", "public domain"}
    assert {entry["licence"] for entry in trained_on} <= clear
    assert all(len(entry["sha256"]) == 64 for entry in trained_on if "simulator" not in entry["name"])
