"""A cube is complete when all of it is there."""

import pytest

from spectile.catalog.errors import CubeError
from spectile.pipeline.cube.finish import finalise
from spectile.pipeline.cube.record import finished_blocks, open_cube, read_status
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
