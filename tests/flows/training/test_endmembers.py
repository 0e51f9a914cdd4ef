"""Endmembers cover their library, are named, and are in the model's bands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spectile.catalog.bands import VNIR48
from spectile.catalog.errors import UsageError
from spectile.flows.training.endmembers import with_library
from spectile.flows.training.recipe import read_recipe
from spectile.flows.training.sources import EndmemberSource
from spectile.model.hyperldm.preset import HyperConfig, HyperTraining, hyperldm_paper
from tests.model.hyperldm.tiny import compact

RECIPES = Path(__file__).parents[3] / "model" / "recipes"


def library(folder: Path, first_nm: int = 350) -> EndmemberSource:
    """A table of six spectra of reflectance 0.1, 0.2, … with a step in the red; rows are named by number."""
    nm = range(first_nm, 1101, 10)
    rows = [",".join(map(str, nm))]
    for number in range(1, 7):
        rows.append(",".join(f"{0.1 * number + (0.05 if at > 700 else 0.0):.3f}" for at in nm))
    (folder / "library.csv").write_text("\n".join(rows) + "\n")
    return EndmemberSource("library.csv", "made up", "CC0-1.0", leave_out=("2*",))


def test_a_configuration_gets_its_library_by_name(tmp_path: Path) -> None:
    config = with_library(compact(), library(tmp_path), tmp_path)
    names = [one.name for one in config.library]
    assert names[:2] == ["1", "6"]
    assert sorted(names) == ["1", "3", "4", "5", "6"]
    dark = np.array(config.library[0].reflectance)
    assert dark.shape == (48,)
    assert dark[0] == pytest.approx(0.1, abs=1e-3)
    assert dark[-1] == pytest.approx(0.15, abs=1e-3)


def test_a_library_without_all_bands_is_refused(tmp_path: Path) -> None:
    source = library(tmp_path, first_nm=500)
    with pytest.raises(UsageError, match="lacks bands of the model"):
        with_library(compact(), source, tmp_path)


@pytest.mark.parametrize("name", ["hyperldm48", "hyperldm-paper"])
def test_the_recipes_are_read_and_ask_for_clear_terms(name: str) -> None:
    recipe = read_recipe(RECIPES / f"{name}.toml")
    config = recipe.config()
    assert isinstance(config, HyperConfig)
    assert config.bands == VNIR48
    assert config.autoencoder.factor == 4
    used = [one for one in recipe.scenes if not one.held_out]
    assert {one.licence for one in (*used, *recipe.libraries)} <= {
        "CC0-1.0", "MIT", "BSD-3-Clause", "Apache-2.0", "public domain"
    }  # fmt: skip


def test_the_published_recipe_is_the_published_preset() -> None:
    recipe = read_recipe(RECIPES / "hyperldm-paper.toml")
    assert recipe.config() == hyperldm_paper()
    assert recipe.training == HyperTraining()
