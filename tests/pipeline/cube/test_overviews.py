import json
import shutil

import numpy as np
import pytest
import xarray as xr
import zarr

from spectile.catalog.counts import NODATA
from spectile.catalog.errors import CubeError, UsageError
from spectile.pipeline.block.mosaic import Mosaic
from spectile.pipeline.cube import overviews
from spectile.pipeline.cube.finish import finalise
from spectile.pipeline.cube.layout import ROOT
from spectile.pipeline.cube.overviews import write_overviews
from spectile.pipeline.cube.record import Cube, open_cube, read_status
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.cube.write import create_cube, write_block
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.tiling import Block, Tiling
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.plan.shares import Share
from spectile.pipeline.store.local import LocalStorage
from spectile.pipeline.store.opening import open_storage
from tests.pipeline.cubes import BANDS, ROTATED
from tests.pipeline.fakes import NORTH_UP, UTM

SHAPE = (531, 1041)


def content(window: Window, samples: int = 2) -> Mosaic:
    """Noise that is keyed on place, with a masked disk and single masked pixels."""
    rows = np.arange(window.row, window.row_stop)[:, None]
    cols = np.arange(window.col, window.col_stop)
    keyed = np.sin(rows * 12.9898 + cols * 78.233) * 43758.5453 % 1
    values = np.stack([keyed * 0.1 * (band + 1) for band in range(len(BANDS))])
    spectra = np.stack([values + 0.01 * sample for sample in range(samples)]).astype(np.float32)
    disk = (rows - 300) ** 2 + (cols - 500) ** 2 > 150**2
    return Mosaic(spectra, disk & ((rows * 7 + cols * 3) % 11 > 0), 9, 1)


def begin(place, *, shape=SHAPE, block=512, transform=NORTH_UP, scenes=()) -> Cube:
    grid = Grid(shape, transform, UTM)
    plan = Plan(grid, grid.window, Tiling(shape), block, len(BANDS), 2, ("sd",), {"seed": 0}, scenes)
    return create_cube(open_storage(place), plan, BANDS)


def fill(cube: Cube, blocks: list[Block] | None = None) -> None:
    for block in cube.plan.blocks if blocks is None else blocks:
        mosaic = content(block.window)
        rows = np.arange(block.window.row, block.window.row_stop)[:, None]
        source = np.where(mosaic.valid, 1 + rows % 3, 0).astype(np.uint16) if cube.plan.scenes else None
        write_block(cube, block, mosaic, source=source)


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Cube:
    """All blocks of a cube and no overview, to be left as they are."""
    cube = begin(tmp_path_factory.mktemp("filled") / "a.zarr")
    fill(cube)
    return cube


def again(cube: Cube, place) -> Cube:
    """The cube once more, to be changed."""
    return Cube(open_storage(shutil.copytree(cube.storage.root, place)), cube.plan)


@pytest.fixture(scope="module")
def whole(filled, tmp_path_factory) -> Cube:
    """The finished cube, to be left as it is."""
    cube = again(filled, tmp_path_factory.mktemp("whole") / "a.zarr")
    finalise(cube, attributes={})
    return cube


def objects(cube: Cube) -> dict[str, bytes | None]:
    """All but what tells times: markers of blocks."""
    keys = [key for key in cube.storage.walk() if not key.startswith("ledger/r")]
    return {key: cube.storage.get(key) for key in keys}


