"""Cubes whose every pixel names its place, for tests of what is done with cubes."""

import numpy as np
from affine import Affine

from spectile.pipeline.block.mosaic import Mosaic
from spectile.pipeline.cube.finish import finalise
from spectile.pipeline.cube.record import Cube
from spectile.pipeline.cube.write import create_cube, write_block
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.store.opening import open_storage
from tests.pipeline.fakes import NORTH_UP, UTM, Positional

BANDS = Positional().bands


ROTATED = Affine.translation(320_000, 4_881_000) @ Affine.rotation(25) @ Affine.scale(0.5, -0.5)


def content(window: Window, samples: int = 1) -> Mosaic:
    """Spectra that name their place, with a masked corner of the scene."""
    rows = np.arange(window.row, window.row_stop)[:, None]
    cols = np.arange(window.col, window.col_stop)
    base = 0.1 + 1e-4 * (rows % 700) + 2e-4 * (cols % 300)
    spectra = np.stack([base + 0.01 * b for b in range(len(BANDS))])
    layers = np.stack([spectra + 0.02 * k for k in range(samples)]).astype(np.float32)
    return Mosaic(layers, (rows + cols) > 40, 9, 1)


def make(
    tmp_path, *, shape=(600, 1100), samples=1, layers=(), transform=NORTH_UP, window=None, finished=True,
    quality=(),
) -> Cube:  # fmt: skip
    grid = Grid(shape, transform, UTM)
    plan = Plan(
        grid, window or grid.window, Tiling(shape), 512, len(BANDS), samples, layers, {"seed": 0}, (), quality
    )  # fmt: skip
    cube = create_cube(open_storage(tmp_path / "cube.zarr"), plan, BANDS)
    if finished:
        for block in plan.blocks:
            write_block(cube, block, content(block.window, samples))
        finalise(cube, attributes={"tiles": 9})
    return cube
