"""A scene of one block, for the tests of runs."""

import pytest

from spectile.flows.run.settings import SceneSettings


@pytest.fixture
def settings(make_scene, tmp_path) -> SceneSettings:
    """Of a scene of one block."""
    scene = make_scene((40, 60), nodata=0, hole=(slice(10, 18), slice(0, 60)))
    return SceneSettings(scene=str(scene), out=str(tmp_path / "cube.zarr"), model="bands-repeat", block=512)
