"""Recipes are strict, and a mistake is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from spectile.catalog.errors import UsageError
from spectile.flows.training.train import read_recipe
from spectile.model import checkpoint

ROOT = Path(__file__).parents[3]


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
def test_a_recipe_with_a_mistake_is_one_line(
    recipe: str, tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.replace(old, new, 1))
    with pytest.raises(UsageError, match=message) as caught:
        read_recipe(path).config()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_the_shipped_recipe_reads_and_is_the_one_in_the_checkpoint() -> None:
    recipe = read_recipe(ROOT / "model" / "recipes" / "vnir48.toml")
    facts = checkpoint.load("vnir48").metadata
    assert recipe.name == facts["name"] == "vnir48"
    assert recipe.training.steps == facts["training"]["steps"]
