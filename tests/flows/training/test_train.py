"""Recipes are strict, and a training run goes from recipe to a checkpoint that predicts."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from spectile.catalog.errors import UsageError
from spectile.catalog.inputs import Batch
from spectile.flows.training.train import read_recipe, train_from_recipe
from spectile.model import checkpoint
from spectile.model.closed.baselines import load_baselines
from spectile.model.predict.predictor import load_predictor

ROOT = Path(__file__).parents[3]

RECIPE = """
name = "tiny"
samples = 3
crops = 1
[[stages]]
components = 2
condition_width = 8
condition_blocks = 1
width = 8
kernels = 8
[[stages]]
components = 2
condition_width = 8
condition_blocks = 1
width = 8
[training]
steps = 2
batch = 2
crop = 16
validate_every = 2
[simulator]
scenes = 2
validation = 1
held_out = 1
size = 64
[[scenes]]
path = "scene.h5"
name = "a scene"
licence = "CC0-1.0"
good_nm = [420.0, 1000.0]
zoom = 2
held_out_columns = 8
[[libraries]]
path = "library.sli"
name = "a library"
licence = "public domain"
scenes = 1
size = 64
held_out = 0.25
"""


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


def test_a_recipe_becomes_a_checkpoint_that_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectile.model.data.crops.FIT_CROPS", 20)
    _data(tmp_path)
    (tmp_path / "recipe.toml").write_text(RECIPE)
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


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "tiny"', 'name = "tiny"\nsteeps = 4', "unknown key steeps"),
        ("steps = 2", "stepps = 2", "unknown key stepps"),
        ("kernels = 8", "lift = 8", "unknown key lift"),
        ("steps = 2", 'steps = "many"', "training.steps"),
        ('licence = "CC0-1.0"', "", "licence"),
        ("[simulator]", "[simulator", "not a recipe"),
        ("steps = 2", 'steps = "2"', "training.steps"),
        ("steps = 2", "steps = true", "training.steps"),
        ("steps = 2", "steps = 2.0", "training.steps"),
        ("steps = 2", "steps = 0", "training.steps"),
        ("steps = 2", "steps = 2\nlearning_rate = nan", "training.learning_rate"),
        ("steps = 2", "steps = 2\nlearning_rate = -inf", "training.learning_rate"),
        ("steps = 2", "steps = 2\nlog_every = 0", "training.log_every"),
        ("validate_every = 2", "validate_every = 0", "training.validate_every"),
        ("batch = 2", "batch = -1", "training.batch"),
        ("components = 2", "components = 99", "components of the first stage"),
        ("width = 8", "width = 7", "widths that do not fit"),
        ("condition_width = 8", "condition_width = 1000000000", "condition_width"),
        ('name = "tiny"', "name = 7", "name"),
        ('name = "tiny"', 'name = "tiny"\nmembers = 1000000', "members"),
        ('name = "tiny"', 'name = "tiny"\nsteps = 2000', "solver steps"),
        ("zoom = 2", "zoom = [2]", "scenes.0.zoom"),
        ("good_nm = [420.0, 1000.0]", "good_nm = [420.0]", "scenes.0.good_nm"),
        ('name = "tiny"', "name = " + "[" * 5000, "not a recipe"),
        ('name = "tiny"', 'name = "tiny"\n#' + "x" * 2_000_000, "too large"),
    ],
)
def test_a_recipe_with_a_mistake_is_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.replace(old, new, 1))
    with pytest.raises(UsageError, match=message) as caught:
        read_recipe(path).config()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_the_shipped_recipe_reads_and_is_the_one_in_the_checkpoint() -> None:
    recipe = read_recipe(ROOT / "model" / "recipes" / "vnir48.toml")
    facts = checkpoint.load("vnir48").metadata
    assert recipe.name == facts["name"] == "vnir48"
    assert recipe.training.steps == facts["training"]["steps"]


def test_every_licence_of_the_shipped_weights_is_clear() -> None:
    clear = {"CC0-1.0", "MIT", "public domain", "Apache-2.0"}
    assert {entry["licence"] for entry in checkpoint.load("vnir48").metadata["data"]} <= clear
