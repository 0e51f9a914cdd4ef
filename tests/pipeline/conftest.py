"""Small scenes and a finished cube, shared by the tests of the pipeline."""

import shutil

import numpy as np
import pytest

from spectile.pipeline.cube.record import Cube
from spectile.pipeline.store.opening import open_storage
from tests.pipeline.cubes import make


@pytest.fixture
def picture() -> np.ndarray:
    """A uint8 RGB picture of awkward size, (3, 150, 210)."""
    rng = np.random.default_rng(7)
    return rng.integers(1, 255, (3, 150, 210), dtype=np.uint8)


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Cube:
    """A finished cube, to be read and left as it is."""
    return make(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def cube(whole, tmp_path) -> Cube:
    """The finished cube once more, to be changed."""
    root = shutil.copytree(whole.storage.root, tmp_path / "cube.zarr")
    return Cube(open_storage(root), whole.plan)
