"""From the recipe of the published cascade to a checkpoint to a cube, with tiny networks."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from spectile.catalog.bands import VNIR48
from spectile.catalog.errors import CheckpointError, UsageError
from spectile.flows.run.execute import run_scene
from spectile.flows.run.settings import SceneSettings
from spectile.flows.training.recipe import PaperRecipe, read_recipe
from spectile.flows.training.train import train_from_recipe
from spectile.model import checkpoint
from spectile.model.closed.baselines import load_baselines
from spectile.model.facts import FILE
from spectile.model.scdm.preset import scdm_paper
from spectile.pipeline.cube.record import open_cube
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.store.opening import open_storage

RECIPE = """
kind = "scdm-paper"
name = "tiny-paper"
guidance = 0.5
steps = 2
samples = 2
crops = 1
[network]
width = 8
multipliers = [1, 2]
blocks = 1
attention_levels = []
time_width = 16
groups = 4
[training]
iterations = 3
batch = 1
crop = 16
noise_loss = "mse"
[simulator]
scenes = 1
validation = 1
held_out = 1
size = 64
"""


@pytest.mark.slow
def test_a_recipe_becomes_a_cube(make_scene, tmp_path, monkeypatch):
    monkeypatch.setattr("spectile.model.data.crops.FIT_CROPS", 20)
    monkeypatch.setattr("spectile.flows.training.train.BASELINE_CROPS", 20)
    path, out = tmp_path / "recipe.toml", tmp_path / "trained"
    path.write_text(RECIPE)
    table = train_from_recipe(path, tmp_path, out)
    assert {"ridge", "lookup", "one_step", "sample", "mean_of_samples"} <= table["simulated"].keys()
    facts = checkpoint.load(out).metadata
    assert (facts["kind"], facts["name"], facts["trained_steps"]) == ("scdm-paper", "tiny-paper", 3)
    assert facts["held_out"] == table
    assert facts["preset"]["bands"] == VNIR48.to_json()
    assert facts["data"][0]["licence"] == "Apache-2.0"

    scene = make_scene((150, 170), nodata=0, hole=(slice(30, 60), slice(0, 170)))
    settings = SceneSettings(
        scene=str(scene), out=str(tmp_path / "cube.zarr"), model=str(out), tile=64, halo=8, block=512
    )
    prepared, result = run_scene(settings)
    assert (result.blocks_done, result.blocks_failed) == (1, 0)
    assert verify_cube(open_storage(settings.out)) == []
    found = open_cube(settings.out).reflectance.values
    _, valid = prepared.source.read(prepared.source.grid.window)
    assert np.isfinite(found[:, valid]).all()
    assert np.isnan(found[:, ~valid]).all()
    again = replace(settings, out=settings.out + ".2.zarr", batch=1)
    run_scene(again)
    assert np.array_equal(open_cube(again.out).reflectance.values, found, equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize("write", [1, 2], ids=["of the training", "of the table"])
def test_a_table_is_of_the_weights_that_it_stands_beside(write, tmp_path, monkeypatch):
    monkeypatch.setattr("spectile.model.data.crops.FIT_CROPS", 20)
    monkeypatch.setattr("spectile.flows.training.train.BASELINE_CROPS", 20)
    path, whole, killed = tmp_path / "recipe.toml", tmp_path / "whole", tmp_path / "killed"
    path.write_text(RECIPE)
    train_from_recipe(path, tmp_path, whole)

    class Killed(BaseException):
        pass

    real, written = os.replace, []

    def move(source, target):
        written.append(Path(target).name)
        if written.count(FILE) == write:
            raise Killed
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", move)
        with pytest.raises(Killed):
            train_from_recipe(path, tmp_path, killed)
    train_from_recipe(path, tmp_path, killed)
    assert checkpoint.load(killed).digest == checkpoint.load(whole).digest
    assert set(load_baselines(str(killed))) == {"ridge", "lookup"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("guidance = 0.5", "guidence = 0.5", "unknown key guidence"),
        ("width = 8", "widht = 8", "unknown key widht"),
        ("iterations = 3", "steps = 3", "unknown key steps"),
        ('noise_loss = "mse"', 'noise_loss = "l2"', "training.noise_loss"),
        ("guidance = 0.5", 'dataset = "berlin"', "dataset"),
        ("groups = 4", "groups = 3", "multiples of the groups"),
        ('"scdm-paper"', '"nonsense"', "unknown kind of model"),
    ],
)
def test_a_recipe_with_a_mistake_is_one_line(tmp_path, old, new, message):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.replace(old, new, 1))
    with pytest.raises(UsageError, match=message) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


def test_the_shipped_recipe_is_the_published_preset_and_the_error_names_it():
    shipped = files("spectile.model") / "recipes" / "scdm-paper.toml"
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load("scdm-paper")
    assert f"`spectile train {shipped} --out FOLDER`" in str(caught.value)
    recipe = read_recipe(Path(str(shipped)))
    assert isinstance(recipe, PaperRecipe)
    published = scdm_paper("houston")
    assert recipe.config() == published
    assert recipe.simulator is not None
    assert recipe.simulator.size >= recipe.training.crop
    assert not recipe.scenes


def test_pavia_takes_its_own_bands_and_coarse_bands():
    config = PaperRecipe(kind="scdm-paper", name="pavia", dataset="pavia").config()
    assert (len(config.bands), len(config.coarse)) == (102, 17)
    assert [stage.network.channels for stage in config.stages] == [17, 102]
