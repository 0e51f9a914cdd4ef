"""What is said of cubes and models comes from their metadata alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from spectile.catalog.errors import CubeError
from spectile.flows.console.describe import (
    HELD_OUT_COLUMNS,
    MODEL_COLUMNS,
    describe_cube,
    describe_held_out,
    describe_models,
    describe_run,
    run_state,
)
from spectile.model import checkpoint
from spectile.model.facts import SHIPPED
from spectile.pipeline.cube.write import write_block
from tests.pipeline.cubes import ROTATED, content, make


def test_a_cube_without_its_pixels_is_described(tmp_path: Path) -> None:
    cube = make(tmp_path, samples=2, layers=("sd",), transform=ROTATED)
    before = describe_cube(cube.storage.root)
    for path in cube.storage.root.glob("reflectance*/c/**/*"):
        if path.is_file():
            path.write_bytes(b"")
    after = describe_cube(cube.storage.root)
    assert {**after, "stored": None} == {**before, "stored": None}
    assert before["status"] == "complete, 6 of 6 blocks done"
    assert before["size"] == "1100 × 600 px, 6 bands"
    assert before["pixel size"] == "0.5 × 0.5", "also where it is rotated"
    assert before["layers"] == "sd, not calibrated"
    assert "missing" not in before


def test_an_unfinished_cube_names_the_first_of_its_missing_blocks(tmp_path: Path) -> None:
    cube = make(tmp_path, shape=(30, 3800), finished=False)
    first, *rest = cube.plan.blocks
    write_block(cube, first, content(first.window))
    said = describe_cube(cube.storage.root)
    assert said["status"] == "incomplete, 1 of 8 blocks done"
    names = ", ".join(block.name for block in rest[:5])
    assert said["missing"] == f"blocks {names} and 2 more"
    run = describe_run(cube.storage)
    assert (run["state"], run["process"], run["block"]) == ("stopped", None, None)
    assert run["missing"] == [block.name for block in rest]


def test_a_run_that_nobody_knows_of_is_done_or_stopped() -> None:
    assert [run_state(status, None) for status in ("complete", "incomplete")] == ["done", "stopped"]


def test_a_place_without_a_cube_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CubeError, match="no cube of spectile here"):
        describe_cube(tmp_path / "nothing.zarr")


def test_the_models_are_listed_without_reading_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "read_tensors", lambda path: pytest.fail("weights were read"))
    rows = describe_models()
    assert {len(row) for row in rows} == {len(MODEL_COLUMNS)}
    names = [row[0] for row in rows]
    first = names.index("vnir48")
    assert names[first : first + 3] == ["vnir48", "vnir48:ridge", "vnir48:lookup"]
    assert {"scdm-paper", "bands-repeat"} <= set(names)
    held_out = describe_held_out()
    assert {len(row) for row in held_out} == {len(HELD_OUT_COLUMNS)}
    assert {row[0] for row in held_out} == set(SHIPPED)
