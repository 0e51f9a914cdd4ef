"""From the recipes of fusion models to checkpoints, with tiny networks; shipped recipes are the presets."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from spectile.catalog.errors import CheckpointError, UsageError
from spectile.catalog.sensors import FILE_SENSORS
from spectile.flows.training.recipe import HsrDiffRecipe, SdpRecipe, read_recipe
from spectile.flows.training.train import train_from_recipe
from spectile.model import checkpoint
from spectile.model.hsr_diff.preset import hsr_diff_paper
from spectile.model.predict.predictor import load_predictor
from spectile.model.sdp.preset import sdp_paper

SHARED = """
name = "tiny-fusion"
samples = 2
crops = 1
sensor = {first_nm = 450.0, last_nm = 900.0, count = 6}
responses = [{sensor = "rgbn", channels = ["blue", "red", "nir"]}]
[pair]
ratio = 4
psf_sigma = 1.7
snr_db = [30.0, 40.0]
[simulator]
scenes = 1
validation = 1
held_out = 1
size = 64
"""
HSR_DIFF = """
kind = "hsr-diff"
steps = 2
{SHARED}
[network]
width = 8
layers = 1
heads = 2
window = 4
[training]
phases = [{size = 8, batch = 1, steps = 2}, {size = 16, batch = 1, steps = 1, second_half = true}]
"""
SDP = """
kind = "sdp"
steps = 2
{SHARED}
[network]
width = 8
[fusion]
start = "upsampled"
[training]
iterations = 3
crop = 16
"""
RECIPES = files("spectile.model") / "recipes"


def _recipe(text: str, path: Path) -> Path:
    path.write_text(text.replace("{SHARED}", SHARED))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("text", "kind"), [(HSR_DIFF, "hsr-diff"), (SDP, "sdp")])
def test_a_recipe_becomes_a_checkpoint_of_two_inputs(
    text: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectile.model.data.crops.FIT_CROPS", 20)
    monkeypatch.setattr("spectile.flows.training.train.BASELINE_CROPS", 20)
    out = tmp_path / "trained"
    table = train_from_recipe(_recipe(text, tmp_path / "recipe.toml"), tmp_path, out)
    assert {"ridge", "lookup", "one_step", "sample", "mean_of_samples"} <= table["simulated"].keys()
    facts = checkpoint.load(out).metadata
    assert (facts["kind"], facts["name"], facts["trained_steps"]) == (kind, "tiny-fusion", 3)
    assert facts["held_out"] == table
    assert (out / "samples.png").stat().st_size > 1000
    predictor = load_predictor(str(out), device="cpu")
    assert [(spec.name, spec.ratio, len(spec.bands)) for spec in predictor.inputs] == [
        ("msi", 1, 3),
        ("hsi", 4, 6),
    ]
    (ridge,) = load_predictor(f"{out}:ridge").inputs
    assert ridge.fill == predictor.inputs[0].fill


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (HSR_DIFF, "window = 4", "window = 5", "patches do not fit"),
        (HSR_DIFF, "heads = 2", "heads = 3", "does not fit the heads"),
        (HSR_DIFF, "ratio = 4", "ratio = 0", "pair.ratio"),
        (HSR_DIFF, "ratio = 4", "ratios = 4", "unknown key ratios"),
        (HSR_DIFF, "layers = 1", "layer = 1", "unknown key layer"),
        (SDP, 'start = "upsampled"', 'start = "zeros"', "fusion.start"),
        (SDP, "steps = 2", "steps = 1001", "times of the fusion"),
        (SDP, "responses = [{", 'responses = ["rgb_camera", {', "one MSI"),
    ],
)
def test_a_mistake_is_one_line(text: str, old: str, new: str, message: str, tmp_path: Path) -> None:
    path = _recipe(text.replace("{SHARED}", SHARED).replace(old, new, 1), tmp_path / "recipe.toml")
    with pytest.raises(UsageError, match=message) as caught:
        read_recipe(path).config()
    assert "\n" not in str(caught.value)


def test_the_recipes_of_the_papers_are_the_published_presets() -> None:
    for name in ("hsr-diff-paper", "sdp-paper"):
        with pytest.raises(CheckpointError, match="no weights are shipped"):
            checkpoint.load(name)
    sensor = FILE_SENSORS["worldview3"]
    channels = ("blue", "green", "yellow", "red", "rededge", "nir1")
    recipe = read_recipe(Path(str(RECIPES / "hsr-diff-paper.toml")))
    assert isinstance(recipe, HsrDiffRecipe)
    assert recipe.config(sensor.bands.subset(sensor.find(channels, where=""))) == hsr_diff_paper()
    recipe = read_recipe(Path(str(RECIPES / "sdp-paper.toml")))
    assert isinstance(recipe, SdpRecipe)
    nominal = FILE_SENSORS["rgbn"]
    assert recipe.config(nominal.bands) == sdp_paper()


@pytest.mark.parametrize("name", ["hsr-diff-small", "sdp-small"])
def test_the_small_recipes_read_and_use_data_with_clear_terms_alone(name: str) -> None:
    recipe = read_recipe(Path(str(RECIPES / f"{name}.toml")))
    assert len(recipe.config().bands) == 48
    assert {scene.licence for scene in recipe.scenes} <= {"CC0-1.0", "MIT", "BSD-3-Clause"}
