"""A cube is complete when all of it is there."""

import pytest

from spectile.catalog.errors import CubeError
from spectile.pipeline.cube.finish import finalise, strays, told_of
from spectile.pipeline.cube.record import RECORD, finished_blocks, open_cube, read_status
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.cube.write import write_block
from tests.pipeline.cubes import content, make


def test_a_cube_stays_incomplete_until_every_block_is_done(tmp_path):
    cube = make(tmp_path, finished=False)
    first, *rest = cube.plan.blocks
    write_block(cube, first, content(first.window))
    assert list(finished_blocks(cube)) == [first]
    assert read_status(cube.storage)["status"] == "incomplete"
    with pytest.raises(CubeError, match="not finished"):
        open_cube(cube.storage.root)
    with pytest.raises(CubeError, match="blocks are missing"):
        finalise(cube, attributes={})
    assert len(verify_cube(cube.storage)) == len(rest)


def test_what_looks_like_a_cubes_and_is_none_of_this_one_goes(cube):
    ours = set(cube.storage.walk())
    left = ["reflectance_sd/zarr.json", "valid/c/9/9", "ledger/r0009c0009.json", "overviews/64/valid/c/0/0"]
    mine = ["valid/notes.txt", "thesis.pdf", "reflectance/c/0/0/0.bak", "other/c/0/0"]
    for key in (*left, *mine):
        cube.storage.put(key, b"x")
    assert strays(cube) == sorted(left)
    finalise(cube, attributes={})
    assert set(cube.storage.walk()) == ours | set(mine)


def test_a_complete_cube_is_finished_again_to_the_same_bytes(cube):
    before = {key: cube.storage.get(key) for key in cube.storage.walk()}
    finalise(cube, attributes={"tiles": 9})
    assert {key: cube.storage.get(key) for key in cube.storage.walk()} == before


def test_what_the_last_run_told_is_known_from_either_copy(cube):
    told = {"taken": ["2024-06-01"], "warnings": ["dark"]}
    finalise(cube, attributes={"tiles": 9, **told})
    assert told_of(cube.storage) == told
    cube.storage.put(RECORD, b"damaged")
    assert told_of(cube.storage) == told
    cube.storage.put("zarr.json", b"damaged")
    assert told_of(cube.storage) == {}
