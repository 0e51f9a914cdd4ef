"""The lattice of tiles that suits a model."""

from types import SimpleNamespace

import pytest

from spectile.flows.run.lattice import lattice
from spectile.flows.run.settings import SceneSettings
from spectile.pipeline.geometry.tiling import Tiling

SHAPE = (1000, 700)


def of(reach, stride=8, **settings):
    wanted = SceneSettings(scene="a.tif", out="a.zarr", **settings)
    return lattice(wanted, SimpleNamespace(stride=stride, reach=reach), SHAPE)


@pytest.mark.parametrize(
    ("reach", "stride", "settings", "expected"),
    [
        (0, 1, {}, (512, 0, 0, 1)),
        (24, 8, {}, (560, 24, 0, 8)),
        (20, 8, {}, (560, 24, 4, 8)),  # rounded up to the stride, and what is over is blended
        (24, 8, {"halo": 32}, (576, 32, 8, 8)),
        (24, 8, {"halo": 16, "tile": 256}, (256, 16, None, 8)),
        (24, 8, {"layers": ("overlap_disagreement",)}, (576, 32, 8, 8)),
        (None, 64, {}, (256, 32, None, None)),
        (None, 64, {"halo": 64, "tile": 512}, (512, 64, None, None)),
    ],
)
def test_tiles_are_as_large_as_the_model_needs_to_see(reach, stride, settings, expected):
    assert of(reach, stride, **settings) == Tiling(SHAPE, *expected)


def test_few_pixels_are_predicted_for_each_of_a_scene():
    tiling = lattice(
        SceneSettings(scene="a.tif", out="a.zarr"), SimpleNamespace(stride=8, reach=24), (1106, 1213)
    )
    pixels = sum(tile.window.size for tile in tiling.tiles())
    assert pixels / (1106 * 1213) < 1.3
    tiling.check_stride(8)
