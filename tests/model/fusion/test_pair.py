"""The file of a pair, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spectile.catalog.errors import CheckpointError, UsageError
from spectile.model import checkpoint
from spectile.model.fusion.pair import PairModel, PairWindow
from tests.model.fusion.scenes import HSI, pair_of


def test_a_pair_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    pair = replace(pair_of(), wald={"cubic": {"psnr": 20.0}}, shift=(0.5, -1.25))
    digest = pair.save(tmp_path / "pair.safetensors")
    loaded = PairModel.load(tmp_path / "pair.safetensors")
    assert loaded.digest == digest == pair.digest
    np.testing.assert_array_equal(loaded.covariances, pair.covariances)
    assert (loaded.hsi_bands, loaded.shift, loaded.wald) == (HSI, pair.shift, pair.wald)
    assert (loaded.psf_size, loaded.psf_phase) == (None, None)
    placed = replace(pair, psf_size=15, psf_phase=0.0)
    assert placed.save(tmp_path / "placed.safetensors") != digest
    assert PairModel.load(tmp_path / "placed.safetensors").sampling == {"size": 15, "phase": 0.0}


def test_the_digest_hangs_on_every_part() -> None:
    pair = pair_of()
    assert replace(pair, mean=pair.mean + 1e-9).digest != pair.digest
    assert replace(pair, method="cubic").digest != pair.digest


def test_facts_are_plain_json_and_short() -> None:
    facts = json.loads(json.dumps(pair_of().facts()))
    assert facts["ratio"] == 4
    assert max(len(value) for value in facts.values() if isinstance(value, list)) <= len(HSI)


def test_other_files_are_refused_in_a_line(tmp_path: Path) -> None:
    pair, path = pair_of(), tmp_path / "pair.safetensors"
    with pytest.raises(CheckpointError, match="not in the checkpoint folder"):
        PairModel.load(path)
    checkpoint.write(path, {}, {"kind": "else"})
    with pytest.raises(CheckpointError, match="not the file of a pair"):
        PairModel.load(path)
    tensors, facts = pair._parts()
    checkpoint.write(path, {**tensors, "mean": tensors["mean"] + 1.0}, {**facts, "digest": pair.digest})
    with pytest.raises(CheckpointError, match="does not match its digest"):
        PairModel.load(path)
    del facts["ratio"]
    checkpoint.write(path, tensors, {**facts, "digest": pair.digest})
    with pytest.raises(CheckpointError, match="damaged"):
        PairModel.load(path)


def test_windows_that_do_not_fit_are_refused() -> None:
    whole = np.ones((4, 4), bool)
    with pytest.raises(UsageError, match="no whole multiple"):
        PairWindow(np.zeros((2, 4, 4), np.float32), whole, np.zeros((1, 9, 8), np.float32), whole).ratio()
    with pytest.raises(UsageError, match="another size"):
        PairWindow(np.zeros((2, 4, 4), np.float32), whole, np.zeros((1, 8, 8), np.float32), whole).ratio()
