"""A checkpoint is what was saved, or one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from spectile.catalog.errors import CheckpointError
from spectile.model import checkpoint

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}
FACTS = {"name": "tiny", "held_out": {"rmse": 0.01}, "fill": [0.1, 0.2, 0.3]}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    digest = checkpoint.save(tmp_path, TENSORS, FACTS)
    loaded = checkpoint.load(tmp_path)
    assert loaded.digest == digest
    assert loaded.metadata["held_out"] == {"rmse": 0.01}
    assert all(torch.equal(loaded.tensors[name], value) for name, value in TENSORS.items())


def test_the_digest_depends_on_values_names_shapes_and_facts() -> None:
    digests = {
        checkpoint.digest_of(FACTS, TENSORS),
        checkpoint.digest_of({**FACTS, "name": "other"}, TENSORS),
        checkpoint.digest_of(FACTS, {**TENSORS, "a": TENSORS["a"] + 1}),
        checkpoint.digest_of(FACTS, {**TENSORS, "a": TENSORS["a"].reshape(3, 2)}),
        checkpoint.digest_of(FACTS, {"c": TENSORS["a"], "b": TENSORS["b"]}),
    }
    assert len(digests) == 5


def test_the_digest_does_not_depend_on_memory_layout() -> None:
    weight = torch.randn(4, 3, 2, 2)
    last = weight.to(memory_format=torch.channels_last)
    assert checkpoint.digest_of({}, {"w": weight}) == checkpoint.digest_of({}, {"w": last})


def test_a_changed_fact_is_found(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, TENSORS, FACTS)
    path = tmp_path / checkpoint.METADATA
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "fill": [0.1, 0.2, 0.4]}))
    with pytest.raises(CheckpointError, match="does not match its digest"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("name", [checkpoint.TENSORS, checkpoint.METADATA])
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str) -> None:
    checkpoint.save(tmp_path, TENSORS, FACTS)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        checkpoint.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [checkpoint.TENSORS, checkpoint.METADATA])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    checkpoint.save(tmp_path, TENSORS, FACTS)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        checkpoint.load(tmp_path)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, TENSORS, FACTS)
    (tmp_path / checkpoint.METADATA).write_text('{"format": 99}')
    with pytest.raises(CheckpointError, match="format"):
        checkpoint.load(tmp_path)


def test_the_paper_preset_says_how_to_train_it() -> None:
    with pytest.raises(CheckpointError, match="spectile train"):
        checkpoint.load("scdm-paper")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match="vnir48"):
        checkpoint.load("nowhere")
