"""From the recipe of a HyperLDM to a checkpoint to cubes that block, batch and region do not change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spectile.flows.run.execute import run_scene
from spectile.flows.run.settings import SceneSettings
from spectile.flows.training.train import train_from_recipe
from spectile.model import checkpoint
from spectile.pipeline.cube.record import open_cube
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.store.opening import open_storage
from tests.flows.training.test_endmembers import library

RECIPE = """
kind = "hyperldm"
name = "tiny-hyperldm"
endmembers = 5
latent_scale = "measured"
clamp = 0.0
sampler = "dpm_solver_pp_2m"
steps = 2
samples = 2
crops = 1
[library]
path = "library.csv"
name = "made up"
licence = "CC0-1.0"
[autoencoder]
fold = 2
widths = [8, 12]
blocks = 1
norm = "channel"
attention = false
latent = 4
codes = 16
condition = "features"
spectra = "root"
discriminators = [8]
[denoiser]
widths = [8]
blocks = 1
middle = false
attention_levels = []
time_width = 16
condition = 6
condition_widths = [8, 8]
condition_time = "none"
norm = "channel"
prediction = "v"
[training]
autoencoder_steps = 3
diffusion_steps = 2
batch = 2
crop = 16
[simulator]
scenes = 1
validation = 1
held_out = 1
size = 64
"""


@pytest.mark.slow
def test_a_recipe_becomes_cubes_that_nothing_but_the_scene_decides(make_scene, tmp_path, monkeypatch):
    monkeypatch.setattr("spectile.flows.training.train.BASELINE_CROPS", 20)
    library(tmp_path)
    path, out = tmp_path / "recipe.toml", tmp_path / "trained"
    path.write_text(RECIPE)
    table = train_from_recipe(path, tmp_path, out)
    assert {"ridge", "lookup", "sample", "mean_of_samples"} <= table["simulated"].keys()
    facts = checkpoint.load(out).metadata
    assert (facts["kind"], facts["name"], facts["trained_steps"]) == ("hyperldm", "tiny-hyperldm", 5)
    assert [one["name"] for one in facts["preset"]["library"]][:2] == ["1", "6"]
    assert facts["calibration"]["samples"] == 16

    scene = make_scene((150, 560), nodata=0, hole=(slice(30, 60), slice(0, 170)))
    settings = SceneSettings(
        scene=str(scene), out=str(tmp_path / "cube.zarr"), model=str(out), tile=64, halo=8, block=512,
        samples=4, layers=("sd", "q05"),
    )  # fmt: skip
    prepared, result = run_scene(settings)
    assert (result.blocks_done, result.blocks_failed) == (2, 0)
    assert verify_cube(open_storage(settings.out)) == []
    cube = open_cube(settings.out)
    _, valid = prepared.source.read(prepared.source.grid.window)
    assert np.array_equal(np.isfinite(cube.reflectance.values).all(axis=0), valid)

    whole = replace(settings, out=str(tmp_path / "whole.zarr"), block=1024, batch=1)
    run_scene(whole)
    other = open_cube(whole.out)
    for name in ("reflectance", "reflectance_sd", "reflectance_q05"):
        np.testing.assert_array_equal(other[name].values, cube[name].values)
