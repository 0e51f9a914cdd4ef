"""A cube whose every pixel and band differs, and its exports read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from rasterio.crs import CRS

from spectile.catalog.bands import Bands
from spectile.pipeline.block.mosaic import Mosaic
from spectile.pipeline.cube.write import create_cube, write_block
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.store.opening import open_storage

SHAPE = (530, 560)
NORTH_UP = Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000)
ROTATED = Affine.translation(320_000, 4_881_000) @ Affine.rotation(20) @ Affine.scale(0.5, -0.5)
BANDS = Bands((450.0, 550.0, 650.0, 850.0), (20.0, 20.0, 30.0, 40.0))
ENDMEMBERS = ("Olivine GDS70, Fo89", "Säge <leaf>")
TARGETS = {"cog": "e.tif", "geotiff": "e.tif", "envi": "e.img", "netcdf": "e.nc", "zarr2": "e.zarr"}


def make_cube(path: Path, transform: Affine = NORTH_UP, *, status: str = "complete", crs: str = "") -> Path:
    """A cube of two samples whose every pixel and band differs; its first rows are masked."""
    wkt = crs or CRS.from_epsg(32619).to_wkt()
    grid = Grid(SHAPE, transform, wkt)
    plan = Plan(grid, grid.window, Tiling(SHAPE, 256, 32), 512, len(BANDS), samples=2, layers=("sd",),
                endmembers=ENDMEMBERS)  # fmt: skip
    cube = create_cube(open_storage(path), plan, BANDS)
    rows, cols = np.indices(SHAPE, dtype=np.float32)
    for block in plan.blocks:
        at = block.window.slices
        base = (rows[at] * 560 + cols[at]) % 60_000 * np.float32(1e-4) / 2
        samples = base + np.arange(4, dtype=np.float32)[:, None, None] * np.float32(0.01)
        valid = rows[at] >= 9
        both = np.stack([samples, samples + np.float32(0.002)])
        shares = np.broadcast_to([base / 3, 1 - base / 3], (2, 2, *base.shape)).astype(np.float32)
        write_block(cube, block, Mosaic(np.concatenate([both, shares], axis=1), valid, 1, 0, shares=2))
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"]["spectile"]["status"] = status
    (path / "zarr.json").write_text(json.dumps(root))
    return path


def read(path: Path, to: str, layer: str = "reflectance") -> np.ndarray:
    if to in ("netcdf", "zarr2"):
        engine = "h5netcdf" if to == "netcdf" else "zarr"
        with xr.open_dataset(path, engine=engine, mask_and_scale=False, decode_coords="all") as opened:
            return opened[layer].values
    with rasterio.open(path) as dataset:
        return dataset.read()
