"""Blocks are written whole, and again to the same bytes, whatever was there."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import zarr

from spectile.catalog.bands import Bands
from spectile.catalog.errors import StoreError
from spectile.pipeline.block.mosaic import Mosaic
from spectile.pipeline.cube.finish import finalise
from spectile.pipeline.cube.record import finished_blocks, is_laid_out, open_cube, read_status, shard_keys
from spectile.pipeline.cube.verify import inspect_cube, verify_cube
from spectile.pipeline.cube.write import create_cube, write_block, writing_threads
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.store.local import LocalStorage
from spectile.pipeline.store.opening import open_storage
from tests.pipeline.cubes import BANDS, content, make
from tests.pipeline.fakes import NORTH_UP, UTM


def test_a_block_is_rebuilt_over_a_truncated_shard(cube):
    block = cube.plan.blocks[-1]
    for key in shard_keys(cube, block):
        path = cube.storage.root / key
        path.write_bytes(path.read_bytes()[:-20])
    write_block(cube, block, content(block.window))
    assert verify_cube(cube.storage) == []


def test_the_same_block_written_twice_gives_the_same_bytes(cube):
    block = cube.plan.blocks[0]
    keys = shard_keys(cube, block)
    before = [cube.storage.get(key) for key in keys]
    write_block(cube, block, content(block.window))
    assert [cube.storage.get(key) for key in keys] == before


def test_a_block_with_its_overviews_has_the_same_bytes_with_any_number_of_threads(tmp_path):
    plan = Plan(Grid((1100, 1300), NORTH_UP, UTM), Window(0, 0, 1100, 1300), Tiling((1100, 1300)), 2048,
                len(BANDS), 1, (), {"seed": 0})  # fmt: skip
    (block,) = plan.blocks
    found = []
    for threads in (1, 8):
        cube = create_cube(open_storage(tmp_path / f"{threads}.zarr"), plan, BANDS)
        with ThreadPoolExecutor(threads) as pool:
            write_block(cube, block, content(block.window), encoders=pool)
        keys = [key for key in cube.storage.walk() if "/c/" in key or "overview-" in key]
        found.append({key: cube.storage.get(key) for key in keys})
    assert {"overviews/4/valid/c/0/0", "overviews/4/reflectance/c/0/0/0"} <= found[0].keys()
    assert found[0] == found[1]


def test_threads_that_write_are_as_many_as_cores_unless_each_needs_much(cube, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(12))
    counted = replace(cube.plan, tiling=replace(cube.plan.tiling, blend=0))
    assert (writing_threads(cube.plan), writing_threads(counted)) == (4, 12)


@pytest.mark.parametrize("puts", [0, 1, 2, 3, 6])
def test_a_cube_that_is_half_replaced_claims_no_block_of_the_old_one(cube, monkeypatch, puts):
    left = iter(range(puts))
    put = LocalStorage.put

    def killed(self, key, value) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        put(self, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            create_cube(cube.storage, cube.plan, BANDS, replace=True)
    # The same plan: its markers would count, if they were still there once it can be resumed.
    assert is_laid_out(cube.storage) is (puts == 0)
    assert read_status(cube.storage)["status"] == ("incomplete" if puts > 1 else "complete")
    create_cube(cube.storage, cube.plan, BANDS, replace=True)
    assert is_laid_out(cube.storage)
    assert finished_blocks(cube) == {}


def test_a_cube_is_replaced_by_a_smaller_one_with_fewer_layers_without_leftovers(tmp_path):
    make(tmp_path, samples=3, layers=("sd",))
    storage = open_storage(tmp_path / "cube.zarr")
    smaller = Plan(Grid((600, 600), NORTH_UP, UTM), Window(0, 0, 600, 600), Tiling((600, 600)), 1024,
                   len(BANDS), 1, (), {"seed": 0})  # fmt: skip
    cube = create_cube(storage, smaller, BANDS, replace=True)
    for block in smaller.blocks:
        write_block(cube, block, content(block.window))
    left = inspect_cube(storage).extra
    assert {"reflectance_sd/zarr.json", "valid/c/0/2", "ledger/r0001c0001.json"} <= set(left)
    finalise(cube, attributes={})
    assert verify_cube(storage) == []
    assert not list(tmp_path.glob("cube.zarr/reflectance_sd/**/*.*"))
    fresh = create_cube(open_storage(tmp_path / "fresh.zarr"), smaller, BANDS)
    for block in smaller.blocks:
        write_block(fresh, block, content(block.window))
    finalise(fresh, attributes={})
    assert set(storage.walk()) == set(fresh.storage.walk())
    for key in storage.walk():
        if not key.startswith("ledger/r"):  # markers tell seconds
            assert storage.get(key) == fresh.storage.get(key), key


def test_a_block_that_is_masked_all_over_is_written_and_verified(tmp_path):
    cube = make(tmp_path, finished=False)
    block = cube.plan.blocks[0]
    mosaic = content(block.window)
    write_block(cube, block, Mosaic(mosaic.samples, np.zeros_like(mosaic.valid), 0, 10))
    assert block in finished_blocks(cube)
    assert inspect_cube(cube.storage).blocks == list(cube.plan.blocks[1:])


def test_a_cube_of_a_prime_number_of_bands_is_whole_in_every_respect(tmp_path):
    grid, rng = Grid((600, 530), NORTH_UP, UTM), np.random.default_rng(0)
    plan = Plan(grid, grid.window, Tiling(grid.shape), 512, 19)
    bands = Bands.evenly_spaced(400, 2400, 19)
    cube = create_cube(open_storage(tmp_path / "cube.zarr"), plan, bands)
    counts = rng.integers(0, 9000, (19, *grid.shape)).astype(np.float32)
    for block in plan.blocks:
        part = counts[(slice(None), *block.window.slices)] * np.float32(1e-4)
        write_block(cube, block, Mosaic(part[None], np.ones(block.window.shape, bool), 1, 0))
    finalise(cube, attributes={})
    assert verify_cube(cube.storage) == []
    stored = zarr.open_array(cube.storage.root / "reflectance", mode="r")
    np.testing.assert_array_equal(stored[:], counts)
    np.testing.assert_array_equal(stored[18, 590:, 520:], counts[18, 590:, 520:])
    coarse = open_cube(cube.storage.root, overview=2).reflectance.values
    np.testing.assert_allclose(coarse[:, 7, 9], counts[:, 14:16, 18:20].mean((1, 2)) * 1e-4, atol=0.51e-4)


def test_a_store_that_vanishes_is_an_error_of_one_line(tmp_path):
    cube = make(tmp_path, finished=False)
    shutil.rmtree(cube.storage.root)
    cube.storage.root.write_text("now a file")
    with pytest.raises(StoreError, match="cannot be written"):
        write_block(cube, cube.plan.blocks[0], content(cube.plan.blocks[0].window))
