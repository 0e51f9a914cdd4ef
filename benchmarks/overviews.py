"""How fast overviews are made, and in how much memory.

    python benchmarks/overviews.py                  2000² px, 48 bands
    python benchmarks/overviews.py --size 16000     a cube of 25 GB before compression

The cube costs little: a few shards are made once, of smooth spectra with noise, and put everywhere. They are
put without being read; what is timed is ``write_overviews`` alone. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from spectile.catalog.bands import VNIR48
from spectile.catalog.counts import NODATA
from spectile.flows.benchmark.model import machine
from spectile.flows.run.state import peak_memory_bytes
from spectile.pipeline.cube import ledger
from spectile.pipeline.cube.overviews import write_overviews
from spectile.pipeline.cube.record import Cube
from spectile.pipeline.cube.shards import encode_shard, read_metadata, shard_key
from spectile.pipeline.cube.write import create_cube
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.plan import SHARD, Plan
from spectile.pipeline.store.opening import open_storage

KINDS = 4


def make(folder: Path, size: int) -> Cube:
    """A cube whose blocks are all done; one pixel of a hundred is masked."""
    grid = Grid((size, size), Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000), CRS.from_epsg(32619).to_wkt())
    plan = Plan(grid, grid.window, Tiling(grid.shape), 2048, len(VNIR48))
    cube = create_cube(open_storage(folder / "cube.zarr"), plan, VNIR48)
    made: dict[tuple[int, int, int, int], dict[str, bytes]] = {}
    for block in plan.blocks:
        sums = {}
        for row, col in plan.shards(block):
            shape = min(SHARD, size - row * SHARD), min(SHARD, size - col * SHARD)
            kind = (row * 7 + col) % KINDS
            if (kind, *shape) not in made:
                made[kind, *shape] = _shards(cube, row, col, shape, kind)
            for name, value in made[kind, *shape].items():
                key = shard_key(cube.arrays[name], row, col)
                cube.storage.put(key, value)
                sums[key] = ledger.shard_checksum(value)
        window = block.window
        at = (window.row, window.col, window.height, window.width)
        ledger.write_marker(cube.storage, block, ledger.Marker(plan.digest, at, sums, 0, 0, window.size, 0.0))
    return cube


def _shards(cube: Cube, row: int, col: int, shape: tuple[int, int], kind: int) -> dict[str, bytes]:
    chance = np.random.default_rng(kind)
    field = np.kron(chance.random((32, 32)), np.ones((16, 16)))[: shape[0], : shape[1]]
    slope = np.linspace(0.2, 1.0, cube.plan.bands)[:, None, None]
    counts = 3000 * field * slope + 20 * chance.standard_normal((cube.plan.bands, *shape))
    valid = (chance.random(shape) < 0.99).astype(np.uint8)
    held = np.clip(counts, 0, NODATA - 1).astype(np.uint16)
    held[:, valid == 0] = NODATA
    return {
        name: encode_shard(read_metadata(cube.storage, f"{name}/zarr.json"), row, col, values)
        for name, values in (("reflectance", held), ("valid", valid))
    }


def main() -> None:
    """Make a cube, make its overviews, print what that took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=2000, help="rows and columns of the cube, px")
    parser.add_argument(
        "--folder", type=Path, help="where the cube is made and removed; default a temporary one"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        cube = make(Path(folder), given.size)
        stored = cube.storage.size()
        began, busy = time.perf_counter(), time.process_time()
        regions = write_overviews(cube)
        seconds, cpu = time.perf_counter() - began, time.process_time() - busy
        again = time.perf_counter()
        assert write_overviews(cube) == 0
        again = time.perf_counter() - again
        decoded = given.size**2 * (2 * cube.plan.bands + 1)
        print(json.dumps({
            "size": given.size, "bands": cube.plan.bands, "levels": len(cube.plan.levels), "regions": regions,
            "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2),
            "megabytes_per_second": round(decoded / 1e6 / seconds, 1),
            "megabytes_per_cpu_second": round(decoded / 1e6 / cpu, 1),
            "seconds_to_find_all_made": round(again, 2), "decoded_bytes": decoded, "stored_bytes": stored,
            "overview_bytes": cube.storage.size() - stored, "peak_memory_bytes": peak_memory_bytes(),
            "machine": machine(),
        }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
