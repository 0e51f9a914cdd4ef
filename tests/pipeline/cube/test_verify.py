"""What is told of a cube costs what the cube is worth."""

from dataclasses import dataclass, field
from typing import ClassVar

from spectile.pipeline.cube.record import Cube
from spectile.pipeline.cube.verify import Findings
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