def averaged(counts: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coarse counts and validity, in float64, where these means are exact or far from a half."""
    odd = [(0, size % 2) for size in valid.shape]
    inside = np.pad(valid, odd).astype(float)
    values = np.pad(counts, ((0, 0), *odd)) * inside
    held, summed = (sum(each[..., r::2, c::2] for r in (0, 1) for c in (0, 1)) for each in (inside, values))
    mean = np.rint(summed / np.maximum(held, 1))
    return np.where(held > 0, mean, NODATA).astype(np.uint16), (held > 0).astype(np.uint8)


@pytest.mark.parametrize("scenes", [False, True])
def test_every_overview_is_the_mean_of_the_level_before(tmp_path, scenes):
    held = ((0, 0, 3), (1, 1, 3))  # nothing in the lower left shard
    share = (Share({"name": "a"}, held, ((0, 0, 6),)),) if scenes else ()
    cube = begin(tmp_path / "a.zarr", scenes=share)
    fill(cube)
    finalise(cube, attributes={})
    assert verify_cube(cube.storage) == []
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    finer = group
    for factor, shape in ((2, (266, 521)), (4, (133, 261))):
        level = group[f"overviews/{factor}"]
        assert level["valid"].shape == shape
        for name in ("reflectance", "reflectance_sd"):
            expected, valid = averaged(finer[name][:], finer["valid"][:])
            np.testing.assert_array_equal(level[name][:], expected)
            np.testing.assert_array_equal(level["valid"][:], valid)
            assert level[name].chunks == group[name].chunks
        if scenes:
            assert set(np.unique(level["source"][:])) == {0, 1, 2, 3}
            np.testing.assert_array_equal(level["source"][:] > 0, level["valid"][:] > 0)
        finer = level
    assert set(group["overviews"].group_keys()) == {"2", "4"}


@pytest.mark.parametrize("block", [1024, 2048])
@pytest.mark.parametrize("scenes", [False, True])
def test_overviews_made_from_a_block_in_memory_are_those_made_from_the_store(tmp_path, block, scenes):
    held = ((0, 0, 3), (1, 1, 3))
    share = (Share({"name": "a"}, held, ((0, 0, 6),)),) if scenes else ()
    made = {}
    for size in (512, block):
        cube = begin(tmp_path / f"{size}.zarr", block=size, scenes=share)
        fill(cube)
        missing = write_overviews(cube)
        made[size] = {
            key: value for key, value in objects(cube).items() if key.startswith(("overv", "ledger/overv"))
        }
        assert missing == {512: 3, 1024: 1, 2048: 0}[size]  # two shards of the first, one of the second
    assert {k: v for k, v in made[block].items() if not k.endswith(ROOT)} == {
        k: v for k, v in made[512].items() if not k.endswith(ROOT)
    }


def test_a_block_that_is_made_again_makes_its_overviews_again(tmp_path):
    cube = begin(tmp_path / "a.zarr", block=2048)
    fill(cube)
    (block,) = cube.plan.blocks
    before = objects(cube)
    mosaic = content(block.window)
    write_block(cube, block, Mosaic(mosaic.samples * 0.5, mosaic.valid, 9, 0))
    assert write_overviews(cube) == 0
    after = objects(cube)
    assert before["overviews/4/reflectance/c/0/0/0"] != after["overviews/4/reflectance/c/0/0/0"]
    finalise(cube, attributes={})
    assert verify_cube(cube.storage) == []


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
def test_an_overview_opens_in_its_place(tmp_path, transform):
    cube = begin(tmp_path / "a.zarr", transform=transform)
    fill(cube)
    finalise(cube, attributes={})
    plain = xr.open_zarr(tmp_path / "a.zarr", group="overviews/4")
    with open_cube(tmp_path / "a.zarr", overview=4) as found:
        for dataset in (found, plain):
            assert dataset.reflectance.rio.crs.to_epsg() == 32619
            assert dataset.reflectance.rio.transform() == transform @ transform.scale(4)
            assert dataset.attrs["spatial:transform"] == list(transform @ transform.scale(4))[:6]
            assert dataset.attrs["spatial:shape"] == [133, 261]
        assert found.reflectance.dtype == np.float32
        assert found.wavelength.values.tolist() == list(BANDS.centre_nm)
        if cube.plan.grid.is_axis_aligned:
            assert found.x.values[0] == pytest.approx(transform.c + 2 * transform.a)
    with pytest.raises(UsageError, match="one of 1, 2, 4"):
        open_cube(tmp_path / "a.zarr", overview=8)


def test_the_root_names_its_levels_as_the_convention_has_it(tmp_path):
    cube = begin(tmp_path / "a.zarr")
    attributes = json.loads(cube.storage.get(ROOT))["attributes"]
    layout = attributes["multiscales"]["layout"]
    assert [(each["asset"], each.get("derived_from")) for each in layout] == [
        (".", None), ("overviews/2", "."), ("overviews/4", "overviews/2")
    ]  # fmt: skip
    assert [each["transform"]["scale"] for each in layout] == [[1, 1], [2, 2], [2, 2]]
    names = [each["name"] for each in attributes["zarr_conventions"]]
    assert names == ["proj", "spatial", "multiscales"]
    small = begin(tmp_path / "b.zarr", shape=(300, 512))
    attributes = json.loads(small.storage.get(ROOT))["attributes"]
    assert "multiscales" not in attributes
    assert [each["name"] for each in attributes["zarr_conventions"]] == ["proj", "spatial"]
    fill(small)
    finalise(small, attributes={})
    assert not (tmp_path / "b.zarr" / "overviews").exists()


def test_neither_block_size_nor_threads_change_a_byte(filled, tmp_path, monkeypatch):
    small, large = again(filled, tmp_path / "a.zarr"), begin(tmp_path / "b.zarr", block=1536)
    fill(large)
    for cube, threads in ((small, 1), (large, 4)):
        monkeypatch.setattr(overviews, "_threads", lambda cube, threads=threads: threads)
        finalise(cube, attributes={})
    there, expected = objects(small), objects(large)
    assert there.keys() == expected.keys()
    assert {key for key in there if there[key] != expected[key]} == {"zarr.json", "ledger/plan.json"}


@pytest.mark.parametrize("puts", [0, 3, 5, 13])
def test_overviews_that_were_killed_are_gone_on_with(filled, whole, tmp_path, monkeypatch, puts):
    cube = again(filled, tmp_path / "a.zarr")
    monkeypatch.setattr(overviews, "_threads", lambda cube: 1)
    left, put = iter(range(puts)), LocalStorage.put

    def killed(self, key, value) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        put(self, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            finalise(cube, attributes={})
    assert read_status(cube.storage)["status"] == "incomplete"
    told = []
    made = write_overviews(cube, on_region=lambda: told.append(1))
    assert made == len(told) == 3 - min(3, puts // 4)  # three arrays and a marker for each of three regions
    finalise(cube, attributes={})
    assert objects(cube) == objects(whole)
    assert write_overviews(cube) == 0


def test_only_what_lies_over_a_changed_block_is_made_again(tmp_path, monkeypatch):
    cube = begin(tmp_path / "a.zarr", shape=(100, 2300))
    fill(cube)
    finalise(cube, attributes={})
    before = objects(cube)
    block = cube.plan.blocks[0]
    mosaic = content(block.window)
    write_block(cube, block, Mosaic(mosaic.samples * 0.5, mosaic.valid, 9, 0))
    told = verify_cube(cube.storage)
    assert told == ["overviews/2 r0000c0000: is not made from what is there"]
    finalise(cube, attributes={})
    assert verify_cube(cube.storage) == []
    changed = {key for key, value in objects(cube).items() if before[key] != value and "overviews/" in key}
    assert {key.rpartition("/c/")[0] for key in changed} == {
        f"overviews/{factor}/{name}" for factor in (2, 4, 8) for name in ("reflectance", "reflectance_sd")
    }
    assert {key.rpartition("/")[2] for key in changed} == {"0"}
    # An unchanged block that is written again changes nothing.
    write_block(cube, cube.plan.blocks[1], content(cube.plan.blocks[1].window))
    assert write_overviews(cube) == 0


def test_overviews_are_not_made_from_damaged_shards(filled, tmp_path):
    cube = again(filled, tmp_path / "a.zarr")
    cube.storage.put("reflectance/c/0/0/1", b"damaged")
    with pytest.raises(CubeError, match="reflectance/c/0/0/1: the cube is damaged"):
        finalise(cube, attributes={})
    assert read_status(cube.storage)["status"] == "incomplete"


@pytest.mark.parametrize("harm", ["flip", "remove", "marker", "metadata"])
def test_damage_to_an_overview_is_found(whole, tmp_path, harm):
    cube = again(whole, tmp_path / "a.zarr")
    key = "overviews/2/reflectance/c/0/0/1"
    if harm == "remove":
        cube.storage.delete(key)
        told = [f"overviews/2 r0000c0001: {key} is missing"]
    elif harm == "flip":
        cube.storage.put(key, cube.storage.get(key)[:-1] + b"x")
        told = [f"overviews/2 r0000c0001: {key} is not as it was written"]
    elif harm == "marker":
        cube.storage.put("ledger/overview-2-r0000c0001.json", b"{")
        told = ["overviews/2 r0000c0001: is not made from what is there"]
    else:
        cube.storage.put("overviews/2/valid/zarr.json", b"{")
        told = ["overviews/2/valid/zarr.json is damaged"]
    found = verify_cube(cube.storage)
    assert len(found) == 1
    assert found[0].startswith(told[0])


def test_overviews_of_a_larger_cube_go_when_it_is_replaced(whole, tmp_path):
    cube = again(whole, tmp_path / "a.zarr")
    grid = Grid((520, 300), NORTH_UP, UTM)
    plan = Plan(grid, grid.window, Tiling(grid.shape), 512, len(BANDS), 2, ("sd",), {"seed": 0})
    smaller = create_cube(cube.storage, plan, BANDS, replace=True)
    fill(smaller)
    finalise(smaller, attributes={})
    assert verify_cube(smaller.storage) == []
    fresh = create_cube(open_storage(tmp_path / "fresh.zarr"), plan, BANDS)
    fill(fresh)
    finalise(fresh, attributes={})
    assert objects(smaller) == objects(fresh)
