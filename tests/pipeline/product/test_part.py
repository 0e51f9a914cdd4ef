from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.plan.plan import CHUNK, SHARD
from spectile.pipeline.product import part as parts
from spectile.pipeline.product.export import _select
from tests.pipeline.product.exports import make_cube


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cube(tmp_path_factory.mktemp("part") / "cube.zarr")


def select(cube: Path, dtype: str = "stored") -> parts.Part:
    region = (320_010.0, 4_880_760.0, 320_280.0, 4_880_990.0)
    return _select(str(cube), "850,450", region, None, "reflectance", dtype, False)


@pytest.mark.parametrize(("bytes_held", "side"), [(16_000_000, SHARD), (1_000_000, CHUNK)])
def test_squares_are_smaller_where_there_are_many_bands(cube, monkeypatch, bytes_held, side):
    monkeypatch.setattr(parts, "_SQUARE_BYTES", bytes_held)
    part = select(cube)
    seen = np.zeros(part.window.shape, dtype=int)
    for square in part.windows():
        assert max(square.shape) <= side
        seen[square.slices] += 1
    assert (seen == 1).all(), "every pixel once"


def test_a_square_holds_the_chosen_bands_in_their_order(cube):
    counts, decoded = (select(cube, dtype) for dtype in ("stored", "float32"))
    square = Window(3, 5, 20, 30)
    place = Window(counts.window.row + 3, counts.window.col + 5, 20, 30)
    expected = counts.array[:][[3, 0]][:, *place.slices]
    np.testing.assert_array_equal(counts.read(square), expected)
    values = decoded.read(square)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected * 1e-4, rtol=1e-6)
