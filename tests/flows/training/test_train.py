"""Recipes are strict, and a training run goes from recipe to a checkpoint that predicts."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from spectile.catalog.inputs import Batch
from spectile.flows.training.train import train_from_recipe
from spectile.model import checkpoint
from spectile.model.closed.baselines import load_baselines
from spectile.model.predict.predictor import load_predictor

ROOT = Path(__file__).parents[3]


def _data(folder: Path) -> None:
    nm = np.arange(385.0, 1100.0, 8.0)
    rng = np.random.default_rng(0)
    shapes = 0.1 + 0.4 / (1.0 + np.exp(-(nm - rng.uniform(500, 800, (40, 1))) / 25.0))
    with h5py.File(folder / "scene.h5", "w") as file:
        group = file.create_group("SITE/Reflectance")
        pixels = shapes[rng.integers(0, 40, (32, 32))]
        data = group.create_dataset("Reflectance_Data", data=np.rint(pixels * 1e4).astype(np.int32))
        data.attrs["Scale_Factor"], data.attrs["Data_Ignore_Value"] = [10000.0], [-9999.0]
        group.create_dataset("Metadata/Spectral_Data/Wavelength", data=nm)
    shapes.astype("<f4").tofile(folder / "library.sli")
    names = ", ".join(f"spectrum {i}" for i in range(40))
    wavelengths = ", ".join(map(str, nm))
    (folder / "library.hdr").write_text(
        f"ENVI\nsamples = {len(nm)}\nlines = 40\ndata type = 4\nbyte order = 0\n"
        f"wavelength units = Nanometers\nwavelength = {{{wavelengths}}}\nspectra names = {{{names}}}\n"
    )


@pytest.mark.usefixtures("quick_fits")
def test_a_recipe_becomes_a_checkpoint_that_predicts(recipe: str, tmp_path: Path) -> None:
    _data(tmp_path)
    (tmp_path / "recipe.toml").write_text(recipe)
    lines: list[str] = []
    out = tmp_path / "out"
    table = train_from_recipe(tmp_path / "recipe.toml", tmp_path, out, announce=lines.append)
    assert set(table) == {"simulated", "scene", "library"}
    for row in table.values():
        assert row["one_step"]["rmse"] > 0
        assert {"ridge", "lookup", "sample", "mean_of_samples"} <= row.keys()
    # The scene lacks the bands below 420 and above 1000 nm.
    assert table["simulated"]["bands"] == 48
    assert 35 < table["scene"]["bands"] < 48
    facts = checkpoint.load(out).metadata
    assert facts["held_out"] == table
    assert [entry["licence"] for entry in facts["data"]] == ["Apache-2.0", "CC0-1.0", "public domain"]
    assert len(facts["data"][1]["sha256"]) == 64
    assert str(tmp_path) not in json.dumps(facts)
    assert set(load_baselines(str(out))) == {"ridge", "lookup"}
    rgb = np.full((1, 3, 32, 32), 0.1, dtype=np.float32)
    predictor = load_predictor(str(out), device="cpu")
    (cube,) = predictor.predict(Batch.of_colours(rgb), range(1))
    assert cube.shape == (1, 48, 32, 32)
    assert len(lines) == 4


def test_every_licence_of_the_shipped_weights_is_clear() -> None:
    clear = {"CC0-1.0", "MIT", "public domain", "Apache-2.0"}
    assert {entry["licence"] for entry in checkpoint.load("vnir48").metadata["data"]} <= clear
