"""All damage to a cube is found and named, at what the cube is worth."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from spectile.pipeline.cube.record import Cube, shard_keys
from spectile.pipeline.cube.verify import Findings, verify_cube
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.store.local import LocalStorage


class Asked(Block):
    """A block that counts how often it is looked up."""

    times: ClassVar[list[int]] = [0]

    def __hash__(self) -> int:
        self.times[0] += 1
        return super().__hash__()


@dataclass
class Listed:
    """A plan of many blocks."""

    blocks: list[Block] = field(default_factory=list)


def test_the_blocks_to_make_again_are_found_in_one_pass(tmp_path):
    blocks = [Asked(0, col, Window(0, 512 * col, 512, 512)) for col in range(100)]
    found = Findings(
        Cube(LocalStorage(tmp_path), Listed(blocks)), tuple(blocks[::2]), {blocks[1]: ["is missing"]}, {}, {},
        (), "incomplete",
    )  # fmt: skip
    Asked.times[0] = 0
    assert found.blocks == [block for block in blocks if block.col == 1 or block.col % 2 == 0]
    assert Asked.times[0] <= 4 * len(blocks)


def test_a_whole_cube_has_no_problem(whole):
    assert verify_cube(whole.storage) == []


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "empty"])
@pytest.mark.parametrize("name", ["reflectance", "valid"])
def test_every_damage_to_a_shard_is_found_and_its_block_named(cube, harm, name):
    block = cube.plan.blocks[1]
    key = next(key for key in shard_keys(cube, block) if key.startswith(name + "/"))
    path = cube.storage.root / key
    value = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    else:
        value[len(value) // 2] ^= 1
        path.write_bytes({"truncate": value[:-7], "flip": value, "empty": b""}[harm])
    (problem,) = verify_cube(cube.storage)
    assert block.name in problem
    assert key in problem


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("zarr.json", "zarr.json is damaged"), ("valid/zarr.json", "valid/zarr.json is damaged"),
        ("wavelength/c/0", "wavelength/c/0 is damaged"), ("ledger/plan.json", "ledger/plan.json is damaged"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("harm", ["flip", "empty"])
def test_damaged_metadata_are_found(cube, key, told, harm):
    value = bytearray(cube.storage.get(key))
    at = value.find(b"reflectance") if b"reflectance" in value else len(value) // 2
    value[at] ^= 1
    cube.storage.put(key, b"" if harm == "empty" else bytes(value))
    assert told in verify_cube(cube.storage)
