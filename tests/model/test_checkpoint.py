"""A checkpoint is what was saved, or one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spectile.catalog.errors import CheckpointError
from spectile.model import checkpoint
from spectile.model.facts import FILE, FORMAT, KEY, read_facts

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}
FACTS = {"name": "tiny", "held_out": {"scene": {"samples": 2}}, "fill": [0.1, 0.2, 0.3]}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    digest = checkpoint.save(tmp_path, TENSORS, FACTS)
    loaded = checkpoint.load(tmp_path)
    assert loaded.digest == digest
    assert loaded.metadata["held_out"] == FACTS["held_out"]
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
    facts = read_facts(tmp_path / FILE)
    checkpoint.write(tmp_path / FILE, TENSORS, {**facts, "fill": [0.1, 0.2, 0.4]})
    with pytest.raises(CheckpointError, match="does not match its digest"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("kept", [0, 4, 8, 300, -1])
def test_a_damaged_file_is_one_line(tmp_path: Path, kept: int) -> None:
    checkpoint.save(tmp_path, TENSORS, FACTS)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:kept])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        checkpoint.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=FILE):
        checkpoint.load(tmp_path)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / FILE, TENSORS, {"format": 99})
    with pytest.raises(CheckpointError, match="format"):
        checkpoint.load(tmp_path)


def test_the_paper_preset_says_how_to_train_it() -> None:
    with pytest.raises(CheckpointError, match="spectile train"):
        checkpoint.load("scdm-paper")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match="vnir48"):
        checkpoint.load("nowhere")


def _written(path: Path, header: object, data: bytes = b"") -> None:
    """A safetensors file with a header of our own, as nobody's library would write it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2**62], "data_offsets": [0, 2**64 - 4]},
        {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": "many", "data_offsets": [0, 4]},
        {"dtype": "F32"},
        [],
    ],
)
def test_an_impossible_tensor_is_one_line(tmp_path: Path, entry: object) -> None:
    facts = json.dumps({**FACTS, "format": FORMAT, "digest": "0" * 64})
    _written(tmp_path / FILE, {"__metadata__": {KEY: facts}, "a": entry}, b"\0" * 4)
    _refused(tmp_path, "damaged")


@pytest.mark.parametrize(
    "header",
    [b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b'{"__metadata__": 1}', b" " * 9],
)
def test_a_header_that_is_none_is_one_line(tmp_path: Path, header: bytes) -> None:
    _written(tmp_path / FILE, header, b"\0" * 4)
    _refused(tmp_path, "damaged|not a checkpoint")


@pytest.mark.parametrize("length", [0, 1, 2**20, 100_000_000, 2**63, 2**64 - 1])
def test_a_header_of_an_absurd_length_is_one_line(tmp_path: Path, length: int) -> None:
    (tmp_path / FILE).write_bytes(length.to_bytes(8, "little") + b"{}" * 20)
    _refused(tmp_path, "impossible length")


def test_a_header_of_100_megabytes_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / FILE).open("wb") as file:
        file.write((10**8).to_bytes(8, "little"))
        file.truncate(10**8 + 8)  # sparse: nothing is stored
    _refused(tmp_path, "impossible length")


def test_a_safetensors_file_of_somebody_else_is_one_line(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / FILE)
    _refused(tmp_path, "not a checkpoint of spectile")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"format": NaN}', '{"fill": 1' + "0" * 5000 + "}", "{", "", '"text"', "[]", "1"]
)
def test_facts_that_are_no_object_of_json_are_one_line(tmp_path: Path, text: str) -> None:
    save_file(TENSORS, tmp_path / FILE, metadata={KEY: text})
    _refused(tmp_path, "damaged|format")


@pytest.mark.parametrize(
    "facts",
    [
        {"pickle": "cos"},
        {"name": 7},
        {"name": ""},
        {"name": "x" * 100_000},
        {"fill": [0.1, 0.2]},
        {"fill": [0.1, 0.2, "blue"]},
        {"fill": [0.1, 0.2, 1e999]},
        {"fill": None, "digest": "none"},
        {"held_out": []},
        {"trained_steps": -1},
        {"kind": "x" * 300},
        {"calibration": "wide"},
    ],
)
def test_a_fact_that_cannot_be_used_is_named(tmp_path: Path, facts: dict[str, object]) -> None:
    good = {**FACTS, "format": FORMAT, "digest": "0" * 64}
    checkpoint.write(tmp_path / FILE, TENSORS, {**good, **facts})
    line = _refused(tmp_path, "header is invalid|damaged")
    assert len(line) < 500


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    checkpoint.save(tmp_path, {"a.weight": torch.tensor([0.0, value], dtype=dtype)}, FACTS)
    _refused(tmp_path, r"a\.weight holds NaN or infinity")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.bool, torch.uint8, torch.float8_e4m3fn])
def test_weights_of_an_odd_type_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    checkpoint.save(tmp_path, {"a.weight": torch.zeros(2).to(dtype)}, FACTS)
    _refused(tmp_path, r"a\.weight has an unsupported type")


def test_a_file_is_as_readable_as_others(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, TENSORS, FACTS)
    (tmp_path / "other").touch()
    assert (tmp_path / FILE).stat().st_mode == (tmp_path / "other").stat().st_mode


def _refused(folder: Path, message: str) -> str:
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)
