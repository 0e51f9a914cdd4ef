"""A recipe with a user's own files."""

from __future__ import annotations

import pytest

OWN_DATA = """\
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


@pytest.fixture
def recipe(tiny_recipe: str) -> str:
    """The tiny recipe with a scene and a library of one's own."""
    return tiny_recipe + OWN_DATA
